"""Which model speaks and which one runs beside it: champion and challenger, promotion and rollback."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import orjson

from flows.prognosis import card
from flows.prognosis.model import Model, load
from schemas.checked import ConfigError

_FILE = "champions.json"
Places = dict[str, dict[str, Any]]  # name → champion, challenger (hash or None), and the champions before it


def places(models: Path) -> Places:
    """Read who is champion and who challenger; nobody where nothing was trained yet.  Raises ConfigError."""
    file = models / _FILE
    if not models.is_dir():
        msg = f"--models must be a directory that `ibms train` wrote; got {models}"
        raise ConfigError(msg)
    if not file.exists():
        return {}
    try:
        found = orjson.loads(file.read_bytes())
        return {name: {k: place[k] for k in ("champion", "challenger", "before")} for name, place in found.items()}
    except (orjson.JSONDecodeError, AttributeError, TypeError, KeyError) as error:
        msg = f"places must be as `ibms models` writes them; got {type(error).__name__} {error} ({file})"
        raise ConfigError(msg) from None


def challenge(models: Path, name: str, sha: str) -> None:
    """Put a model beside the champion of `name`."""
    known = places(models)
    place = known.setdefault(name, {"champion": None, "challenger": None, "before": []})
    if sha != place["champion"]:
        place["challenger"] = sha
    _write(models, known)


def promote(models: Path, sha: str) -> str:
    """Make a model the champion of its name, and say so; raises ConfigError where its gate is shut or it is worse."""
    model = load(str(models / sha))
    name, said = model.about.name, card.read(models / sha)
    if said["gate"]:
        msg = f"a model must pass its gate; got {'; '.join(said['gate'])} ({sha})"
        raise ConfigError(msg)
    known = places(models)
    place = known.setdefault(name, {"champion": None, "challenger": None, "before": []})
    if place["champion"] == sha:
        return f"{sha} is the champion of {name} already"
    if place["champion"]:
        _refuse_worse(said, card.read(models / place["champion"]))
        place["before"] = [*place["before"], place["champion"]]
    place["champion"] = sha
    place["challenger"] = None if place["challenger"] == sha else place["challenger"]
    _write(models, known)
    return f"{sha} is now the champion of {name}"


def rollback(models: Path, name: str) -> str:
    """Give a name back to the champion before this one, which becomes the challenger; raises ConfigError."""
    known = places(models)
    if name not in known:
        msg = f"NAME must be one of {', '.join(known) or 'none yet'}; got {name} ({models / _FILE})"
        raise ConfigError(msg)
    place = known[name]
    if not place["before"]:
        msg = f"{name} must have had a champion before this one; got none ({models / _FILE})"
        raise ConfigError(msg)
    *before, last = place["before"]
    load(str(models / last))  # that it can still speak
    known[name] = {"champion": last, "challenger": place["champion"], "before": before}
    _write(models, known)
    return f"{last} is the champion of {name} again"


def champion_and_challenger(models: Path, name: str) -> tuple[Model | None, Model | None]:
    """Load both models of a name, None where there is none: they run side by side over the same charges."""
    place = places(models).get(name, {"champion": None, "challenger": None})
    champion, challenger = (load(str(models / sha)) if (sha := place[k]) else None for k in ("champion", "challenger"))
    return champion, challenger


def run_list(models: Path, *, as_json: bool) -> None:
    """Print every model with its place, its figures, and what keeps it from being promoted."""
    from rich.console import Console  # noqa: PLC0415 - for people; a flow that asks a model prints nothing
    from rich.table import Table  # noqa: PLC0415 - as above

    roles: dict[str | None, str] = {}
    for place in places(models).values():
        roles |= {place["challenger"]: "challenger", **dict.fromkeys(place["before"], "before")}
        roles[place["champion"]] = "champion"
    folders = sorted((f for f in models.iterdir() if (f / card.CARD).exists()), key=lambda f: f.name)
    rows = [{**card.read(folder), "place": roles.get(folder.name, "")} for folder in folders]
    rows.sort(key=lambda row: (row["name"], row["made_at"]))
    if as_json:
        sys.stdout.write(orjson.dumps(rows).decode() + "\n")
        return
    table = Table("name", "model", "place", "error %", "covers %", "data", "gate", box=None)
    for row in rows:
        found = row["metrics"]
        figures = (f"{found[k]:.3g}" for k in ("error_pct", "interval_90_covers_mean_of_cells_pct"))
        table.add_row(row["name"], row["model"], row["place"], *figures, row["data"]["hash"], _told(row["gate"]))
    Console(width=None if sys.stdout.isatty() else 160, highlight=False).print(table)


def _told(gate: list[str]) -> str:
    return "; ".join(gate) or "open"


def _refuse_worse(new: dict[str, Any], old: dict[str, Any]) -> None:
    """Two models that were judged on the same cells can be compared; others cannot."""
    a, b = (float(c["metrics"]["error_pct"]) for c in (new, old))
    if new["data"]["hash"] == old["data"]["hash"] and a > b:
        msg = f"a model must not be worse than its champion; got {a:.3f} against {b:.3f} % ({new['model']})"
        raise ConfigError(msg)


def _write(models: Path, known: Places) -> None:
    file = models / _FILE
    beside = file.with_suffix(".new")
    beside.write_bytes(orjson.dumps(known, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS))
    os.replace(beside, file)  # noqa: PTH105 - readers see the old file or the new one, never half
