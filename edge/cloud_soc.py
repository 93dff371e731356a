"""Which estimates of the charge does the gateway take from the fleet? Signed, new and plausible ones.

Pure.  The content of such a message (schemas.signed, kind `soc`): the usable SOC, its standard deviation, its time:

    {"soc": 0.63, "std": 0.02, "t_ns": 1767571200000000000}
"""

from __future__ import annotations

from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from edge.cloud_limits import Judged, stamped
from edge.local_soc import LocalSocConfig, State, taken
from schemas.signed import MALFORMED, SOC, SignedError, opened

IMPLAUSIBLE = "implausible"
_FIELDS = ("soc", "std", "t_ns")
_STD = (0.001, 0.3)


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
    soc, std, t_ns = (content.get(name) for name in _FIELDS)
    good = len(content) == len(_FIELDS) and _between(soc, 0.0, 1.0) and _between(std, *_STD) and type(t_ns) is int
    if not good:
        accepted = f"soc in 0..1, std in {_STD[0]}..{_STD[1]} and t_ns, a whole number"
        return state, Judged(MALFORMED, f"SOC {number} from outside refused: content must be {accepted}", number)
    made, why = taken(cfg, state, float(soc), float(std), t_ns)  # type: ignore[arg-type] # checked
    made = made._replace(sequence=number)  # heard once is heard: a later repeat must not be judged by other knowledge
    if why:
        return made, Judged(IMPLAUSIBLE, f"SOC {number} from outside refused: {why}", number)
    return made, Judged("", f"SOC {number} from outside: {soc:.3f} ± {std:.3f}", number)


def _between(value: object, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
