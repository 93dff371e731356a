"""How does one of the gateway's processes start fast and small: `python -m edge.start FLOW CONFIG LINK`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

# python-can's readers of trace files import these where they happen to be installed: 80 MB and half a second
_UNUSED = ("asammdf", "pandas")


def lean() -> None:
    """Leave out what a gateway never uses; call it before python-can or cantools is imported."""
    for name in _UNUSED:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]


def main(arguments: Sequence[str]) -> int:
    """Run the flow that the first argument names."""
    lean()
    module = importlib.import_module(f"edge.{arguments[0]}")
    code: int = module.main(arguments[1:])
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
