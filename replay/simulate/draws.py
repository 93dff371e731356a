"""Random numbers by counter: the n-th draw of a key is the same whoever asks, and in whatever order."""

from __future__ import annotations

import numpy as np
from numba import njit

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # SplitMix64 (Steele, Lea, Flood 2014): step and mixer
_M1, _M2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)
_LOW = np.uint64(0xFFFF)
_S16, _S32, _S48 = np.uint64(16), np.uint64(32), np.uint64(48)


@njit(cache=True)
def bits(key, n):
    """Give 64 random bits: draw `n` of `key` (both uint64)."""
    z = key + n * _GOLDEN
    z = (z ^ (z >> _S30)) * _M1
    z = (z ^ (z >> _S27)) * _M2
    return z ^ (z >> _S31)


@njit(cache=True)
def uniform(key, n):
    """Draw from [0, 1)."""
    return float(bits(key, np.uint64(n)) >> _S11) * (1.0 / 9007199254740992.0)


@njit(cache=True)
def normal(key, n):
    """Draw with mean 0 and variance 1: the sum of four uniform numbers, so never beyond ±3.47."""
    z = bits(key, np.uint64(n))
    total = (z & _LOW) + ((z >> _S16) & _LOW) + ((z >> _S32) & _LOW) + (z >> _S48)
    return (float(total) - 131070.0) * (1.7320508075688772 / 65536.0)
