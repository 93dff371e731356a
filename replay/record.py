"""Battery frames to CAN frames, as a vehicle would send them: the way back of `operators.assemble`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from operators.assemble import Group, Target, resolve
from operators.dbc import Dbc, load_dbc
from operators.kernels.can_decode import Signal
from schemas.can import CLASSIC, CanBlock, make_can_block
from schemas.frames import CONTEXT, NO_SEQ, FrameBlock
from schemas.signals import DBC_DIR, SIGNALS_DIR, SignalMap, load_signals

SPACING_NS = 100_000  # between CAN frames of one moment; the largest pack's take 9 ms
_CLOSING = "PackFrame"


def record_pack(block: FrameBlock, bus: str = "can0") -> CanBlock:
    """Record frames of one pack through our own DBC, dbc/ibms_pack.dbc (at most 255 cells, 64 probes).

    Values are rounded to what the DBC can say and stay within it; "not available" is sent as such.  Each
    frame's messages come before its own time, PackFrame at it, so assembling with period 0 gives the times back.
    """
    return encode(block, load_signals(SIGNALS_DIR / "ibms_pack.toml"), load_dbc(DBC_DIR / "ibms_pack.dbc"), bus)


def encode(block: FrameBlock, signals: SignalMap, dbc: Dbc, bus: str = "can0") -> CanBlock:
    """Encode frames of one pack as the mapping and the DBC say; raises SignalsError where the pack does not fit.

    A message is sent where the block has any of its columns.
    """
    assert len(block.packs) <= 1 or np.unique(block.pack).size <= 1, "frames of one pack"
    groups = [g for g in resolve(signals, dbc, block.cells, block.probes) if any(_there(block, t) for t in g.targets)]
    groups.sort(key=lambda g: g.message.name == _CLOSING)  # stable: the closing message last
    n, m = len(block), len(groups)
    data = np.zeros((n, m, CLASSIC), np.uint8)
    for k, group in enumerate(groups):
        data[:, k] = _payload(group, block)
    late = (m - 1 - np.arange(m)) * SPACING_NS
    return make_can_block(
        [bus],
        t_ns=(block.t_ns[:, None] - late).reshape(-1),
        can_id=np.tile(np.array([g.message.can_id for g in groups], np.uint32), n),
        ext=np.tile(np.array([g.message.ext for g in groups], np.bool_), n),
        length=np.tile(np.array([g.message.length for g in groups], np.uint8), n),
        data=data.reshape(-1, CLASSIC),
    )


def _there(block: FrameBlock, target: Target) -> bool:
    return target.entry.column not in CONTEXT or target.entry.column in block.context or _closes(target)


def _closes(target: Target) -> bool:
    return target.entry.message == _CLOSING


def _payload(group: Group, block: FrameBlock) -> NDArray[np.uint8]:
    """Build one message's payload for each frame: (N, 8) uint8."""
    word = np.zeros(len(block), np.uint64)
    for target in group.targets:
        word |= _bits(target.signal, _raw(target, block))
    mux = group.targets[0].signal.mux
    if mux is not None:
        page = np.full(len(block), min(group.targets[0].signal.mux_ids), np.int64)
        word |= _bits(mux, page)
    if group.message.name == _CLOSING:
        for name, value in _closing(block).items():
            word |= _bits(group.message.signals[name], value)
    return word.astype("<u8").view(np.uint8).reshape(-1, CLASSIC)


def _closing(block: FrameBlock) -> Mapping[str, NDArray[np.int64]]:
    n = len(block)
    counted = np.where(block.seq == NO_SEQ, np.arange(n), block.seq)
    return {
        "FrameCounter": counted & 0xFFFF_FFFF,
        "Cells": np.full(n, block.cells),
        "Probes": np.full(n, block.probes),
    }


def _raw(target: Target, block: FrameBlock) -> NDArray[Any]:
    """Turn a column into raw values: rounded, kept within the signal, "not available" as its label says."""
    signal, entry = target.signal, target.entry
    column = entry.column
    if column in CONTEXT and np.dtype(CONTEXT[column]).kind == "u":
        mask = block.context[column]
        halves: NDArray[np.uint64] = mask >> np.uint64(32 * target.part) & np.uint64(0xFFFF_FFFF)
        return halves
    value = _column(target, block)
    scaled = ((value - entry.offset) / entry.scale - signal.offset) / signal.scale
    if signal.is_float:
        return scaled.astype(np.float32).view(np.uint32)
    low, high = _range(signal)
    missing = np.isnan(scaled)
    raw = np.clip(np.rint(np.where(missing, 0, scaled)), low, high).astype(np.int64)
    raw[missing] = signal.invalid[0] if signal.invalid else 0
    return raw


def _column(target: Target, block: FrameBlock) -> NDArray[np.float64]:
    """Give a column as float64, NaN where not available."""
    name = target.entry.column
    if name not in CONTEXT:
        values: NDArray[np.float64] = getattr(block, name).astype(np.float64)
        return values[:, target.place] if values.ndim > 1 else values
    if name not in block.context:
        return np.full(len(block), np.nan)
    context = block.context[name]
    wide: NDArray[np.float64] = context.astype(np.float64)
    return wide if context.dtype.kind == "f" else np.where(context < 0, np.nan, wide)


def _range(signal: Signal) -> tuple[int, int]:
    """Give the raw values a signal may take without meaning "not available"."""
    low = -(1 << signal.length - 1) if signal.signed else 0
    high = low + (1 << signal.length) - 1
    return (low + 1 if low in signal.invalid else low), (high - 1 if high in signal.invalid else high)


def _bits(signal: Signal, raw: NDArray[Any]) -> NDArray[np.uint64]:
    assert signal.little, f"{signal.name}: only little-endian signals are encoded"
    kept = raw.astype(np.int64).view(np.uint64) & np.uint64((1 << signal.length) - 1)
    return kept << np.uint64(signal.start)
