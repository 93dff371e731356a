"""How a lake's own history becomes a table of charges: what packs of the field were charged like, and what they held.

One set per pack model, named after it; a cell is a pack.  Columns are those of the laboratory, at the pack's own size:
a model of them is trained, judged and served like any other.  What a pack held is the capacity that the prognostics
flow followed (health.soh_capacity) at charges that counted, once it is sure of it: nobody has measured these packs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.judge import COLUMNS
from flows.prognosis.charges import Charges, Floats, gather
from flows.prognosis.rul import ENDED_SOH
from schemas.checked import ConfigError
from schemas.pack import PackModel, load_pack
from sinks import ducklake

SURE = 0.04  # standard deviation of SOH from which on a capacity is one to learn from
# A pack to learn from, and how many of them: five folds of two packs and more.
CHARGES, CAPACITIES, PACKS = 30, 10, 10
LIFE_CHARGES, LIVES = 50, 5


@dataclass(frozen=True, slots=True, eq=False)
class Own:
    """A pack model's charges, and when the newest of them ended."""

    charges: Charges
    until_ns: int


def read_lake(lake: Path, kind: str, only: Iterable[str] = ()) -> dict[str, Own]:
    """Read the history that the lake holds of each pack model; raises ConfigError where it is too short to learn from.

    `kind` is soh or rul, `only` names pack models; without, those that are too short are left out where another is not.
    """
    columns = ", ".join(f"s.{source}" for source, _ in COLUMNS.values())
    with ducklake.attach(lake) as con:
        table = con.execute(
            f"""SELECT h.model, h.pack_id, h.cycles, epoch_ns(h.t_ns) AS end_ns, s.top_s, {columns},
                CASE WHEN e.accepted AND h.soh_capacity_std <= {SURE} THEN h.soh_capacity END AS soh
            FROM health AS h JOIN sessions AS s ON s.id = h.session_id
            LEFT JOIN evidence AS e ON e.session_id = h.session_id AND e.revision = h.revision
            ORDER BY h.model, h.pack_id, h.t_ns, h.session_id"""
        ).fetchnumpy()
    models = table["model"].astype(str)
    known = np.unique(models).tolist()
    if unknown := set(only) - set(known):
        msg = f"--set must be a pack model with charges in the lake, {', '.join(known) or 'none is there'}; got "
        msg += f"{', '.join(sorted(unknown))} ({lake})"
        raise ConfigError(msg)
    found, short = {}, []
    for name in set(only) or known:
        rows = models == name
        own = _of_model(load_pack(name), {k: v[rows] for k, v in table.items()})
        why = too_short(own.charges, kind)
        if why:
            short.append(f"{name}: {why}")
        else:
            found[name] = own
    if short and (only or not found):
        msg = f"the lake must hold more history; {'; '.join(sorted(short))} ({lake})"
        raise ConfigError(msg)
    if not found:
        msg = f"the lake must hold charges that `ibms run prognostics` has judged; got none ({lake})"
        raise ConfigError(msg)
    return dict(sorted(found.items()))


def too_short(charges: Charges, kind: str) -> str:
    """Say how much more history a model needs, and how much there is; "" where there is enough."""
    count = np.bincount(charges.cell, minlength=len(charges.cells))
    if kind == "soh":
        measured = np.bincount(charges.cell[np.isfinite(charges.soh)], minlength=len(charges.cells))
        good = int(((count >= CHARGES) & (measured >= CAPACITIES)).sum())
        need = f"{PACKS} packs with {CHARGES} charges and {CAPACITIES} capacities known to {SURE:g} each are needed"
        have = f"{good} of {count.size}; the most that one has are {_most(count)} and {_most(measured)}"
        return "" if good >= PACKS else f"{need}, there are {have}"
    lowest = np.full(count.size, np.inf)
    np.fmin.at(lowest, charges.cell, charges.soh)
    good = int(((count >= LIFE_CHARGES) & (lowest <= ENDED_SOH)).sum())
    need = f"{LIVES} packs with {LIFE_CHARGES} charges down to an SOH of {ENDED_SOH:g} are needed"
    known = lowest[np.isfinite(lowest)]
    least = f"{known.min():.2f}" if known.size else "unknown"
    have = f"{good} of {count.size}; the most charges of one are {_most(count)}, the lowest SOH is {least}"
    return "" if good >= LIVES else f"{need}, there are {have}"


def carried(charges: Charges) -> Charges:
    """Give each charge the capacity known at it (N,), the newest so far; charges before any fall out."""
    capacity = charges.capacity_ah.copy()
    for n in range(1, len(capacity)):
        if np.isnan(capacity[n]) and charges.cell[n] == charges.cell[n - 1]:
            capacity[n] = capacity[n - 1]
    return replace(charges, capacity_ah=capacity).take(np.isfinite(capacity))


def _most(count: NDArray[np.int64]) -> int:
    return int(count.max(initial=0))


def _of_model(pack: PackModel, table: dict[str, NDArray[Any]]) -> Own:
    numbers = {k: np.ma.filled(np.ma.asarray(v), np.nan) for k, v in table.items() if k not in {"model", "pack_id"}}
    full: list[str] = [name for name, (source, _) in COLUMNS.items() if np.isfinite(numbers[source]).any()]
    told = numbers["top_s"] > 0  # near full: of no other charge does a model speak
    capacity: Floats = np.where(told, numbers["soh"].astype(np.float64), np.nan) * pack.nominal_ah
    x = np.column_stack([np.zeros((len(told), 0)), *(numbers[COLUMNS[name][0]].astype(np.float64) for name in full)])
    packs, cycle = table["pack_id"].astype(np.str_), numbers["cycles"].astype(np.float64)
    # a charge that moved nothing has the cycles of the one before: it says nothing either
    new = np.concatenate([[True], (packs[1:] != packs[:-1]) | (cycle[1:] > cycle[:-1])])
    made = gather(pack.name, packs[new], cycle[new], tuple(full), x[new], capacity[new])
    return Own(replace(made, nominal_ah=pack.nominal_ah), int(numbers["end_ns"].max()))
