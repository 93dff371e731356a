"""How fast recorded CAN comes in: candump text to frames, and our decoder beside cantools."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import cantools.database
import numpy as np
import pyarrow.parquet as pq

from operators.assemble import Assembler
from operators.dbc import Dbc, load_dbc
from operators.kernels.can_decode import by_message, decode
from replay.candump import write_candump
from replay.readers import read_can
from schemas.can import CLASSIC, CanBlock, make_can_block
from schemas.checked import ConfigError
from schemas.signals import load_signals, signals_for

CELLS, PROBES = 96, 8  # of an i3; its bus carries none of them
_TIMES = 5  # the best of so many runs: another process may have had the core
_EPOCH_S = 1_600_000_000


def bench_can(data: Path) -> dict[str, float]:
    """Measure both figures on the BMW i3 logs of `data`/can_traces, on one core.

    `candump_can_frames_per_s`: uncompressed text to battery frames (read, decode, assemble).
    `decode_ratio_vs_cantools`: all signals of all frames the DBC knows, ours over cantools' rate.
    Raises ConfigError where the logs are not there.
    """
    traces = data / "can_traces"
    if not (traces / "bmw_i3.parquet").is_file():
        msg = f"data must hold can_traces/bmw_i3.parquet; got {data}"
        raise ConfigError(msg)
    block = logs(traces / "bmw_i3.parquet")
    dbc = load_dbc(traces / "dbc" / "bmw_i3_lim.dbc")
    return {**bench_candump(block, dbc), **bench_decode(block, dbc)}


def bench_candump(block: CanBlock, dbc: Dbc) -> dict[str, float]:
    """Time reading, decoding and assembling the frames from candump text."""
    signals = load_signals(signals_for(dbc.path))

    def run(path: Path) -> int:
        assembler = Assembler(signals, dbc, model="bmw-i3-60ah", cells=CELLS, probes=PROBES, pack_id="bench")
        count = 0
        for item in read_can(path):
            if isinstance(item, CanBlock):
                assembler.push(item)
                count += len(item)
        assembler.flush()
        return count

    with TemporaryDirectory() as folder:
        path = Path(folder) / "bench.log"
        write_candump(path, block)
        seconds, count = _best(lambda: run(path), time.perf_counter)
    return {"candump_can_frames_per_s": count / seconds}


def bench_decode(block: CanBlock, dbc: Dbc) -> dict[str, float]:
    """Time decoding every signal of every known frame, ours and cantools' on the same frames."""
    database = cantools.database.load_file(dbc.path, strict=False)
    assert isinstance(database, cantools.database.can.Database)
    theirs = {m.frame_id: m for m in database.messages if dbc.by_name[m.name].signals}
    ours = [m for m in dbc.by_id.values() if m.signals]
    payloads = [p[:n].tobytes() for p, n in zip(block.data, block.length.tolist(), strict=True)]
    ids = np.where(block.ext, -1, block.can_id.astype(np.int64)).tolist()

    def run_theirs() -> int:
        count = 0
        for can_id, payload in zip(ids, payloads, strict=True):
            message = theirs.get(can_id)
            if message is not None:
                with suppress(cantools.database.DecodeError):  # overlapping signals: cantools gives up early
                    message.decode(payload, decode_choices=False, allow_truncated=True)
                count += 1
        return count

    def run_ours() -> int:
        count = 0
        for message, rows in by_message(ours, block.can_id, block.ext):
            decode(message, block.data[rows], block.length[rows])
            count += rows.size
        return count

    # seconds of this process alone: the two take so differently long that other load would shift their ratio
    their_s, their_count = _best(run_theirs, time.process_time)
    our_s, our_count = _best(run_ours, time.process_time)
    assert their_count == our_count, f"the same frames: {their_count}, {our_count}"
    return {"decode_ratio_vs_cantools": their_s / our_s, "decode_can_frames_per_s": our_count / our_s}


def logs(path: Path) -> CanBlock:
    """Read all logs of a car behind each other, each an hour after the one before."""
    table = pq.read_table(path)
    payloads = table["data"].to_pylist()
    log = np.asarray(table["log"].cast("string"))
    after = np.cumsum(log != np.roll(log, 1)) * 3600
    return make_can_block(
        ["can0"],
        t_ns=(_EPOCH_S + after) * 10**9 + np.asarray(table["ts_us"]) * 1000,
        can_id=np.asarray(table["can_id"]),
        ext=np.asarray(table["ext"]),
        length=[len(p) for p in payloads],
        data=np.frombuffer(b"".join(p.ljust(CLASSIC, b"\0") for p in payloads), np.uint8).reshape(-1, CLASSIC),
    )


def _best(run: Callable[[], int], clock: Callable[[], float]) -> tuple[float, int]:
    """Time the best of some runs: (seconds, what the run counted)."""
    best, count = float("inf"), 0
    for _ in range(_TIMES):
        begin = clock()
        count = run()
        best = min(best, clock() - begin)
    return best, count
