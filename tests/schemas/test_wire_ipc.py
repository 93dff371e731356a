"""The parts of a stream are told apart before anything is unpacked."""

from __future__ import annotations

import struct

import pyarrow as pa
import pytest

from schemas.wire_arrow import encode_arrow
from schemas.wire_ipc import body_bytes, check_stream
from tests.support.frames import frames

BLOCK = frames([0, 10, 20], names=("P1",), vehicles=("V1",))
END = b"\xff\xff\xff\xff\0\0\0\0"


def stream(compression: str | None) -> bytes:
    batch = pa.ipc.open_stream(encode_arrow(BLOCK)).read_next_batch()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as out:
        out.write_batch(batch)
    return bytes(sink.getvalue().to_pybytes())


def test_the_body_lies_between_the_metadata_and_the_end() -> None:
    data = stream(None)
    check_stream(data)
    begin = 8 + struct.unpack_from("<I", data, 4)[0]
    begin += 8 + struct.unpack_from("<I", data, begin + 4)[0]
    assert data[begin + body_bytes(data) :] == END


@pytest.mark.parametrize("data", [stream("zstd"), stream("lz4"), stream(None)[:8], END + END, b""])
def test_what_is_packed_inside_or_no_record_batch_is_refused(data: bytes) -> None:
    with pytest.raises((ValueError, struct.error)):
        check_stream(data)
