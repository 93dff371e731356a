"""How state is kept: dataclasses of arrays with one slot per pack, which grow, are copied and are packed."""

from __future__ import annotations

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
    new = type(state).empty(room, cells, probes)
    old = arrays(state)
    for name, array in arrays(new).items():
        kept = old[name][slots]
        array[: len(kept)] = kept
    return new


def dump(state: State, used: int) -> dict[str, NDArray[Any]]:
    """Copy the first `used` slots, so that later steps never write into what a snapshot holds."""
    return {name: array[:used].copy() for name, array in arrays(state).items()}


def restore(kind: type[S], data: dict[str, NDArray[Any]], room: int, cells: int, probes: int) -> S:
    """Rebuild a state from `dump`; raises ValueError where its fields are not this version's."""
    state = kind.empty(0, cells, probes)
    own = {name: f"{name} {a.dtype} {a.shape[1:]}" for name, a in arrays(state).items()}
    given = {name: f"{name} {a.dtype} {a.shape[1:]}" for name, a in data.items()}
    if own != given:
        msg = f"snapshot of {kind.__name__} has {sorted(given.values())}; this version has {sorted(own.values())}"
        raise ValueError(msg)
    for path, array in data.items():
        *inner, name = path.split(".")
        owner: Any = state
        for step in inner:
            owner = getattr(owner, step)
        setattr(owner, name, array.copy())
    return state if room <= capacity(state) else moved(state, slice(None), room, cells, probes)


def nbytes_per_pack(state: State) -> float:
    """Measure the bytes of one slot."""
    return sum(a.nbytes for a in arrays(state).values()) / max(capacity(state), 1)
