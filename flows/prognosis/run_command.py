"""The commands `ibms run prognostics`, `twin`, `mission`, `electrodes` and `order calibrate`: what a person types."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def add(run: typer.Typer, app: typer.Typer, order: typer.Typer) -> None:
    """Add these commands to `ibms run`, to `ibms` and to `ibms order`."""
    run.command("prognostics")(run_prognostics)
    order.command("calibrate")(calibrate)
    app.command("twin")(twin)
    app.command("electrodes")(electrodes)
    app.command("mission")(mission)


def run_prognostics(
    lake: Annotated[Path | None, typer.Option("--lake", help="A lake whose sessions are judged.")] = None,
    config: Annotated[Path | None, typer.Option(help="Settings, TOML, instead: of a run from Kafka, for one.")] = None,
    out: Annotated[Path | None, typer.Option(help="Lake for the results; by default the same.")] = None,
    recovery: Annotated[
        Path | None, typer.Option(help="Keep state here: the next run goes on with what is new in the lake.")
    ] = None,
    models: Annotated[Path | None, typer.Option(help="Directory of trained models.")] = None,
    model: Annotated[str, typer.Option(help="Which of them speaks of health, e.g. soh/XJTU/count.")] = "",
    life: Annotated[str, typer.Option(help="Which of them speaks of the life left, e.g. rul/XJTU/count.")] = "",
) -> None:
    """Judge charges, follow each pack's health through them, and say how long it will go on."""
    from flows.prognostics_run import run_configured, run_on_lake  # noqa: PLC0415 - so that help is quick

    if (lake is None) == (config is None):
        msg = f"one of --lake and --config must be given; got {'both' if lake else 'neither'}"
        raise typer.BadParameter(msg)
    if config is not None:
        run_configured(config)
    elif lake is not None:
        run_on_lake(lake, out, models, (model, life), recovery)


def twin(
    vehicle: Annotated[str, typer.Argument(help="Vehicle id.")],
    profile: Annotated[Path, typer.Option(help="CSV or Parquet: t_s, current_a or power_w, ambient_c if known.")],
    lake: Annotated[Path, typer.Option("--lake", help="The lake that knows the vehicle's pack.")] = Path("lake"),
    out: Annotated[Path | None, typer.Option(help="Parquet file for the prediction, row by row.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Predict what a drive or charge would do to a vehicle's pack: voltage, heat, energy, limits, wear."""
    from flows.twin import run_twin  # noqa: PLC0415 - so that help is quick

    run_twin(vehicle, profile, lake, out, as_json=json)


def calibrate(
    key: Annotated[Path, typer.Option(help="Private key that signs.")],
    lake: Annotated[Path, typer.Option("--lake", help="The lake that knows the packs.")] = Path("lake"),
    vehicle: Annotated[str, typer.Option(help="This vehicle only; by default every one in the lake.")] = "",
    limits: Annotated[
        bool, typer.Option("--limits", help="Currents for aged packs too; they replace limits ordered before.")
    ] = False,
    hours: Annotated[float, typer.Option(min=0.01, max=720, help="How long the words may be taken.")] = 24.0,
    out: Annotated[Path | None, typer.Option(help="Folder for the messages, VEHICLE.soc and VEHICLE.limits.")] = None,
    config: Annotated[Path | None, typer.Option(help="Settings with a table [kafka]: send them.")] = None,
) -> None:
    """Tell vehicles what the fleet knows of their packs: SOC, capacity, error of the current sensor."""
    from flows.calibrate import CalibrateOptions, run_calibrate  # noqa: PLC0415 - so that help is quick

    run_calibrate(CalibrateOptions(lake, vehicle, limits, hours, out, config), key)


def electrodes(
    source: Annotated[Path, typer.Argument(help="A lake that keeps frames, or a file of t_s, current_a, cell_v.")],
    pack: Annotated[str, typer.Option(help="Pack model: of a file; of a lake, only packs of this model.")] = "",
    parameters: Annotated[str, typer.Option(help="Parameter set of PyBaMM; by default that of the chemistry.")] = "",
    sample: Annotated[int, typer.Option(min=1, max=1000, help="Packs of the lake that are read.")] = 10,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON array and nothing else.")] = False,
) -> None:
    """Read lithium and active material lost from slow charges, checked by PyBaMM's single-particle model; offline."""
    from flows.electrodes import run_electrodes  # noqa: PLC0415 - so that help is quick

    run_electrodes(source, pack, parameters, sample, as_json=json)


def mission(
    power_w: Annotated[float, typer.Option(help="The largest power, held for 10 s at the beginning and the end.")],
    energy_wh: Annotated[float, typer.Option(help="The energy that is drawn in all.")],
    minutes: Annotated[float, typer.Option(help="The time in which it is drawn.")],
    vehicle: Annotated[str | None, typer.Argument(help="Vehicle id; by default each vehicle of the lake.")] = None,
    lake: Annotated[Path, typer.Option("--lake", help="The lake that knows the packs.")] = Path("lake"),
    confidence: Annotated[float, typer.Option(min=0.5, max=0.9999, help="How sure it must be.")] = 0.95,
    ambient_c: Annotated[float | None, typer.Option(help="Air around; by default as warm as the pack.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")] = False,
) -> None:
    """Say which vehicles can do a mission, how sure that is, and what would end it; exit code 1 where one cannot."""
    from flows.mission import run_mission  # noqa: PLC0415 - so that help is quick
    from operators.kernels.mission import Mission  # noqa: PLC0415

    try:
        asked = Mission(power_w, energy_wh, minutes * 60.0)
    except ValueError as wrong:
        raise typer.BadParameter(str(wrong)) from None
    if not run_mission(vehicle, asked, lake, confidence=confidence, ambient_c=ambient_c, as_json=json):
        raise typer.Exit(1)
