"""In which partition does Kafka put a key? What a reader must know who reads only its own share of a topic."""

from __future__ import annotations

from functools import lru_cache


@lru_cache(maxsize=1 << 20)
def partition_of(key: str, partitions: int) -> int:
    """Say where Kafka's own clients put a key: murmur2 of its bytes, as librdkafka's `murmur2` partitioner does."""
    data = key.encode()
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    h = (0x9747B28C ^ len(data)) & mask
    whole = len(data) // 4 * 4
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * m & mask
        k = (k ^ k >> 24) * m & mask
        h = (h * m & mask) ^ k
    if rest := data[whole:]:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return ((h ^ h >> 15) & 0x7FFFFFFF) % partitions


def order_key(vehicle: str, kind: str = "") -> str:
    """Give the key of an order: the newest of each kind is kept for a vehicle.

    All of a vehicle's lie in the partition of its name, so that it reads no other: whoever sends says which.
    """
    return f"{vehicle}/{kind}" if kind else vehicle
