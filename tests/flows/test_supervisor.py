"""A cluster under its supervisor: when it is hung, what it waits for, and who owns the store."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import Any

import pytest

from flows.supervisor import Watch, supervise
from schemas.checked import ConfigError

CONFIG = """
ticks = {ticks}
[source]
kind = "simulate"
vehicles = 2
hours = 0.1
models = ["generic-nmc@4c2t60ah"]
[lake]
dir = "{folder}/lake"
"""


def _beat(at: float, tick: float, waiting: dict[str, str] | None = None, pid: int = 1) -> dict[str, Any]:
    return {"pid": pid, "at": at, "waiting": waiting or {}, "values": [["ibms_sink_tick_seconds", {}, tick]]}


def test_ticks_that_go_on_are_life_and_ticks_that_stop_are_a_hang() -> None:
    watch = Watch(0.0)
    assert not watch.hung(1.0, [_beat(1, 100.0)])
    assert not watch.hung(11.0, [_beat(2, 100.0)])
    assert watch.hung(11.1, [_beat(11, 100.0)])
    assert not watch.hung(11.2, [_beat(11, 101.0)])


def test_waiting_for_a_broker_is_life_while_it_is_said_again() -> None:
    watch = Watch(0.0)
    for second in range(100):
        assert not watch.hung(float(second), [_beat(second, 5.0, {"sink": "brokers are away"})])
    assert watch.hung(110.0, [_beat(99, 5.0, {"sink": "brokers are away"})])


def test_one_process_with_the_sink_is_enough() -> None:
    watch = Watch(0.0)
    for second in range(60):
        assert not watch.hung(float(second), [_beat(1, 0.0, pid=1), _beat(1, second + 1.0, pid=2)])


def test_a_start_has_longer_than_a_tick() -> None:
    watch = Watch(0.0)
    assert not watch.hung(179.0, [])
    assert watch.hung(181.0, [])


def _config(folder: Path, *, ticks: bool, recovery: bool) -> Path:
    path = folder / "s.toml"
    more = f'[recovery]\ndir = "{folder}/r"\nepoch_s = 0.5\n' if recovery else ""
    path.write_text(CONFIG.format(folder=folder, ticks=str(ticks).lower()) + more)
    return path


@pytest.mark.parametrize(("ticks", "recovery", "said"), [(True, False, "recovery.dir"), (False, True, "ticks")])
def test_what_supervision_needs_is_asked_for(tmp_path: Path, ticks: bool, recovery: bool, said: str) -> None:
    with pytest.raises(ConfigError, match=f"{said} must be"):
        supervise(_config(tmp_path, ticks=ticks, recovery=recovery), 2)


def test_a_store_has_one_supervisor(tmp_path: Path) -> None:
    config = _config(tmp_path, ticks=True, recovery=True)
    (tmp_path / "r").mkdir()
    with (tmp_path / "r" / "lease-supervisor").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="another one is alive"):
            supervise(config, 1)
