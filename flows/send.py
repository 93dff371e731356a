"""How recorded CAN frames get back onto a bus, at their own pace."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import can
import numpy as np

from flows.progress import watched
from flows.traces import TraceOptions, check_files
from replay.pace import Pace
from replay.readers import read_can
from schemas.can import BRS, ERROR, ESI, FD, REMOTE, CanBlock
from schemas.checked import ConfigError

_NS = 10**9
_PATIENCE_S = 1.0  # for a bus that is busy


def send_traces(options: TraceOptions, bus_name: str, pace: Pace | None) -> int:
    """Send the raw CAN frames of the traces, between --from and --to, to INTERFACE:CHANNEL; gives how many.

    Error frames are left out: a controller sends those by itself.  Raises ConfigError where a trace or
    the bus cannot be opened.
    """
    check_files(options)
    from_ns, to_ns = options.span_ns
    traces = [read_can(Path(path), options.start_ns) for path in options.paths]
    blocks = (item for item in chain.from_iterable(traces) if isinstance(item, CanBlock))
    sent = 0
    with _open(bus_name) as bus:
        for block in watched(blocks, "send"):
            rows = np.flatnonzero(
                (block.t_ns >= (from_ns or 0)) & (block.t_ns < (to_ns or 2**63 - 1)) & ((block.flags & ERROR) == 0)
            )
            for message in messages(block.take(rows)):
                if pace is not None:
                    _wait(pace, message)
                bus.send(message, timeout=_PATIENCE_S)
                sent += 1
    return sent


def messages(block: CanBlock) -> Iterator[can.Message]:
    """Give the frames of a block as python-can's messages."""
    for i in range(len(block)):
        n, flags = int(block.length[i]), int(block.flags[i])
        remote = bool(flags & REMOTE)
        yield can.Message(
            timestamp=int(block.t_ns[i]) / _NS,
            arbitration_id=int(block.can_id[i]),
            is_extended_id=bool(block.ext[i]),
            is_remote_frame=remote,
            dlc=n,
            data=None if remote else block.data[i, :n].tobytes(),
            is_fd=bool(flags & FD),
            bitrate_switch=bool(flags & BRS),
            error_state_indicator=bool(flags & ESI),
        )


def _open(name: str) -> can.BusABC:
    interface, _, channel = name.partition(":")
    if not interface or not channel:
        msg = f"--can must be INTERFACE:CHANNEL, e.g. socketcan:can0; got {name}"
        raise ConfigError(msg)
    try:
        return can.Bus(interface=interface, channel=channel)
    except (can.CanError, OSError, ImportError, ValueError, NotImplementedError) as error:
        msg = f"--can must be a bus that can be opened; got {name}: {error}"
        raise ConfigError(msg) from None


def _wait(pace: Pace, message: can.Message) -> None:
    due = pace.due(round(message.timestamp * _NS))
    if due is not None:
        time.sleep(max(0.0, due.timestamp() - time.time()))
