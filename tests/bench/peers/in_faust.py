"""The job in faust-streaming: an agent and a table in memory with a changelog topic."""

from __future__ import annotations

import sys

import faust
from job import EPOCH_S, pack, stepper, unpack


def main(bootstrap: str, topic: str, results: str, folder: str) -> None:
    """Run until killed."""
    app = faust.App(
        results,
        broker=f"kafka://{bootstrap}",
        store="memory://",
        datadir=folder,
        value_serializer="raw",
        key_serializer="raw",
        processing_guarantee="at_least_once",
        broker_commit_interval=EPOCH_S,
        consumer_auto_offset_reset="earliest",
        topic_partitions=PARTITIONS,
        web_enabled=False,
    )
    step = stepper()
    frames = app.topic(topic, value_type=bytes, key_type=bytes)
    out = app.topic(results, value_type=bytes, key_type=bytes)
    states = app.Table("states", partitions=PARTITIONS, key_type=bytes, value_type=bytes)

    @app.agent(frames)
    async def job(stream):
        async for key, value in stream.items():
            kept = unpack(states.get(key))
            made = step(kept, value)
            states[key] = pack(kept)
            if made is not None:
                await out.send(key=key, value=made)

    faust.Worker(app, loglevel="WARN").execute_from_commandline()


PARTITIONS = 8
main(*sys.argv[1:])
