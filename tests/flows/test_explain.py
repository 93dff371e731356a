"""An error is one line and an exit code: 2 for what was asked for, 1 for a run that broke."""

from __future__ import annotations

import pytest

from flows.explain import INTERRUPTED, explain
from schemas.checked import ConfigError
from sinks.kafka import KafkaDeliveryError


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ConfigError("x must be 1; got 2"), ("x must be 1; got 2", 2)),
        (KafkaDeliveryError("brokers refuse"), ("brokers refuse", 1)),
        (FileNotFoundError(2, "No such file", "a.toml"), ("No such file: a.toml", 2)),
        (OSError(28, "No space left"), ("OSError: [Errno 28] No space left (IBMS_TRACEBACK=1 shows where)", 1)),
    ],
)
def test_our_errors_speak_for_themselves_and_others_by_their_name(error: Exception, told: tuple[str, int]) -> None:
    assert explain(error) == told


def test_what_was_raised_first_is_what_is_said() -> None:
    wrapped = RuntimeError("step failed")
    wrapped.__cause__ = RuntimeError("again")
    wrapped.__cause__.__cause__ = ConfigError("the cause")
    assert explain(wrapped) == ("the cause", 2)


def test_an_interruption_has_no_words() -> None:
    wrapped = RuntimeError("step failed")
    wrapped.__cause__ = KeyboardInterrupt()
    assert explain(wrapped) == ("", INTERRUPTED)
