"""The command `ibms-edge`: protect a pack from a vehicle's gateway, check a configuration, look at what runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from edge.start import lean
from schemas.checked import ConfigError

_ABOUT = """Hard protection of a battery pack from a vehicle's gateway, whatever cloud, network and disk do.
It is no certified safety element: it acts above the pack's own BMS and hardware fuses."""
_BAD = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; gives 0, 1 where a check found something, 2 where it cannot run."""
    options = _parser().parse_args(arguments)
    lean()
    try:
        return int(options.does(options))
    except ConfigError as bad:
        print(f"ibms-edge: {bad}", file=sys.stderr)
        return _BAD


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("ibms-edge", description=_ABOUT, epilog="Without a command it protects.")
    _with_config(parser, needed=False)
    parser.add_argument("--check", action="store_true", help="validate the configuration, list what it can not protect")
    parser.set_defaults(does=_run)
    commands = parser.add_subparsers(metavar="command")
    status = commands.add_parser("status", help="say what a running gateway sees, allows and commands")
    _with_config(status)
    status.add_argument("--json", action="store_true", help="as JSON")
    status.set_defaults(does=_status)
    service = commands.add_parser("service", help="tell a running gateway that somebody has looked at the pack")
    _with_config(service)
    service.set_defaults(does=_service)
    simulate = commands.add_parser("simulate", help="be a vehicle on a gateway's bus, for who has none")
    _with_config(simulate)
    simulate.add_argument("--fault", choices=("over-voltage", "crash", "silence"), default="", help="that comes")
    simulate.add_argument("--after", type=_seconds, default=30.0, metavar="S", help="seconds until then (default: 30)")
    simulate.set_defaults(does=_simulate)
    bench = commands.add_parser("bench", help="measure, on this machine, how long a command takes and what disturbs it")
    bench.add_argument("--json", action="store_true", help="as one line of JSON")
    bench.add_argument("--seconds", type=_seconds, default=60.0, help="of each scenario (default: 60)")
    bench.set_defaults(does=_bench)
    return parser


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1 <= value <= 3600:  # noqa: PLR2004 - said in the message
        msg = f"must be a number in 1..3600; got {text}"
        raise argparse.ArgumentTypeError(msg)
    return value


def _with_config(parser: argparse.ArgumentParser, *, needed: bool = True) -> None:
    parser.add_argument("--config", required=needed, metavar="FILE", help="the gateway's settings (gateway.toml)")


def _run(options: argparse.Namespace) -> int:
    if options.config is None:
        msg = "--config must name the gateway's settings (gateway.toml); got nothing"
        raise ConfigError(msg)
    from edge import gateway  # noqa: PLC0415 - other commands need neither flow nor bus

    return _check(options.config) if options.check else gateway.run(options.config)


def _check(config: str) -> int:
    from edge import check  # noqa: PLC0415 - as in _run
    from edge.settings import load_settings, prepare  # noqa: PLC0415 - as in _run
    from edge.telemetry_settings import telemetry_settings  # noqa: PLC0415 - as in _run

    prepared = prepare(load_settings(config), strict=False)
    telemetry = telemetry_settings(prepared.settings)
    good = check.may_start(prepared)
    print("\n".join([*check.lines(prepared), *check.telemetry_lines(telemetry)]))
    print("result         " + ("it may start" if good else "it does not start: rows would come too late"))
    return 0 if good else 1


def _status(options: argparse.Namespace) -> int:
    import json  # noqa: PLC0415 - as in _run

    from edge import status  # noqa: PLC0415 - as in _run
    from edge.settings import load_settings  # noqa: PLC0415 - as in _run

    page = status.fetch(load_settings(options.config).http_port)
    print(json.dumps(page) if options.json else status.words(page))
    return 0


def _service(options: argparse.Namespace) -> int:
    from edge import control  # noqa: PLC0415 - as in _run
    from edge.settings import load_settings  # noqa: PLC0415 - as in _run

    control.ask(load_settings(options.config).state_dir, control.SERVICE)
    print("asked for; the journal and `ibms-edge status` say what came of it")
    return 0


def _simulate(options: argparse.Namespace) -> int:
    import signal  # noqa: PLC0415 - as in _run

    from edge import simulate  # noqa: PLC0415 - as in _run
    from edge.settings import load_settings  # noqa: PLC0415 - as in _run

    over: list[int] = []
    for which in (signal.SIGTERM, signal.SIGINT):
        signal.signal(which, lambda number, _: over.append(number))
    settings = load_settings(options.config)
    simulate.run(settings, options.fault, options.after, lambda text: print(text, flush=True), lambda: bool(over))
    return 0


def _bench(options: argparse.Namespace) -> int:
    import json  # noqa: PLC0415 - as in _run

    from edge import bench  # noqa: PLC0415 - as in _run

    found = bench.bench(options.seconds, lambda text: print(text, file=sys.stderr))
    print(json.dumps(found) if options.json else bench.words(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
