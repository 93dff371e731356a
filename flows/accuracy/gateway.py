"""How wrong a gateway's Ah counter is after a month, alone and with the fleet's word.

The packs have lost an eighth of their capacity, and their current sensors show too much.  The gateway counts as it runs
(edge.local_soc) with what a new pack has.  The fleet estimates from the same wrong current, and tells each hour, signed
and some minutes late, what it knows (flows.calibrate): what the gateway refuses does not help.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from edge import cloud_soc, local_soc
from flows.accuracy.told import judged
from flows.calibrate import CAPACITY, Known, content
from flows.orders import signed_soc
from replay.simulate.fleet import FleetConfig, simulate
from replay.simulate.truth import Truth
from schemas.frames import FrameBlock
from schemas.pack import load_pack
from sinks import ducklake

Floats = NDArray[np.float64]
_DAY_NS = 86_400 * 10**9
_LATE_NS = 300 * 10**9  # from the end of a window to the gateway
_AT_ONCE = 60  # rows
_LAST_DAYS = 5.0  # whose error is told


@dataclass(frozen=True, slots=True)
class Month:
    """Whose month: vehicle `number` of a simulated fleet, whose pack has 0.88 of its capacity."""

    name: str
    model: str
    number: int = 5
    offset_a: float = 0.4  # of the current sensor
    days: float = 30.0
    period_s: float = 10.0
    every_h: float = 1.0


MONTHS = (Month("nmc", "generic-nmc@24c1t60ah"), Month("lfp", "generic-lfp@24c1t60ah"))


def figures() -> dict[str, float]:
    """Give the error of each counter over the last days, in percent of full charge, and by how much the word helps."""
    found = {}
    for month in MONTHS:
        alone, helped, _ = errors(month)
        found[f"gateway_{month.name}_soc_alone_rms_pct"] = 100.0 * alone
        found[f"gateway_{month.name}_soc_told_rms_pct"] = 100.0 * helped
        found[f"gateway_{month.name}_told_helps_times"] = alone / helped
    return found


def errors(month: Month) -> tuple[float, float, int]:
    """Give the RMS error of the SOC alone and with the fleet's word over the last days, and how many words counted."""
    cfg = FleetConfig(
        1, 24.0 * month.days, month.period_s, (month.model,), first=month.number, sleep=False,
        sensor_offset_a=month.offset_a,
    )  # fmt: skip
    parts = list(simulate(cfg))
    blocks = [block for block, _ in parts]
    t_ns, truth = _looks(parts)
    last = t_ns > t_ns[-1] - round(min(_LAST_DAYS, month.days / 3) * _DAY_NS)
    with tempfile.TemporaryDirectory(prefix="ibms-month-") as where:
        lake = Path(where)
        judged(blocks, (month.model,), lake)
        words = _words(month, lake, blocks[0].vehicles[0], int(blocks[0].t_ns[0]), int(t_ns[-1]))
        helped, counted = _counted(month, blocks, words)
    alone, _ = _counted(month, blocks, iter(()))
    rms = [float(np.sqrt(np.mean(np.square(soc - truth)[last]))) for soc in (alone, helped)]
    return rms[0], rms[1], counted


def _looks(parts: list[tuple[FrameBlock, Truth]]) -> tuple[NDArray[np.int64], Floats]:
    """Give time and true SOC of the frames at which a counter is looked at (M,)."""
    at = [np.minimum(np.arange(_AT_ONCE - 1, len(b) + _AT_ONCE - 1, _AT_ONCE), len(b) - 1) for b, _ in parts]
    t_ns = np.concatenate([b.t_ns[k] for (b, _), k in zip(parts, at, strict=True)])
    return t_ns, np.concatenate([t.soc[k] for (_, t), k in zip(parts, at, strict=True)])


def _words(month: Month, lake: Path, vehicle: str, from_ns: int, to_ns: int) -> Iterator[tuple[int, bytes]]:
    """Give signed words and when they reach the gateway: each of what was known by then, and no more."""
    with ducklake.attach(lake) as con:
        windows, healths = (
            con.execute(query).fetchnumpy()
            for query in (
                """SELECT epoch_ns(end_ns) AS t_ns, soc_end AS soc, soc_std, current_offset_a AS offset_a,
                current_offset_std_a AS offset_std_a FROM windows WHERE soc_end IS NOT NULL ORDER BY 1""",
                f"SELECT epoch_ns(t_ns) AS t_ns, {CAPACITY} FROM health ORDER BY 1",
            )
        )
    key, pack = Ed25519PrivateKey.from_private_bytes(bytes(32)), load_pack(month.model)
    for now_ns in range(from_ns, to_ns, round(month.every_h * 3600e9)):
        row, charge = (int(np.searchsorted(c["t_ns"], now_ns - _LATE_NS, "right")) - 1 for c in (windows, healths))
        if row < 0:
            continue
        seen = [float(windows[k][row]) for k in ("soc", "soc_std", "offset_a", "offset_std_a")]
        health = (
            [float(healths[k][charge]) for k in ("capacity_ah", "capacity_std_ah", "r0_rel")] if charge >= 0 else []
        )
        known = Known(vehicle, pack.name, int(windows["t_ns"][row]), *seen, *health)
        yield now_ns, signed_soc(vehicle, content(known), key, now_ns, 1.0)


def _counted(month: Month, blocks: list[FrameBlock], words: Iterator[tuple[int, bytes]]) -> tuple[Floats, int]:
    """Give the gateway's SOC every `_AT_ONCE` frames (M,), and how many words it took."""
    cfg = local_soc.local_soc_config(load_pack(month.model))
    state, soc, counted = local_soc.fresh_state(cfg), [], 0
    keys = (Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key(),)
    word = next(words, None)
    for block in blocks:
        for at in range(0, len(block), _AT_ONCE):
            part = block.take(slice(at, at + _AT_ONCE))
            now_ns = int(part.t_ns[-1])
            state, said = local_soc.step(cfg, state, part, None, now_ns)
            soc.append(said.soc)
            while word is not None and word[0] <= now_ns:
                state, judged = cloud_soc.receive(cfg, state, word[1], keys, block.vehicles[0], now_ns)
                counted += not judged.reason
                word = next(words, None)
    return np.array(soc), counted
