"""What may the fleet know better of a pack than its gateway? Its capacity, and the error of its current sensor.

Pure.  It moves what is counted and nothing else: limits and protection never see it.  Each value is taken within bounds
around what this kind of pack has when new, and holds until another word comes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

AGED, NEW = 0.5, 1.05  # share of a new pack's capacity that a pack can have
MOST_OFFSETS = 5.0  # standard deviations of a current sensor that its error may be
_STD = (1e-4, 0.2)  # of the capacity, as a share of it


class Calibration(NamedTuple):
    """Capacity and error of the current sensor, each with its standard deviation; NaN = nobody said."""

    capacity_ah: float = math.nan
    capacity_std_ah: float = math.nan
    offset_a: float = math.nan  # shown too much
    offset_std_a: float = math.nan


NONE = Calibration()
FIELDS = Calibration._fields


def wrong(told: Calibration, new_ah: float, sensor_a: float) -> str:
    """Say why it cannot be of a pack that has `new_ah` when new, and a sensor as good as `sensor_a`; "": it can."""
    capacity, std, offset, offset_std = told
    low, high = AGED * new_ah, NEW * new_ah
    if not math.isnan(capacity):
        if not low <= capacity <= high:
            return f"capacity_ah must be in {low:.4g}..{high:.4g} for this pack; got {capacity:g}"
        if not _STD[0] * capacity <= std <= _STD[1] * capacity:
            return f"capacity_std_ah must be in {_STD[0] * capacity:.2g}..{_STD[1] * capacity:.4g}; got {std:g}"
    most = MOST_OFFSETS * sensor_a
    if not math.isnan(offset):
        if not abs(offset) <= most:
            return f"offset_a must be in {-most:.3g}..{most:.3g} for this sensor; got {offset:g}"
        if not 0.0 < offset_std <= most:
            return f"offset_std_a must be > 0 and ≤ {most:.3g}; got {offset_std:g}"
    return ""


def joined(before: Calibration, told: Calibration) -> Calibration:
    """Take what was told, and keep the rest."""
    capacity = before[:2] if math.isnan(told.capacity_ah) else told[:2]
    offset = before[2:] if math.isnan(told.offset_a) else told[2:]
    return Calibration(*capacity, *offset)


def dump(known: Calibration) -> dict[str, float]:
    """Write what is known as JSON values."""
    return {name: value for name, value in known._asdict().items() if not math.isnan(value)}


def load(kept: Mapping[str, Any], new_ah: float, sensor_a: float) -> Calibration:
    """Read what `dump` wrote; what cannot be of this pack is not known."""
    values = [kept.get(name) for name in FIELDS]
    numbers = [float(v) if isinstance(v, int | float) and not isinstance(v, bool) else math.nan for v in values]
    pairs = Calibration(*numbers[:2]), Calibration(offset_a=numbers[2], offset_std_a=numbers[3])
    good = [one for one in pairs if not wrong(one, new_ah, sensor_a)]
    return joined(joined(NONE, good[0]), good[-1]) if good else NONE
