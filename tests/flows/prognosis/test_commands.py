"""The commands explain themselves."""

from __future__ import annotations

import pytest

from tests.support.commands import Ibms


@pytest.mark.parametrize("command", ["train soh", "models", "models list", "models promote", "models rollback"])
def test_every_command_explains_itself(ibms: Ibms, command: str) -> None:
    ran = ibms(*command.split(), "--help")
    assert (ran.code, ran.err) == (0, "")
    assert f"ibms {command}" in ran.out
