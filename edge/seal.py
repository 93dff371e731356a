"""How does a receiver know that a CAN message is whole, new and meant? A counter and a checksum.

As AUTOSAR's end-to-end profile 1: a counter 0..14 and CRC-8 SAE J1850 (polynomial 0x1D, start and final exclusive-or
0xFF) over the identifier, low byte first, and the first seven bytes.  The counter is in the high half of byte 6, the
checksum in byte 7.
"""

from __future__ import annotations

COUNTS = 15
BYTES = 8
_POLYNOMIAL = 0x1D


def _table() -> bytes:
    out = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value << 1 ^ _POLYNOMIAL if value & 0x80 else value << 1) & 0xFF
        out.append(value)
    return bytes(out)


_TABLE = _table()


def crc8(data: bytes) -> int:
    """Give CRC-8 SAE J1850; of b"123456789" it is 0x4B."""
    crc = 0xFF
    for byte in data:
        crc = _TABLE[crc ^ byte]
    return crc ^ 0xFF


def sealed(can_id: int, data: bytes, counter: int) -> bytes:
    """Put counter and checksum into a payload of 8 bytes whose high half of byte 6 and byte 7 are free."""
    assert len(data) == BYTES
    body = data[:6] + bytes([data[6] & 0x0F | (counter % COUNTS) << 4])
    return body + bytes([crc8(can_id.to_bytes(4, "little")[:2] + body)])


def opens(can_id: int, data: bytes) -> int:
    """Give the counter of a sealed payload; -1 where length or checksum do not fit, or the counter is none."""
    if len(data) != BYTES or crc8(can_id.to_bytes(4, "little")[:2] + data[:7]) != data[7]:
        return -1
    counter = data[6] >> 4
    return counter if counter < COUNTS else -1
