"""The job in Pathway: a custom stateful reducer by vehicle; its state is a value of the table, as bytes."""

from __future__ import annotations

import sys

import pathway as pw
from job import EPOCH_S, pack, stepper, unpack


def main(bootstrap: str, topic: str, results: str, folder: str) -> None:
    """Run until killed."""
    step = stepper()

    @pw.reducers.stateful_many
    def job(state, rows):
        kept = unpack(None if state is None else state[0])
        made = []
        for (_, value), _count in sorted(rows, key=lambda row: row[0][0]):
            result = step(kept, value)
            if result is not None:
                made.append(result.decode())
        return pack(kept), tuple(made)

    settings = {"bootstrap.servers": bootstrap, "group.id": results, "auto.offset.reset": "earliest"}
    frames = pw.io.kafka.read(
        settings, topic, format="raw", mode="streaming", with_metadata=True, autocommit_duration_ms=100,
        max_backlog_size=20_000, name="frames",
    )  # fmt: skip
    placed = frames.select(
        key=pw.this.key, data=pw.this.data, offset=pw.this._metadata["offset"].as_int()
    )  # fmt: skip
    states = placed.groupby(placed.key).reduce(placed.key, both=job(placed.offset, placed.data))
    made = states.select(made=pw.apply_with_type(lambda both: both[1], tuple[str, ...], pw.this.both))
    made = made.flatten(pw.this.made)
    pw.io.kafka.write(made, {"bootstrap.servers": bootstrap}, results, format="plaintext", value=made.made)
    pw.run(
        monitoring_level=pw.MonitoringLevel.NONE,
        persistence_config=pw.persistence.Config(
            pw.persistence.Backend.filesystem(folder),
            snapshot_interval_ms=int(EPOCH_S * 1000),
        ),
    )


main(*sys.argv[1:])
