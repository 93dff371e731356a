"""What `ibms status` shows: the processes of a run as their heartbeats tell, now or again and again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from flows.heartbeat import PROGRESS, heartbeats
from flows.settings import load_settings
from schemas.checked import ConfigError

Beats = Sequence[dict[str, Any]]
_EVERY_S = 1.0


def run_status(config: Path, *, once: bool) -> None:
    """Show the run of a settings file; raises ConfigError where it keeps no heartbeats."""
    directory = load_settings(config).recovery.dir
    if directory is None:
        msg = f"recovery.dir must be a directory for a run to be seen; got nothing ({config})"
        raise ConfigError(msg)
    folder, console = directory / PROGRESS, Console()
    now = heartbeats(folder)
    if once:
        console.print(show([], now, time.time()))
        return
    with Live(show([], now, time.time()), console=console) as live:
        while True:
            time.sleep(_EVERY_S)
            before, now = now, heartbeats(folder)
            live.update(show(before, now, time.time()))


def show(before: Beats, now: Beats, at: float) -> Group:
    """Lay out processes and lag; rates are those between two looks."""
    workers = Table("pid", "state", "heartbeat s", "sink tick s", "frames/s", "frames", "dead letters", "epoch s")
    for beat in now:
        last = next((b for b in before if b["pid"] == beat["pid"]), None)
        tick = value(beat, "ibms_sink_tick_seconds", max)
        frames = value(beat, "ibms_frames_total", sum, stage="decoded")
        rate = ""
        if last is not None and beat["at"] > last["at"]:
            done = frames - value(last, "ibms_frames_total", sum, stage="decoded")
            rate = f"{done / (beat['at'] - last['at']):,.0f}"
        state = "; ".join(beat["waiting"].values()) or "running"
        workers.add_row(
            str(beat["pid"]), state, f"{at - beat['at']:.0f}", f"{at - tick:.0f}" if tick else "-", rate,
            f"{frames:,.0f}", f"{value(beat, 'ibms_dead_letters_total', sum):,.0f}",
            f"{value(beat, 'ibms_epoch_seconds', max):.1f}",
        )  # fmt: skip
    lag = Table("topic", "partition", "lag, messages")
    for name, labels, behind in sorted((v for b in now for v in b["values"]), key=str):
        if name == "ibms_lag_messages" and behind:
            lag.add_row(labels["topic"], labels["partition"], f"{behind:,.0f}")
    return Group(workers, lag)


def value(beat: dict[str, Any], name: str, how: Any, **labels: str) -> float:  # noqa: ANN401 - sum or max
    """Join the values of a metric in a heartbeat, of those with `labels`; 0 where there is none."""
    found = [v for n, ls, v in beat["values"] if n == name and labels.items() <= ls.items()]
    return float(how(found)) if found else 0.0
