"""The command `ibms`: what a person types, and how an error reaches them."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from flows.cache import use_kernel_cache
from flows.explain import INTERRUPTED, explain
from flows.prognosis import commands as prognosis
from flows.prognosis import run_command

app = typer.Typer(
    name="ibms",
    help="Streaming battery management for electric-vehicle fleets.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
run_app = typer.Typer(no_args_is_help=True, help="Run a flow until its input ends.")
train_app = typer.Typer(no_args_is_help=True, help="Train a model, in a fixed order.")
app.add_typer(run_app, name="run")
app.add_typer(train_app, name="train")
prognosis.add(train_app, app)
kafka_app = typer.Typer(no_args_is_help=True, help="The broker's topics.")
app.add_typer(kafka_app, name="kafka")
letters_app = typer.Typer(no_args_is_help=True, help="What was refused: list it, show it, send it once more.")
app.add_typer(letters_app, name="deadletters")
order_app = typer.Typer(no_args_is_help=True, help="Tell a vehicle something, signed: it only tightens limits.")
app.add_typer(order_app, name="order")
run_command.add(run_app, app, order_app)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Config = Annotated[Path, typer.Option(help="Settings, TOML, with a table [kafka].")]
Lake = Annotated[Path, typer.Option("--lake", help="The lake's directory.")]

_STDOUT = 1


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"ibms {version('ibms')}")
        raise typer.Exit


@app.callback()
def _options(
    show: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Streaming battery management for electric-vehicle fleets."""


@app.command()
def demo(
    vehicles: Annotated[int, typer.Option(min=1, help="Vehicles to simulate.")] = 200,
    hours: Annotated[float, typer.Option(min=0.05, max=87_840, help="Hours of driving, charging and parking.")] = 24.0,
    period: Annotated[float, typer.Option(min=0.1, max=600, help="Seconds between frames.")] = 10.0,
    out: Annotated[Path | None, typer.Option(help="Where the lake goes; a new directory by default.")] = None,
    json: Json = False,
) -> None:
    """Simulate a fleet with faults, run the fleet flow into a lake, replay a CAN trace, and report."""
    from flows.demo import run_demo  # noqa: PLC0415 - a command imports what it needs, so that help is quick

    run_demo(vehicles, hours, period, out, as_json=json)


@app.command()
def replay(
    traces: Annotated[
        list[Path],
        typer.Argument(help="CAN traces, tables or files of frames (.log .asc .blf .trc .mf4 .csv .parquet; .gz)."),
    ],
    pack: Annotated[
        str, typer.Option(help="Pack model, e.g. bmw-i3-60ah or generic-nmc@96c16t60ah; a table may say it itself.")
    ] = "",
    dbc: Annotated[str, typer.Option(help="DBC file, or the name of one that ships.")] = "",
    map_: Annotated[str, typer.Option("--map", help="Mapping TOML; found by the DBC's name where left out.")] = "",
    vehicle: Annotated[str, typer.Option(help="Vehicle id; by default the file's name.")] = "",
    period: Annotated[
        float | None, typer.Option(min=0, max=3600, help="Seconds between assembled frames; by default the mapping's.")
    ] = None,
    speed: Annotated[str, typer.Option(help="max, or times real time, e.g. 1 or 10.")] = "max",
    start: Annotated[str, typer.Option(help="Start of traces that have relative times, ISO 8601.")] = "",
    from_: Annotated[str, typer.Option("--from", help="First time to replay, ISO 8601.")] = "",
    to: Annotated[str, typer.Option("--to", help="Time to stop before, ISO 8601.")] = "",
    out: Annotated[Path | None, typer.Option(help="Lake directory to write (default ./lake).")] = None,
    frames: Annotated[
        Path | None, typer.Option(help="Write the frames to this Parquet file instead; replay reads it.")
    ] = None,
    can: Annotated[str, typer.Option(help="Send raw CAN frames to INTERFACE:CHANNEL instead.")] = "",
    keep_frames: Annotated[bool, typer.Option("--keep-frames", help="Keep the raw frames in the lake too.")] = False,
    encrypt: Annotated[bool, typer.Option("--encrypt", help="Encrypt the data files of a new lake.")] = False,
) -> None:
    """Feed recorded traces through the fleet flow, exactly as live frames go."""
    from flows.replay import ReplayOptions, run_replay  # noqa: PLC0415 - see demo
    from flows.traces import TraceOptions  # noqa: PLC0415 - see demo

    trace = TraceOptions(tuple(map(str, traces)), pack, dbc, map_, vehicle, period, start, from_, to)
    run_replay(ReplayOptions(trace, speed, out, frames, can, keep_frames=keep_frames, encrypt=encrypt))


@app.command()
def simulate(
    vehicles: Annotated[int, typer.Option(min=1, help="Vehicles.")] = 10,
    hours: Annotated[float, typer.Option(min=0.05, max=87_840, help="Hours.")] = 24.0,
    period: Annotated[float, typer.Option(min=0.1, max=600, help="Seconds between frames.")] = 10.0,
    pack: Annotated[str, typer.Option(help="Pack model.")] = "generic-nmc@96c16t60ah",
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same fleet.")] = 1,
    faults: Annotated[bool, typer.Option(help="Schedule faults.")] = True,
    frames: Annotated[Path, typer.Option(help="Parquet file to write; truth goes beside it.")] = Path("fleet.parquet"),
) -> None:
    """Write a simulated fleet's frames and their truth to Parquet."""
    from flows.settings import SimulateSettings  # noqa: PLC0415 - see demo
    from flows.simulate import run_simulate  # noqa: PLC0415 - see demo

    run_simulate(SimulateSettings(vehicles, hours, period, (pack,), seed, faults), frames)


@run_app.command("fleet")
def run_fleet(
    config: Annotated[Path, typer.Option(help="Settings, TOML.")],
    process: Annotated[int | None, typer.Option(help="Number of this process in a cluster, from 0.")] = None,
    addresses: Annotated[str, typer.Option(help="host:port of every process of the cluster, by comma.")] = "",
    processes: Annotated[
        int, typer.Option(min=0, max=256, help="Start and supervise this many processes on this machine.")
    ] = 0,
    supervisor: Annotated[int, typer.Option(hidden=True, help="Process that this one must not outlive.")] = 0,
) -> None:
    """Run the fleet flow as a settings file says."""
    if supervisor:
        from flows.supervisor import end_with  # noqa: PLC0415 - see demo

        end_with(supervisor)
    if processes:
        from flows.supervisor import supervise  # noqa: PLC0415 - see demo

        raise typer.Exit(supervise(config, processes))
    from flows.fleet_run import run_configured  # noqa: PLC0415 - see demo

    run_configured(config, process, addresses.split(",") if addresses else None, supervised=bool(supervisor))


@kafka_app.command("init")
def kafka_init(
    config: Config,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and change nothing.")] = False,
) -> None:
    """Make topics, add partitions and set retention as declared; show what, and what is left alone, first."""
    from flows.kafka_admin import run_init  # noqa: PLC0415 - see demo

    run_init(config, dry_run=dry_run)


@kafka_app.command("send")
def kafka_send(
    files: Annotated[list[Path], typer.Argument(help="Files of frames, or folders of gateways' uplinks.")],
    config: Config,
    encoding: Annotated[str, typer.Option(help="arrow or json.")] = "arrow",
    frames: Annotated[int, typer.Option(min=1, max=10_000, help="Frames of a pack in one message.")] = 10,
) -> None:
    """Send recorded or simulated frames, or what a gateway left in a folder, to the topics, as gateways do."""
    from flows.kafka_send import run_send  # noqa: PLC0415 - see demo

    run_send(config, files, encoding, frames)


@letters_app.command("list")
def deadletters_list(config: Config, json: Json = False) -> None:
    """Count dead letters by reason, with first and last time."""
    from flows.deadletters import run_list  # noqa: PLC0415 - see demo

    run_list(config, as_json=json)


@letters_app.command("show")
def deadletters_show(letter: Annotated[str, typer.Argument(help="Its id, or the beginning.")], config: Config) -> None:
    """Show one with headers and bytes, decoded as far as possible."""
    from flows.deadletters import run_show  # noqa: PLC0415 - see demo

    run_show(config, letter)


@letters_app.command("resubmit")
def deadletters_resubmit(
    config: Config,
    letter: Annotated[str, typer.Argument(help="Its id, or the beginning.")] = "",
    reason: Annotated[str, typer.Option(help="All of this reason.")] = "",
) -> None:
    """Send to the topic that it came from, marked by a header, and never twice."""
    from flows.deadletters import run_resubmit  # noqa: PLC0415 - see demo

    run_resubmit(config, letter, reason)


@train_app.command("anomaly")
def train_anomaly(
    model: Annotated[Path, typer.Option(help="File to write.")] = Path("anomaly.json"),
    lake: Lake = Path("lake"),
    until: Annotated[str, typer.Option(help="Use windows that end before this time, ISO 8601.")] = "",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the trees.")] = 1,
) -> None:
    """Train the fleet anomaly model on a lake's windows."""
    from flows.train import run_train_anomaly  # noqa: PLC0415 - see demo

    run_train_anomaly(lake, model, until, seed)


@app.command()
def doctor(config: Annotated[Path, typer.Option(help="Settings of a run, TOML.")]) -> None:
    """Check settings, packs, broker, topics, clock and disks, and say what to do."""
    from flows.doctor import run_doctor  # noqa: PLC0415 - see demo

    raise typer.Exit(run_doctor(config))


@app.command()
def status(
    config: Annotated[Path, typer.Option(help="Settings of the run, TOML.")],
    once: Annotated[bool, typer.Option("--once", help="Show it once and end.")] = False,
) -> None:
    """Show the processes of a run on this machine: rates, lag, last epoch."""
    from flows.status import run_status  # noqa: PLC0415 - see demo

    run_status(config, once=once)


@app.command()
def query(
    sql: Annotated[str | None, typer.Argument(help="SQL; without it tables and views are listed.")] = None,
    lake: Lake = Path("lake"),
    format_: Annotated[str, typer.Option("--format", help="table, csv, json or parquet.")] = "table",
    out: Annotated[Path | None, typer.Option(help="File to write instead of standard output.")] = None,
) -> None:
    """Ask the lake in SQL."""
    from flows.query import run_query  # noqa: PLC0415 - see demo

    run_query(lake, sql, format_, out or sys.stdout)


@app.command()
def repair(
    pack: Annotated[str, typer.Argument(help="Pack id.")],
    from_: Annotated[str, typer.Option("--from", help="First time to correct, ISO 8601; by default all.")] = "",
    to: Annotated[str, typer.Option("--to", help="Time to stop before, ISO 8601.")] = "",
    lake: Annotated[Path | None, typer.Option(help="The lake's directory, where it is not that of --config.")] = None,
    config: Annotated[Path | None, typer.Option(help="Settings of the run that wrote the lake, TOML.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be corrected and change nothing.")] = False,
) -> None:
    """Run a pack's kept frames once more, in order and with late ones, and correct the lake's records."""
    from flows.repair import RepairOptions, run_repair  # noqa: PLC0415 - see demo

    run_repair(RepairOptions(pack, from_, to, lake, config, dry_run))


@app.command()
def compare(
    run_a: Annotated[Path, typer.Argument(help="Lake of one run.")],
    run_b: Annotated[Path, typer.Argument(help="Lake of another run over the same trace.")],
    tolerance: Annotated[float, typer.Option(min=0, help="Relative difference that counts as equal.")] = 1e-6,
    json: Json = False,
) -> None:
    """Say what changed between two runs: incidents, sessions, and windows beyond tolerance."""
    from flows.compare import run_compare  # noqa: PLC0415 - see demo

    if run_compare(run_a, run_b, tolerance, as_json=json):
        raise typer.Exit(1)


@app.command()
def bench(
    stage: Annotated[str | None, typer.Argument(help="One stage; all by default.")] = None,
    data: Annotated[Path | None, typer.Option(help="Recorded data (IBMS_DATA).")] = None,
    vehicles: Annotated[int, typer.Option(min=2, help="Of each simulated fault, for diagnosis and anomaly.")] = 50,
    healthy: Annotated[int, typer.Option(min=1, help="Vehicles without a fault for a month, for diagnosis.")] = 60,
    bootstrap: Annotated[str | None, typer.Option(help="Broker for the stage kafka; one is started else.")] = None,
    json: Json = False,
) -> None:
    """Measure speed stage by stage; `kafka` on a broker; `accuracy` on recordings; `diagnosis`, `anomaly` on faults."""
    from flows.bench.report import run_bench  # noqa: PLC0415 - see demo

    run_bench(stage, data, vehicles, healthy, as_json=json, bootstrap=bootstrap)


@order_app.command("key")
def order_key(
    path: Annotated[Path, typer.Argument(help="Private key to make; the public one goes to PATH.pub.")],
) -> None:
    """Make a pair of Ed25519 keys: one signs, the other goes onto gateways."""
    from flows.orders import run_key  # noqa: PLC0415 - see demo

    run_key(path)


@order_app.command("limits")
def order_limits(
    key: Annotated[Path, typer.Option(help="Private key that signs.")],
    vehicle: Annotated[str, typer.Option(help="Vehicle id.")],
    pack: Annotated[str, typer.Option(help="Pack model: what would loosen its limits is refused.")],
    charge: Annotated[float | None, typer.Option(min=0, help="Largest charge current, A.")] = None,
    discharge: Annotated[float | None, typer.Option(min=0, help="Largest discharge current, A.")] = None,
    bound: Annotated[list[str] | None, typer.Option(help="ROW=BOUND, as cell_v/MSL/over/any=4.2; repeatable.")] = None,
    hours: Annotated[float, typer.Option(min=0.01, max=720, help="How long it holds.")] = 24.0,
    out: Annotated[Path | None, typer.Option(help="File to write.")] = None,
    config: Annotated[Path | None, typer.Option(help="Settings with a table [kafka]: send it.")] = None,
) -> None:
    """Tighten a vehicle's limits for some hours; each message replaces the one before, none at all takes it back."""
    from flows.orders import LimitsOrder, run_limits  # noqa: PLC0415 - see demo

    run_limits(LimitsOrder(vehicle, pack, charge, discharge, bound or [], hours), key, out, config)


@order_app.command("soc")
def order_soc(
    key: Annotated[Path, typer.Option(help="Private key that signs.")],
    vehicle: Annotated[str, typer.Option(help="Vehicle id.")],
    soc: Annotated[float, typer.Option(min=0, max=1, help="Usable state of charge, 0..1.")],
    std: Annotated[float, typer.Option(min=0.001, max=0.3, help="Its standard deviation.")],
    time: Annotated[str, typer.Option(help="When it was so; now by default, at most 90 minutes ago.")] = "",
    hours: Annotated[float, typer.Option(min=0.01, max=720, help="How long it may be taken.")] = 1.0,
    out: Annotated[Path | None, typer.Option(help="File to write.")] = None,
    config: Annotated[Path | None, typer.Option(help="Settings with a table [kafka]: send it.")] = None,
) -> None:
    """Tell a vehicle how full its pack is; it weighs that against what it has counted."""
    from flows.orders import SocOrder, run_soc  # noqa: PLC0415 - see demo

    run_soc(SocOrder(vehicle, soc, std, time, hours), key, out, config)


def main() -> None:
    """Run the command; any error is one line on standard error, with exit code 2, or 1 where the run broke."""
    usage = typer.BadParameter.__base__  # of every way to mistype a command
    assert usage is not None
    try:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # small matrices: its threads only wait for each other
        use_kernel_cache()
        code = app(standalone_mode=False) or 0
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(INTERRUPTED)
    except (BrokenPipeError, SystemExit):  # the reader left, and nothing is wrong; typer turns one into the other
        os.dup2(os.open(os.devnull, os.O_WRONLY), _STDOUT)
        code = 0
    except Exception as error:
        if "IBMS_TRACEBACK" in os.environ:
            raise
        text, code = _said(error, usage)
        if text:
            sys.stderr.write(f"ibms: {' '.join(text.split())}\n")
    except BaseException as error:  # how the runtime's own threads end, as where a peer has died
        if type(error).__name__ != "PanicException":
            raise
        sys.stderr.write(f"ibms: the runtime broke off: {' '.join(str(error).split())}\n")
        code = 1
    sys.exit(code)


def _said(error: Exception, usage: type) -> tuple[str, int]:
    """Say in words what was wrong, and give the exit code, as `explain`; also for a command that was mistyped."""
    if isinstance(error, usage):
        if type(error).__name__ == "NoArgsIsHelpError":  # the help is printed already
            return "", 2
        return _mistyped(error), 2
    return explain(error)


def _mistyped(error: Exception) -> str:
    """Give the message of a usage error, with the wrong value where it leaves that out."""
    text = str(error.format_message())  # type: ignore[attr-defined] # what every usage error has
    details = getattr(error.__cause__, "errors", None)
    return f"{text}; got {details()[0]['input']}" if details else text


if __name__ == "__main__":
    main()
