"""The job in PyFlink: a keyed process function inside the JVM, state as bytes on its heap, checkpoints to files."""

from __future__ import annotations

import sys
from pathlib import Path

from job import EPOCH_S, pack, stepper, unpack
from pyflink.common import Configuration, SimpleStringSchema, Types, WatermarkStrategy
from pyflink.datastream import CheckpointingMode, KeyedProcessFunction, StreamExecutionEnvironment
from pyflink.datastream.connectors.base import DeliveryGuarantee
from pyflink.datastream.connectors.kafka import (
    KafkaOffsetsInitializer,
    KafkaRecordSerializationSchema,
    KafkaSink,
    KafkaSource,
)
from pyflink.datastream.state import ValueStateDescriptor

_NAME = '"pack":"'


class Job(KeyedProcessFunction):
    """One vehicle's frames."""

    def open(self, runtime_context) -> None:
        """Name the state."""
        self._step = stepper()
        self._state = runtime_context.get_state(ValueStateDescriptor("state", Types.PICKLED_BYTE_ARRAY()))

    def process_element(self, value, ctx):
        """Take a frame in."""
        kept = unpack(self._state.value())
        made = self._step(kept, value.encode())
        self._state.update(pack(kept))
        if made is not None:
            yield made.decode()


def main(bootstrap: str, topic: str, results: str, folder: str) -> None:
    """Run until killed."""
    config = Configuration()
    config.set_string("execution.checkpointing.dir", f"file://{folder}")
    config.set_string("python.execution-mode", "thread")  # a third of the CPU of a process beside the JVM
    config.set_string("python.executable", sys.executable)
    config.set_string("state.backend.type", "hashmap")
    config.set_string("taskmanager.memory.managed.size", "64m")
    env = StreamExecutionEnvironment.get_execution_environment(config)
    env.set_parallelism(1)
    env.add_jars(*(jar.as_uri() for jar in (Path(sys.prefix) / "jars").glob("*.jar")))
    env.add_python_file(str(Path(__file__).with_name("job.py")))
    env.enable_checkpointing(int(EPOCH_S * 1000), CheckpointingMode.EXACTLY_ONCE)
    source = (
        KafkaSource.builder()
        .set_bootstrap_servers(bootstrap)
        .set_topics(topic)
        .set_group_id(results)
        .set_starting_offsets(KafkaOffsetsInitializer.earliest())
        .set_value_only_deserializer(SimpleStringSchema())
        .build()
    )
    sink = (
        KafkaSink.builder()
        .set_bootstrap_servers(bootstrap)
        .set_record_serializer(
            KafkaRecordSerializationSchema.builder()
            .set_topic(results)
            .set_value_serialization_schema(SimpleStringSchema())
            .build()
        )
        .set_delivery_guarantee(DeliveryGuarantee.EXACTLY_ONCE)
        .set_transactional_id_prefix(results)
        .set_property("transaction.timeout.ms", "600000")
        .build()
    )
    frames = env.from_source(source, WatermarkStrategy.no_watermarks(), "frames")
    made = frames.key_by(_vehicle, key_type=Types.STRING()).process(Job(), output_type=Types.STRING())
    made.sink_to(sink)
    env.execute("job")


def _vehicle(value: str) -> str:
    begin = value.index(_NAME) + len(_NAME)
    return value[begin : value.index('"', begin)]


main(*sys.argv[1:])
