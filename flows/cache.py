"""Where compiled kernels are kept: a folder that no edited kernel can share with its older self."""

from __future__ import annotations

import os
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_SOURCES = ("operators/kernels", "replay/simulate")


def use_kernel_cache() -> Path:
    """Set NUMBA_CACHE_DIR to a folder named after a hash of all kernel sources, where they lie, and numba's version.

    numba does not notice an edited helper in another file; a folder per source state does.  It looks by path too, so
    what another copy of the same sources compiled is of no use to this one.  Must run
    before numba is imported; a folder that the environment names already is left as it is.
    """
    if "NUMBA_CACHE_DIR" not in os.environ:
        digest = blake2b(f"{version('numba')}\0{_ROOT}".encode(), digest_size=8)
        for source in sorted(p for folder in _SOURCES for p in (_ROOT / folder).glob("*.py")):
            digest.update(source.name.encode() + b"\0" + source.read_bytes())
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        os.environ["NUMBA_CACHE_DIR"] = str(home / "ibms" / f"kernels-{digest.hexdigest()}")
    return Path(os.environ["NUMBA_CACHE_DIR"])
