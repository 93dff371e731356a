"""Which estimates of the pack does the gateway take from the fleet? Signed, new and plausible ones.

Pure.  The content of such a message (schemas.signed, kind `soc`) is one or more of these groups, each whole: the usable
SOC, its standard deviation and its time; what the pack holds; what its current sensor shows too much:

    {"soc": 0.63, "std": 0.02, "t_ns": 1767571200000000000,
     "capacity_ah": 52.8, "capacity_std_ah": 0.6, "offset_a": 0.31, "offset_std_a": 0.02}

It corrects what is counted and can change no limit.  A message of which one part cannot be is refused as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from edge.calibration import Calibration
from edge.cloud_limits import Judged, stamped
from edge.local_soc import LocalSocConfig, State, calibrated, taken
from schemas.signed import MALFORMED, SOC, SignedError, opened

IMPLAUSIBLE = "implausible"
_CHARGE, _CAPACITY, _OFFSET = ("soc", "std", "t_ns"), ("capacity_ah", "capacity_std_ah"), ("offset_a", "offset_std_a")
_GROUPS = (_CHARGE, _CAPACITY, _OFFSET)
STD = (0.001, 0.3)  # that a SOC may have
_MOST = 1e9  # no such number of ampere hours or ampere


def receive(
    cfg: LocalSocConfig, state: State, data: bytes, keys: Sequence[Ed25519PublicKey], vehicle: str, now_ns: int
) -> tuple[State, Judged]:
    """Judge a message's bytes at a wall-clock time, ns; what is refused changes nothing."""
    try:
        message = opened(data, keys)
    except SignedError as bad:
        return state, Judged(bad.reason, f"SOC from outside refused: {bad}")
    number, content = message.sequence, message.content
    refused = stamped(message, SOC, vehicle, state.sequence, now_ns)
    if refused:
        return state, Judged(refused[0], f"SOC {number} from outside refused: {refused[1]}", number)
    why = _malformed(content)
    if why:
        return state, Judged(MALFORMED, f"SOC {number} from outside refused: {why}", number)
    told = Calibration(**{name: float(content[name]) for name in Calibration._fields if name in content})
    made, why = calibrated(cfg, state, told)
    if not why and "soc" in content:
        made, why = taken(cfg, made, float(content["soc"]), float(content["std"]), content["t_ns"])
    # heard once is heard: a later repeat must not be judged by other knowledge
    if why:
        text = f"SOC {number} from outside refused: {why}"
        return state._replace(sequence=number), Judged(IMPLAUSIBLE, text, number)
    return made._replace(sequence=number), Judged("", f"SOC {number} from outside: {_words(content)}", number)


def _malformed(content: Mapping[str, Any]) -> str:
    """Say what the content should be; "" where it is."""
    given = [group for group in _GROUPS if group[0] in content]
    if not given or content.keys() != {name for group in given for name in group}:
        return f"content must be one or more of {'; '.join(', '.join(group) for group in _GROUPS)}, each whole"
    if _CHARGE in given:
        good = _between(content["soc"], 0.0, 1.0) and _between(content["std"], *STD) and type(content["t_ns"]) is int
        if not good:
            return f"content must be soc in 0..1, std in {STD[0]}..{STD[1]} and t_ns, a whole number"
    others = (name for group in given if group is not _CHARGE for name in group)
    wrong = next((name for name in others if not _between(content[name], -_MOST, _MOST)), "")
    return f"{wrong} must be a number; got {content[wrong]!r:.40}" if wrong else ""


def _words(content: Mapping[str, Any]) -> str:
    said = [f"{content['soc']:.3f} ± {content['std']:.3f}"] if "soc" in content else []
    said += [f"{content[a]:.4g} ± {content[b]:.2g} {unit}" for (a, b), unit in _UNITS.items() if a in content]
    return ", ".join(said)


_UNITS = {_CAPACITY: "Ah", _OFFSET: "A shown too much"}


def _between(value: object, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
