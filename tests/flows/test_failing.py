"""In a cluster a process that fails says why and ends at once, instead of the runtime's own panic."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import run_main

from flows.failing import report_failures
from tests.support.broker import free_ports

Fail = Callable[[str], None]


@dataclass
class _Part(StatefulSourcePartition[int, int]):
    fail: Fail
    given: int = 0

    def next_batch(self) -> list[int]:
        self.fail("next_batch")
        if self.given == 3:
            raise StopIteration
        self.given += 1
        return [self.given]

    def snapshot(self) -> int:
        self.fail("source snapshot")
        return self.given


@dataclass
class _Source(FixedPartitionedSource[int, int]):
    fail: Fail

    def list_parts(self) -> list[str]:
        return ["one"]

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> _Part:
        self.fail("build_part")
        return _Part(self.fail)


@dataclass
class _SinkPart(StatelessSinkPartition[Any]):
    fail: Fail
    out: list[Any]

    def write_batch(self, items: list[Any]) -> None:
        self.fail("write_batch")
        self.out.extend(items)


@dataclass
class _Sink(DynamicSink[Any]):
    fail: Fail
    out: list[Any]

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _SinkPart:
        self.fail("build")
        return _SinkPart(self.fail, self.out)


def _flow(breaks: str, out: list[Any]) -> Dataflow:
    def fail(name: str) -> None:
        if name == breaks:
            raise OSError(name)

    def one_by_one(value: int) -> Iterator[int]:
        fail("mapper")
        yield value
        fail("generator")

    def add(state: int | None, value: int) -> tuple[int, int]:
        fail("state")
        return (state or 0) + value, value

    flow = Dataflow("f")
    each = op.flat_map("each", op.input("in", flow, _Source(fail)), one_by_one)
    op.output("out", op.stateful_map("sum", op.key_on("key", each, lambda _: "k"), add), _Sink(fail, out))
    return flow


@pytest.mark.parametrize(
    "breaks",
    ["next_batch", "source snapshot", "build_part", "write_batch", "build", "mapper", "generator", "state"],
)
def test_what_any_part_of_a_flow_raises_is_told(breaks: str) -> None:
    told: list[str] = []
    flow = _flow(breaks, [])
    report_failures(flow, lambda error: told.append(str(error)))
    with pytest.raises(BaseException):  # noqa: B017, PT011 - whatever the runtime makes of it
        run_main(flow)
    assert breaks in told[0]


def test_a_flow_that_does_not_fail_is_as_it_was() -> None:
    told: list[Exception] = []
    out: list[Any] = []
    flow = _flow("", out)
    report_failures(flow, told.append)
    run_main(flow)
    assert out == [("k", 1), ("k", 2), ("k", 3)]
    assert told == []


_CLUSTER = """
import sys
from functools import partial
import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.run import cli_main
from bytewax.testing import TestingSink, TestingSource
from flows.failing import end_at_once, report_failures
from schemas.checked import ConfigError

def refuse(value):
    if value == 3:
        raise ConfigError("topics must exist; got none (fleet.toml)")
    return value

flow = Dataflow("f")
op.output("out", op.map("each", op.input("in", flow, TestingSource(range(5))), refuse), TestingSink([]))
report_failures(flow, partial(end_at_once, lambda event, **values: print(event, values["why"], flush=True)))
cli_main(flow, process_id=int(sys.argv[1]), addresses=sys.argv[2:])
"""


def test_a_process_of_a_cluster_ends_with_its_reason_and_the_code_of_a_wrong_setting() -> None:
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    command = [sys.executable, "-c", _CLUSTER]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with (
        subprocess.Popen([*command, "0", *addresses], **pipes) as first,
        subprocess.Popen([*command, "1", *addresses], **pipes) as second,
    ):
        try:
            told, said = first.communicate(timeout=60)
        finally:
            second.kill()  # it may hang: that is what the supervisor is for
    assert first.returncode == 2
    assert told == "failed topics must exist; got none (fleet.toml)\n"
    assert said.endswith("ibms: topics must exist; got none (fleet.toml)\n")
