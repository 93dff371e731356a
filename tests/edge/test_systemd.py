"""What a service manager is told."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from edge.systemd import notify, watchdog_s


@pytest.mark.parametrize("abstract", [False, True])
def test_words_reach_the_socket_that_the_environment_names(tmp_path: Path, abstract: bool) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        name = f"ibms-test-{tmp_path.name}" if abstract else str(tmp_path / "notify")
        manager.bind("\0" + name if abstract else name)
        address = "@" + name if abstract else name
        assert notify({"NOTIFY_SOCKET": address}, "READY=1", "STATUS=well")
        assert manager.recv(100) == b"READY=1\nSTATUS=well"


def test_without_a_service_manager_nobody_is_told(tmp_path: Path) -> None:
    assert not notify({}, "READY=1")
    assert not notify({"NOTIFY_SOCKET": str(tmp_path / "gone")}, "READY=1")


def test_the_watchdog_hears_three_times_within_its_patience() -> None:
    assert watchdog_s({"WATCHDOG_USEC": "3000000"}) == 1.0
    assert watchdog_s({}) == 0.0
    assert watchdog_s({"WATCHDOG_USEC": "soon"}) == 0.0
