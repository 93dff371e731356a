"""What can be broken on a recorded car (tests.safety.replayed): each function changes it, told the time since then."""

from __future__ import annotations

import math

from tests.safety.replayed import Car

CELL, PROBE = 11, 4  # whose values change: cell 12, probe 5


def nothing(car: Car, since_s: float) -> None:
    """Leave everything as recorded."""


def cell(car: Car, since_s: float, *, cell_v: float, flows_a: float | None = None) -> None:
    car.pack.cell_v[CELL] = cell_v
    if flows_a is not None:
        car.wished_a, car.obeys = flows_a, False


def cell_said(car: Car, since_s: float, *, cell_v: float) -> None:
    car.forced["CellVoltages"] = {f"CellVoltage_{CELL + 1:03}": 1000 * cell_v}


def says(car: Car, since_s: float, *, message: str, signals: dict[str, float]) -> None:
    car.forced[message] = signals


def pack_off(car: Car, since_s: float, *, by_v: float) -> None:
    car.off_v += by_v


def flows(car: Car, since_s: float, *, current_a: float, fuse_s: float = math.inf) -> None:
    car.wished_a, car.obeys = current_a if since_s < fuse_s else 0.0, False


def ignores(car: Car, since_s: float, *, soc: float, current_a: float | None = None) -> None:
    car.pack.soc, car.wished_a, car.obeys = soc, current_a, False


def probe(car: Car, since_s: float, *, temp_c: float, obeys: bool = True) -> None:
    car.pack.temp_c[PROBE], car.obeys = temp_c, obeys


def all_probes(car: Car, since_s: float, *, temp_c: float, obeys: bool = True) -> None:
    car.pack.temp_c, car.obeys = [temp_c] * len(car.pack.temp_c), obeys


def rises(car: Car, since_s: float, *, by_c_per_s: float) -> None:
    car.pack.temp_c[PROBE] += by_c_per_s * since_s


def burns(car: Car, since_s: float) -> None:
    car.pack.cell_v[CELL] *= 0.7
    car.pack.temp_c[PROBE] += 1.5 * since_s


def pack(car: Car, since_s: float, *, name: str, value: float) -> None:
    setattr(car.pack, name, value)


def contactors(car: Car, since_s: float, *, which: tuple[bool | None, bool | None, bool | None], closes: bool) -> None:
    car.contactors, car.pack.close = which, closes


def both_weld(car: Car, since_s: float) -> None:
    car.contactors, car.pack.close = (True, True, None), False
    car.wished_a, car.obeys = (-2.0 if since_s < 0.5 else -10.0), False


def shorted_link(car: Car, since_s: float) -> None:
    car.pack.close = since_s > 1.0
    car.forced["JunctionStatus"] = {"LinkVoltage": 0.0}


def silent(car: Car, since_s: float, *, message: str) -> None:
    car.pack.silent.add(message)


def held(car: Car, since_s: float, *, keys: set[tuple[str, int]]) -> None:
    car.held |= keys


def both_currents_stay(car: Car, since_s: float) -> None:
    stuck_current(car, since_s)
    car.forced.setdefault("PackCurrent2", {"PackCurrent2": car.forced["PackState"]["PackCurrent"]})


def cell_stays(car: Car, since_s: float) -> None:
    car.forced.setdefault("CellVoltages", {f"CellVoltage_{CELL + 1:03}": 1000 * car.pack.cell_v[CELL]})


def stuck_current(car: Car, since_s: float) -> None:
    car.forced.setdefault("PackState", {"PackCurrent": car.pack.current_a})


def second_off(car: Car, since_s: float, *, by_a: float) -> None:
    car.forced["PackCurrent2"] = {"PackCurrent2": car.pack.current_a + by_a}
