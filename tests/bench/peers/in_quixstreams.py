"""The job in Quix Streams: a stateful callback by key, state as bytes in RocksDB with a changelog topic."""

from __future__ import annotations

import sys

from job import EPOCH_S, pack, stepper, unpack
from quixstreams import Application


def main(bootstrap: str, topic: str, results: str, folder: str) -> None:
    """Run until killed."""
    app = Application(
        broker_address=bootstrap,
        consumer_group=results,
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        commit_interval=EPOCH_S,
        state_dir=folder,
        loglevel="WARNING",
    )
    step = stepper()

    def job(value, state):
        kept = unpack(state.get_bytes("state"))
        made = step(kept, value)
        state.set_bytes("state", pack(kept))
        return made

    frames = app.dataframe(app.topic(topic, value_deserializer="bytes", key_deserializer="bytes"))
    made = frames.apply(job, stateful=True).filter(lambda result: result is not None)
    made.to_topic(app.topic(results, value_serializer="bytes", key_serializer="bytes"))
    app.run()


main(*sys.argv[1:])
