"""How does one of the gateway's processes start fast and small: `python -m edge.start FLOW CONFIG LINK`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

# python-can's readers of trace files, and Arrow, import these where they are installed: 80 MB and half a second
_UNUSED = ("asammdf", "pandas")


class _Absent:
    """Finds nothing where something is; an entry None in sys.modules would do for Python, but not for Arrow."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Refuse what is never used."""
        if name in _UNUSED:
            msg = f"{name} is left out"
            raise ModuleNotFoundError(msg, name=name)


def lean() -> None:
    """Leave out what a gateway never uses; call it before python-can or cantools is imported."""
    if not any(isinstance(one, _Absent) for one in sys.meta_path):
        sys.meta_path.insert(0, _Absent())


def main(arguments: Sequence[str]) -> int:
    """Run the flow that the first argument names."""
    lean()
    module = importlib.import_module(f"edge.{arguments[0]}")
    code: int = module.main(arguments[1:])
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
