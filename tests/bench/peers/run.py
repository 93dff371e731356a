"""Peers side by side: `python -m tests.bench.peers.run [--bootstrap HOST:PORT] [--json] [PEER …]`.

One topic, one job, one worker each, one after the other.  From a tenth of the results on, counted by a reader that
does not wait for commits, until the last one: frames by the clock, and CPU seconds of all processes of the peer.
Every result must be there and equal to the job done without any framework.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import orjson
import pyarrow as pa
from confluent_kafka import Consumer, Message, TopicPartition
from confluent_kafka.cimpl import NewTopic

from flows.cache import use_kernel_cache
from schemas.kafka_settings import KafkaSettings

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[2]
PARTITIONS = 8
VEHICLES, ROUNDS = 5_000, 120
_TENTH = 0.1
_WITHIN = 1e-9
_PATIENCE_S = 900.0
_SILENCE_S = 120.0
OURS = "ibms"
UNLIKE = {
    OURS: "blocks of frames instead of one call a frame; results leave as Arrow batches, exactly once by reading back",
    "quixstreams": "state in RocksDB and in a changelog topic; exactly once by a Kafka transaction per commit",
    "pathway": "at least once; keeps its input instead of its state (that needs a licence key); takes back each result "
    "when the next comes",
    "faust": "state in memory and in a changelog topic; at least once",
    "pyflink": "Python inside the JVM, state on its heap; exactly once by a Kafka transaction per checkpoint",
}
Results = dict[tuple[str, int], tuple[float, ...]]


def compare(bootstrap: str, peers: list[str], vehicles: int = VEHICLES, rounds: int = ROUNDS) -> dict[str, Any]:
    """Run the job in ours and in each peer that can run here; a peer that cannot gives its reason."""
    from flows.bench.kafka_load import messages, send
    from flows.kafka_admin import connect
    from tests.bench.peers.environments import missing, python

    name = f"peers-{uuid4().hex[:8]}"
    admin = connect(KafkaSettings(bootstrap))
    made: list[str] = []

    def topic(what: str) -> str:
        # times lie ahead of the clock: see kafka_load
        config = {"retention.ms": "-1", "message.timestamp.after.max.ms": str(2**63 - 1)}
        new = NewTopic(f"{name}.{what}", PARTITIONS, 1, config=config)
        admin.create_topics([new])[new.topic].result(30)
        made.append(new.topic)
        return str(new.topic)

    try:
        frames = topic("frames")
        expected = _expected(send(KafkaSettings(bootstrap), frames, messages(vehicles, rounds, "json", 1), "json"))
        out: dict[str, Any] = {}
        for peer in [OURS, *peers]:
            why = "" if peer == OURS else missing(peer)
            if why:
                out[peer] = {"reason": why}
                continue
            interpreter = Path(sys.executable) if peer == OURS else python(peer)
            results = topic(peer)
            sys.stderr.write(f"{peer} …\n")
            out[peer] = _measure(peer, interpreter, bootstrap, frames, results, expected, vehicles * rounds)
        return out
    finally:
        for answer in admin.delete_topics(made).values():
            with suppress(Exception):
                answer.result(30)


def _expected(messages: Iterator[bytes]) -> Results:
    """Do the job without any framework, while the messages are sent."""
    from tests.bench.peers.job import NAMES, new_state, read, stepper

    step, out = stepper(), {}
    states: dict[str, Any] = {}
    for value in messages:
        vehicle, t_ns, *_ = read(value)
        state = states.get(vehicle)
        if state is None:
            state = states[vehicle] = new_state()
        made = step(state, value)
        if made is not None:
            found = orjson.loads(made)
            out[vehicle, t_ns] = tuple(found[n] for n in NAMES)
    return out


def _measure(
    peer: str, interpreter: Path, bootstrap: str, frames: str, results: str, expected: Results, total: int
) -> dict[str, Any]:
    """Start a peer, read its results until all are there, and end it."""
    with tempfile.TemporaryDirectory(prefix="ibms-peer-") as folder:
        script = ["-m", "tests.bench.peers.ours"] if peer == OURS else [str(HERE / f"in_{peer}.py")]
        kernels = Path(folder) / "kernels"
        env = dict(os.environ) if peer == OURS else {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        env |= {"PATH": f"{interpreter.parent}:{env['PATH']}"} | (
            {} if peer == OURS else {"NUMBA_CACHE_DIR": str(kernels)}
        )
        command = [str(interpreter), *script, bootstrap, frames, results, folder]
        with (Path(folder) / "log").open("w+") as log, _session(command, env, log) as process:
            try:
                return _watched(process, bootstrap, results, expected, total) | {"unlike": UNLIKE[peer]}
            except (AssertionError, TimeoutError) as failed:
                log.seek(0)
                said = [line for line in log.read().splitlines() if line.strip()][-12:]
                sys.stderr.write("".join(f"  {line:.300}\n" for line in said))
                return {"reason": str(failed)}


def _watched(
    process: subprocess.Popen[bytes], bootstrap: str, results: str, expected: Results, total: int
) -> dict[str, Any]:
    cpu = _Cpu(process.pid)
    found: Results = {}
    repeated = 0
    began = newest = time.monotonic()
    first: tuple[float, float, int] | None = None
    reader = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "bench", "isolation.level": "read_uncommitted", "log_level": 2}
    )
    reader.assign([TopicPartition(results, p, 0) for p in range(PARTITIONS)])
    try:
        while len(found) < len(expected):
            now = time.monotonic()
            assert process.poll() is None, f"it ended with code {process.returncode}"
            if now - newest > _SILENCE_S or now - began > _PATIENCE_S:
                msg = f"{len(found):,} of {len(expected):,} results after {now - began:.0f} s"
                raise TimeoutError(msg)
            for message in reader.consume(10_000, 0.05):
                value = None if message.error() or _taken_back(message) else message.value()
                if value:
                    for key, values in _results(value):
                        repeated += key in found
                        found[key] = values
                        newest = now
            cpu_s = cpu.seconds()
            if first is None and len(found) >= _TENTH * len(expected):
                first = (time.monotonic(), cpu_s, len(found))
        ended, cpu_s = time.monotonic(), cpu.seconds()
    finally:
        reader.close()
    assert first is not None
    assert found.keys() == expected.keys(), "results that are not of any frame"
    off = max(float(np.abs(np.subtract(found[key], expected[key])).max()) for key in expected)
    assert off <= _WITHIN, f"results differ by {off:g}"
    done = total * (len(expected) - first[2]) / len(expected)
    assert done, "all results came at once: too few frames to measure"
    return {
        "frames_per_s": round(done / (ended - first[0])),
        "cpu_s_per_million_frames": round((cpu_s - first[1]) / done * 1e6, 2),
        "frames_per_cpu_s": round(done / (cpu_s - first[1])),
        "start_s": round(first[0] - began, 1),
        "results": len(found),
        "repeated": repeated,
        "largest_difference": off,
    }


def _taken_back(message: Message) -> bool:
    """Say whether this only undoes an earlier result: Pathway's tables tell changes."""
    return ("pathway_diff", b"-1") in (message.headers() or ())


def _results(value: bytes) -> Iterator[tuple[tuple[str, int], tuple[float, ...]]]:
    from tests.bench.peers.job import NAMES

    if value.startswith(b"{"):
        made = orjson.loads(value)
        yield (made["vehicle"], made["t_ns"]), tuple(made[n] for n in NAMES)
        return
    columns = pa.ipc.open_stream(value).read_all().to_pydict()
    keys = zip(columns["vehicle_id"], columns["start_ns"], strict=True)
    yield from zip(keys, zip(*(columns[n] for n in NAMES), strict=True), strict=True)


class _Cpu:
    """CPU seconds of all processes of a session, those that have ended with what they were last seen to have."""

    def __init__(self, session: int) -> None:
        self._session = session
        self._seen: dict[int, float] = {}

    def seconds(self) -> float:
        for pid in pids_of(self._session):
            with suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                self._seen[pid] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return sum(self._seen.values())


def pids_of(session: int) -> list[int]:
    """Find the processes of a session (proc_pid_stat(5), field 6)."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(file.read_text().rpartition(")")[2].split()[3]) == session:
                found.append(int(file.parent.name))
    return found


@contextmanager
def _session(command: list[str], env: dict[str, str], log: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process as the head of a session of its own, and end all of it."""
    with subprocess.Popen(command, cwd=REPOSITORY, env=env, stdout=log, stderr=log, start_new_session=True) as process:
        try:
            yield process
        finally:
            for pid in pids_of(process.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def show(found: dict[str, Any]) -> str:
    """Print what was measured as a table, then what is not alike."""
    lines = [f"{'':12} {'frames/s':>10} {'CPU-s/1e6 frames':>17} {'start s':>8} {'repeated':>9} {'difference':>11}"]
    for peer, one in found.items():
        if "reason" in one:
            lines.append(f"{peer:12} {one['reason']}")
            continue
        lines.append(
            f"{peer:12} {one['frames_per_s']:>10,} {one['cpu_s_per_million_frames']:>17,} {one['start_s']:>8} "
            f"{one['repeated']:>9,} {one['largest_difference']:>11.0e}"
        )
    return "\n".join(
        [*lines, "", "not alike:", *(f"  {p}: {one['unlike']}" for p, one in found.items() if "unlike" in one)]
    )


def main() -> None:
    """Read the command line."""
    use_kernel_cache()
    from flows.bench.kafka import broker
    from tests.bench.peers.environments import PEERS, missing

    parser = argparse.ArgumentParser(prog="peers")
    parser.add_argument("peers", nargs="*", default=[])
    parser.add_argument("--bootstrap")
    parser.add_argument("--vehicles", type=int, default=VEHICLES)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    peers = args.peers or list(PEERS)
    if unknown := [peer for peer in peers if peer not in PEERS]:
        parser.error(f"a peer must be one of {', '.join(PEERS)}; got {', '.join(unknown)}")
    why = [f"{peer}: {missing(peer)}" for peer in peers]
    if all(map(missing, peers)):
        sys.stderr.write("".join(f"{line}\n" for line in why))
        if args.json:
            print("null")
        return
    with broker(args.bootstrap) as bootstrap:
        found = compare(bootstrap, peers, args.vehicles, args.rounds)
    print(json.dumps(found) if args.json else show(found))


if __name__ == "__main__":
    main()
