"""Derive the shipped pack models from recordings: `python -m replay.fit_packs --data DIR [--out DIR] [PACK …]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

from replay.fit import bmw_i3, borrow, generic, leaf, lg_hg2
from replay.fit.rc import Tables
from replay.fit.render import PackSpec, render
from schemas.checked import ConfigError
from schemas.pack import PACKS_DIR, parse_pack


def specs(data: Path) -> dict[str, Callable[[], PackSpec]]:
    """Give what makes each pack from the recordings under `data`; a pack others build on is fitted once."""
    i3 = cache(lambda: bmw_i3.spec_60ah(data))
    hg2 = cache(lambda: lg_hg2.spec(data))
    leaf_24 = cache(lambda: leaf.spec_24kwh(data))

    def curves() -> dict[str, Tables]:
        return {
            "generic-nmc": generic.nmc().tables,
            "bmw-i3-60ah": i3().tables,
            "leaf-24kwh": leaf_24().tables,
            "lg-hg2": hg2().tables,
        }

    return {
        "generic-nmc": generic.nmc,
        "generic-lfp": generic.lfp,
        "bmw-i3-60ah": i3,
        "bmw-i3-120ah": lambda: bmw_i3.spec_120ah(i3()),
        "leaf-24kwh": leaf_24,
        "leaf-62kwh": lambda: borrow.spec_leaf_62kwh(data),
        "lg-hg2": hg2,
        "ev-faults-car1": lambda: borrow.spec_ev_faults(data, "car1", curves()),
        "ev-faults-car2": lambda: borrow.spec_ev_faults(data, "car2", curves()),
    }


def main(arguments: list[str] | None = None) -> int:
    """Write the named packs (all of them where none is named); exit 2 where the recordings are missing."""
    parser = argparse.ArgumentParser(prog="python -m replay.fit_packs", description=__doc__)
    parser.add_argument("packs", nargs="*", metavar="PACK", help="packs to write; all where none is named")
    parser.add_argument("--data", type=Path, required=True, help="folder of the recordings")
    parser.add_argument("--out", type=Path, default=PACKS_DIR, help="where the .toml go")
    options = parser.parse_args(arguments)
    known = specs(options.data)
    for name in options.packs or known:
        if name not in known:
            print(f"pack must be one of {', '.join(known)}; got {name!r}", file=sys.stderr)
            return 2
        try:
            spec = known[name]()
        except (OSError, ConfigError) as missing:
            print(f"{name} cannot be fitted: {missing}", file=sys.stderr)
            return 2
        text = render(spec)
        parse_pack(text.encode(), name, f"{name}.toml")
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / f"{name}.toml").write_text(text, encoding="utf-8")
        print(name)
        for key, value in spec.provenance.items():
            print(f"  {key}: {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
