"""Asking something of a gateway that runs."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from edge.control import NAME, SERVICE, ask, listen
from schemas.checked import ConfigError


def test_a_word_arrives_and_others_are_left_aside(tmp_path: Path) -> None:
    ours = listen(tmp_path)
    assert list(ours.asked()) == []
    ask(tmp_path, "open the contactors")
    ask(tmp_path, SERVICE)
    assert list(ours.asked()) == [SERVICE]
    ours.close()
    assert not (tmp_path / NAME).exists()


def test_the_socket_is_its_owner_s_alone_and_one_that_was_left_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as left:
        left.bind(str(tmp_path / NAME))
    ours = listen(tmp_path)
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o600
    ask(tmp_path, SERVICE)
    assert list(ours.asked()) == [SERVICE]
    ours.close()


def test_without_a_gateway_the_error_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a gateway must run and be yours; got"):
        ask(tmp_path, SERVICE)
    with pytest.raises(ConfigError, match="state_dir must be a folder that takes a socket"):
        listen(tmp_path / "missing")
