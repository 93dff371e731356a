"""Compile every kernel once, before processes that would each do it start: `python -m flows.warm`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from time import perf_counter

from flows.cache import use_kernel_cache

_DONE = "warm"  # a file in the cache: every kernel of these sources has been compiled


def is_warm() -> bool:
    """Say whether this version's kernels have all been compiled here; not known of a cache that the user named."""
    folder = use_kernel_cache()
    return folder.name.startswith("kernels-") and (folder / _DONE).exists()


def warm() -> None:
    """Run a minute of a simulated fleet through the whole flow; what it compiles is kept in the kernel cache."""
    from flows import fleet  # noqa: PLC0415 - numba after use_kernel_cache
    from flows.kafka_json import FEW, scan_json  # noqa: PLC0415
    from flows.run import run_flow  # noqa: PLC0415
    from flows.settings import FleetSettings, RecoverySettings  # noqa: PLC0415
    from replay.simulate.fleet import FleetConfig, simulate  # noqa: PLC0415
    from replay.source import ReplaySource  # noqa: PLC0415
    from schemas.message import Message, Models  # noqa: PLC0415
    from schemas.pack import load_pack  # noqa: PLC0415
    from schemas.wire_json import JSON, encode_json  # noqa: PLC0415
    from sinks.lake import LakeSink  # noqa: PLC0415

    cfg = FleetConfig(vehicles=2, hours=0.05, models=("generic-nmc@4c2t60ah",), sleep=False)
    with tempfile.TemporaryDirectory(prefix="ibms-warm-") as where:
        sink = LakeSink(Path(where) / "lake", "warm", recovery=False)
        source = ReplaySource(lambda: (block for block, _ in simulate(cfg)))
        run_flow(fleet.build(FleetSettings(), source, sink, cfg.models), RecoverySettings(), FleetSettings().shards)
    texts = encode_json(next(simulate(cfg))[0]) * FEW
    scan_json([(i, Message(t, JSON, "", 0, i), t) for i, (_, t) in enumerate(texts)], Models(load_pack))


if __name__ == "__main__":
    began = perf_counter()
    folder = use_kernel_cache()
    warm()
    (folder / _DONE).touch()
    print(f"kernels ready in {perf_counter() - began:.1f} s ({folder})")
