"""The commands `ibms train soh|rul` and `ibms models`: what a person types."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[
    Path | None, typer.Option(help="Sets of cells: Parquet with dataset, cell, cycle, capacity and columns.")
]
OwnLake = Annotated[Path | None, typer.Option("--lake", help="Or a lake's own history, each pack model a set.")]
Out = Annotated[Path, typer.Option(help="Directory of models.")]
Sets = Annotated[list[str] | None, typer.Option("--set", help="Train this set only; may be repeated.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of folds, trees and centres.")]
ValidFrom = Annotated[str, typer.Option(help="The model speaks of charges that end after this time, ISO 8601.")]
Models = Annotated[Path, typer.Option("--models", help="Directory of models.")]


def add(train: typer.Typer, app: typer.Typer) -> None:
    """Add these commands to `ibms train` and to `ibms`."""
    train.command("soh")(train_soh)
    train.command("rul")(train_rul)
    models = typer.Typer(no_args_is_help=True, help="Models of health and life: who speaks, who runs beside.")
    models.command("list")(models_list)
    models.command("promote")(models_promote)
    models.command("rollback")(models_rollback)
    app.add_typer(models, name="models")


def train_soh(
    data: Data = None,
    lake: OwnLake = None,
    out: Out = Path("models"),
    sets: Sets = None,
    inputs: Annotated[
        str, typer.Option(help="charge, count (and how many cycles), or reference (and every 50th capacity).")
    ] = "count",
    seed: Seed = 1,
    valid_from: ValidFrom = "1970-01-01T00:00:00Z",
) -> None:
    """Train models of health on sets of cells, or on a lake's own packs, each with its card, as challengers."""
    from flows.prognosis.features import INPUTS  # noqa: PLC0415 - a command imports what it needs, so that help is quick
    from flows.prognosis.train import TrainOptions, run_train  # noqa: PLC0415 - as above
    from flows.settings import time_ns  # noqa: PLC0415 - as above

    if inputs not in INPUTS:
        msg = f"must be one of {', '.join(INPUTS)}; got {inputs}"
        raise typer.BadParameter(msg, param_hint="--inputs")
    if lake is not None and inputs == "reference":
        msg = "must be charge or count with --lake: nobody measures a pack's capacity every 50th charge; got reference"
        raise typer.BadParameter(msg, param_hint="--inputs")
    valid_ns = time_ns(valid_from, "--valid-from")
    run_train(TrainOptions(_one(data, lake), out, tuple(sets or ()), inputs, seed, valid_ns, lake), "soh")


def train_rul(
    data: Data = None,
    lake: OwnLake = None,
    out: Out = Path("models"),
    sets: Sets = None,
    seed: Seed = 1,
    valid_from: ValidFrom = "1970-01-01T00:00:00Z",
) -> None:
    """Train models of the cycles left on cells, or on a lake's own packs, that reached their end, as challengers."""
    from flows.prognosis.rul import INPUTS  # noqa: PLC0415 - as above
    from flows.prognosis.train import TrainOptions, run_train  # noqa: PLC0415 - as above
    from flows.settings import time_ns  # noqa: PLC0415 - as above

    valid_ns = time_ns(valid_from, "--valid-from")
    run_train(TrainOptions(_one(data, lake), out, tuple(sets or ()), INPUTS, seed, valid_ns, lake), "rul")


def _one(data: Path | None, lake: Path | None) -> Path | None:
    if (data is None) == (lake is None):
        msg = f"one of --data and --lake must be given; got {'both' if lake else 'neither'}"
        raise typer.BadParameter(msg)
    return data


def models_list(
    models: Models = Path("models"),
    json: Annotated[bool, typer.Option("--json", help="Print the cards as one JSON array and nothing else.")] = False,
) -> None:
    """List every model with its place, its figures and its gate."""
    from flows.prognosis.registry import run_list  # noqa: PLC0415 - as above

    run_list(models, as_json=json)


def models_promote(
    sha: Annotated[str, typer.Argument(metavar="HASH", help="The model.")], models: Models = Path("models")
) -> None:
    """Make a model the champion of its name, where its gate is open."""
    from flows.prognosis.registry import promote  # noqa: PLC0415 - as above

    typer.echo(promote(models, sha))


def models_rollback(
    name: Annotated[str, typer.Argument(help="As `ibms models list` shows it, e.g. soh/XJTU/count.")],
    models: Models = Path("models"),
) -> None:
    """Give a name back to the champion before this one."""
    from flows.prognosis.registry import rollback  # noqa: PLC0415 - as above

    typer.echo(rollback(models, name))
