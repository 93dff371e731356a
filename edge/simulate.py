"""A vehicle on a gateway's bus where there is none: pack, junction box and driver, and one fault to watch."""

from __future__ import annotations

import time
from collections.abc import Callable

from edge import plant
from edge.canbus import Port
from edge.plant import Pack
from edge.priority import urgently
from edge.settings import GatewaySettings
from schemas.checked import ConfigError
from schemas.pack import load_pack

PERIOD_S = 0.1  # in which the pack says everything once
_PRIORITY = 40  # below the gateway's
_CELL, _OVER_V = 4, 0.1
_WORDS = ("open", "closed")


def _over_voltage(pack: Pack, high_v: float) -> str:
    pack.cell_v[_CELL] = high_v + _OVER_V
    return f"cell {_CELL + 1} at {pack.cell_v[_CELL]:.2f} V"


def _crash(pack: Pack, _: float) -> str:
    pack.crash = 1.0
    return "the crash sensor fires"


def _silence(pack: Pack, _: float) -> str:
    pack.silent.add("CellVoltages")
    return "no cell voltage comes any more"


FAULTS: dict[str, Callable[[Pack, float], str]] = {
    "over-voltage": _over_voltage,
    "crash": _crash,
    "silence": _silence,
}


def run(
    settings: GatewaySettings, fault: str, after_s: float, say: Callable[[str], None], over: Callable[[], bool]
) -> None:
    """Drive until `over`; raises ConfigError where the pack is too small for the fault or the bus does not open."""
    model = load_pack(settings.pack)
    if model.series <= _CELL:
        msg = f"pack must have more than {_CELL} cell groups; got {model.series} ({settings.file})"
        raise ConfigError(msg)
    high_v = max(row.bound for row in model.limits if row.quantity == "cell_v" and row.over)
    vehicle = plant.plant(model, PERIOD_S)
    port = Port(settings.can, time.monotonic_ns, time.time_ns)
    begin_ns, closed, asleep = port.now(), vehicle.box.closed, fault == ""

    def seen(now_ns: int) -> None:
        nonlocal closed, asleep
        if vehicle.box.closed != closed:
            closed = vehicle.box.closed
            names = zip(("plus", "minus", "precharge"), closed, strict=True)
            say(", ".join(f"{name} {_WORDS[on]}" for name, on in names))
        if not asleep and now_ns - begin_ns >= after_s * 1e9:
            asleep = True
            say(FAULTS[fault](vehicle.pack, high_v))

    try:
        with urgently(_PRIORITY):
            plant.drive(vehicle, port, over, seen)
    finally:
        port.close()
