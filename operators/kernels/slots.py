"""How state is kept: dataclasses of arrays with one slot per pack, which grow, are copied and are packed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray


class State(Protocol):
    """A dataclass whose fields are arrays with one slot per pack on the first axis, or such dataclasses."""

    @classmethod
    def empty(cls, slots: int, cells: int, probes: int) -> Self:
        """State of packs never seen."""
        ...


S = TypeVar("S", bound=State)


def arrays(state: State) -> dict[str, NDArray[Any]]:
    """Give the arrays of `state` by field name; those of a state inside it as "field.name"."""
    found: dict[str, NDArray[Any]] = {}
    for field in fields(state):  # type: ignore[arg-type]
        value = getattr(state, field.name)
        if isinstance(value, np.ndarray):
            found[field.name] = value
        else:
            found |= {f"{field.name}.{name}": array for name, array in arrays(value).items()}
    return found


def capacity(state: State) -> int:
    """Count the slots that `state` has room for."""
    return len(next(iter(arrays(state).values())))


def moved(state: S, slots: NDArray[np.integer[Any]] | slice, room: int, cells: int, probes: int) -> S:
    """Give a state with room for `room` packs whose first slots are those of `state` at `slots`."""
    return _laid_out(type(state), room, cells, probes, {name: a[slots] for name, a in arrays(state).items()})


def copy(state: State, a: int, b: int) -> None:
    """Copy slot `a` into slot `b`."""
    for array in arrays(state).values():
        array[b] = array[a]


def reset(state: State, slot: int, cells: int, probes: int) -> None:
    """Make a slot that of a pack never seen."""
    fresh = arrays(type(state).empty(1, cells, probes))
    for name, array in arrays(state).items():
        array[slot] = fresh[name][0]


def dump(state: State, used: int) -> dict[str, NDArray[Any]]:
    """Copy the first `used` slots, so that later steps never write into what a snapshot holds."""
    return {name: array[:used].copy() for name, array in arrays(state).items()}


def restore(kind: type[S], data: Mapping[str, NDArray[Any]], room: int, cells: int, probes: int) -> S:
    """Rebuild a state from `dump`; raises ValueError where its fields are not this version's."""
    check(kind, {name: (a.dtype.str, a.shape[1:]) for name, a in data.items()}, cells, probes)
    return _laid_out(kind, max(room, *map(len, data.values())), cells, probes, data)


def layout(state: State) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Say type and shape of one slot of each array."""
    return {name: (a.dtype.str, a.shape[1:]) for name, a in arrays(state).items()}


def check(kind: type[S], given: Mapping[str, tuple[str, tuple[int, ...]]], cells: int, probes: int) -> None:
    """Raise ValueError where the layout of a snapshot is not this version's."""
    own = layout(kind.empty(0, cells, probes))
    if own != given:
        msg = f"snapshot of {kind.__name__} has {_told(given)}; this version has {_told(own)}"
        raise ValueError(msg)


def _told(fields_: Mapping[str, tuple[str, tuple[int, ...]]]) -> list[str]:
    return sorted(f"{name} {np.dtype(kind)} {tuple(shape)}" for name, (kind, shape) in fields_.items())


def _laid_out(kind: type[S], room: int, cells: int, probes: int, data: Mapping[str, NDArray[Any]]) -> S:
    """Give a state that begins with `data`; its other slots are fresh."""
    state = blank(kind, room, cells, probes)
    fresh = arrays(kind.empty(1, cells, probes))
    for name, array in arrays(state).items():
        kept = data[name]
        array[: len(kept)] = kept
        array[len(kept) :] = fresh[name]
    return state


def blank(kind: type[S], room: int, cells: int, probes: int) -> S:
    """Give a state with room for `room` packs whose values are not yet written."""
    state = kind.empty(0, cells, probes)
    for path, array in arrays(state).items():
        *inner, name = path.split(".")
        owner: Any = state
        for step in inner:
            owner = getattr(owner, step)
        setattr(owner, name, np.empty((room, *array.shape[1:]), array.dtype))
    return state


def nbytes_per_pack(state: State) -> float:
    """Measure the bytes of one slot."""
    return sum(a.nbytes for a in arrays(state).values()) / max(capacity(state), 1)
