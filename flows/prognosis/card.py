"""What stands on a model's card: data, split, figures, and what training and one prediction cost."""

from __future__ import annotations

import resource
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson

from flows.prognosis.charges import Charges
from schemas.checked import ConfigError

CARD = "card.json"
WATTS = 10.0  # of one busy core, where nothing measures it: a server's package power over its cores
_RAPL = Path("/sys/class/powercap/intel-rapl:0/energy_uj")  # Intel's counter of the package; often not readable
_MIB = 1024.0  # ru_maxrss is in KiB on Linux


def data_of(charges: Charges) -> dict[str, Any]:
    """Say which data these are: a hash over contents, wherever they were read from, and their size."""
    text = "\n".join((charges.set, *charges.cells, *charges.columns)).encode()
    arrays = (charges.cell, charges.cycle, charges.x, charges.capacity_ah)
    sha = blake2b(text + b"".join(a.tobytes() for a in arrays), digest_size=8).hexdigest()
    return {"set": charges.set, "hash": sha, "cells": len(charges.cells), "charges": len(charges)}


@contextmanager
def spending() -> Iterator[dict[str, float]]:
    """Measure what the code inside costs: processor and wall seconds, joule, the process's highest memory so far."""
    spent: dict[str, float] = {}
    cpu, wall, rapl = time.process_time(), time.perf_counter(), _rapl_j()
    yield spent
    spent["cpu_s"] = time.process_time() - cpu
    spent["wall_s"] = time.perf_counter() - wall
    spent["energy_j"] = spent["cpu_s"] * WATTS
    spent["peak_rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _MIB
    if rapl is not None and (now := _rapl_j()) is not None and now >= rapl:  # the counter wraps
        spent["rapl_package_j"] = now - rapl


def cost_of_one(predict: Callable[[], object], rounds: int = 200) -> dict[str, float]:
    """Measure one prediction: processor seconds and joule in the mean of `rounds`, and the most memory it allocates."""
    predict()
    start = time.process_time()
    for _ in range(rounds):
        predict()
    cpu = (time.process_time() - start) / rounds
    tracemalloc.start()
    predict()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {"cpu_s": cpu, "energy_j": cpu * WATTS, "allocates_kb": peak / _MIB}


def write(folder: Path, contents: dict[str, Any]) -> dict[str, Any]:
    """Write a card beside its model, with the code's version and the time; gives what it says."""
    card = {
        **contents,
        "watts_per_core": WATTS,
        "code_version": version("ibms"),
        "made_at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
    }
    option = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY
    (folder / CARD).write_bytes(orjson.dumps(card, option=option))
    return card


def read(folder: Path) -> dict[str, Any]:
    """Read a model's card; raises ConfigError."""
    try:
        card = orjson.loads((folder / CARD).read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        msg = f"a model must have its card; got {' '.join(str(error).split())} ({folder / CARD})"
        raise ConfigError(msg) from None
    missing = [k for k in ("model", "name", "data", "metrics", "gate") if not isinstance(card, dict) or k not in card]
    if missing:
        msg = f"a card must have {missing[0]}; got nothing ({folder / CARD})"
        raise ConfigError(msg)
    return dict(card)


def _rapl_j() -> float | None:
    try:
        return int(_RAPL.read_text()) * 1e-6
    except (OSError, ValueError):
        return None
