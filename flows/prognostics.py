"""The prognostics flow: sessions → which pack → twin, evidence, health, life → lake; keyed by pack, not vehicle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import bytewax.operators as op
import numpy as np
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.outputs import Sink

from operators.health import MakeJudge, health
from operators.identity import identity
from operators.life import MakeOracle, life
from operators.session_step import SESSIONS
from operators.shard import Packs
from operators.twin import twin
from schemas.arrow import LakeItem, Provenance, to_arrow
from schemas.events import Item, Rows, Tick
from schemas.ids import shard_of
from schemas.pack import load_pack

SHARDS = 16
PARAMS = "prognostics-4"  # changes with what the constants of the kernels do to a result


def build(
    source: Source[Item],
    sink: Sink[Any] | Mapping[str, Sink[Any]],
    models: Sequence[str],
    *,
    shards: int = SHARDS,
    packs: Packs = load_pack,
    judge: MakeJudge | None = None,
    oracle: MakeOracle | None = None,
    trained: str = "",
    ticks: Source[Tick] | None = None,
    files: Path | None = None,
) -> Dataflow:
    """Join the steps: sessions as Rows from `source`, records of `models` to `sink` as (table, Arrow) items.

    `judge` makes what a trained model says of a pack model's charges, `oracle` what one says of the life that is left;
    `trained` are their hashes.  `ticks` brings wall
    time to the sinks alone.  `files` is where the state of a flow with a recovery store lies.
    """
    flow = Dataflow("prognostics")
    up = op.flat_map("by-model", op.input("source", flow, source), _by_model)
    up = identity("identity", up, packs, files=files)
    up = op.flat_map("by-pack", op.key_rm("named", up), _by_pack(shards))
    up = twin("twin", up, packs, files=files)
    up = health("health", up, packs, judge=judge, files=files)
    up = life("life", up, packs, oracle=oracle, files=files)
    if ticks is not None:
        up = op.merge("with-ticks", up, op.map("tick", op.input("ticks", flow, ticks), lambda tick: ("-", tick)))
    made_by = Provenance({m: packs(m).sha for m in models}, version("ibms"), PARAMS, trained)
    out = op.flat_map_batch("to-arrow", up, _to_lake(made_by))
    for name, one in (sink if isinstance(sink, Mapping) else {"lake": sink}).items():
        op.output(name, out, one)
    return flow


def _by_model(item: Item) -> list[tuple[str, Item]]:
    """Key sessions by pack model alone: a pack may come back in any vehicle."""
    return [(item.model if isinstance(item, Rows) else "-", item)]


def _by_pack(shards: int) -> Any:  # noqa: ANN401 - a mapper of bytewax
    def cut(item: Item) -> list[tuple[str, Item]]:
        if not isinstance(item, Rows) or item.table != SESSIONS:
            return [("-", item)]
        shard = np.array([shard_of(p, shards) for p in item.packs], np.int64)[item.pack]
        return [(f"{item.model}/{s:03d}", take(item, np.flatnonzero(shard == s))) for s in np.unique(shard).tolist()]

    return cut


def take(rows: Rows, at: Any) -> Rows:  # noqa: ANN401 - indices
    """Give some rows, with the packs that they are of and no others."""
    used, index = np.unique(rows.pack[at], return_inverse=True)
    packs, vehicles = (tuple(names[p] for p in used.tolist()) for names in (rows.packs, rows.vehicles))
    data = {k: v[at] for k, v in rows.data.items()}
    return Rows(rows.table, rows.model, packs, vehicles, index.astype(np.int32), data)


def _to_lake(made_by: Provenance) -> Any:  # noqa: ANN401 - a mapper of bytewax
    def convert(keyed: list[tuple[str, Item]]) -> Iterable[tuple[str, LakeItem]]:
        return [("lake", record) for record in to_arrow([item for _, item in keyed], made_by)]

    return convert
