"""The link between the gateway's processes: whole messages, and nobody waits."""

from __future__ import annotations

import os

from edge.link import Link, inherited, pair


def _two() -> tuple[Link, Link]:
    ours, theirs = pair()
    return ours, Link(theirs)


def test_messages_come_whole_in_order_and_once() -> None:
    ours, theirs = _two()
    sent = [{"n": n, "text": "ä" * n, "nan": None} for n in range(20)]
    assert all(ours.tell(message) for message in sent)
    assert list(theirs.hear()) == sent
    assert list(theirs.hear()) == []


def test_a_side_that_does_not_listen_costs_messages_and_no_time() -> None:
    ours, theirs = _two()
    told = sum(ours.tell({"text": "x" * 1000}) for _ in range(5000))
    assert 0 < told < 5000
    assert ours.lost == 5000 - told
    assert not ours.over
    assert len(list(theirs.hear())) == told


def test_a_side_that_is_gone_is_noticed_by_telling_and_by_hearing() -> None:
    ours, theirs = _two()
    theirs.tell({"last": 1})
    theirs.socket.close()
    assert not ours.tell({})
    assert ours.over
    other, gone = _two()
    gone.tell({"last": 1})
    gone.socket.close()
    assert list(other.hear()) == [{"last": 1}]
    assert other.over


def test_what_is_no_message_is_nobody_s() -> None:
    ours, theirs = _two()
    for data in (b"no json", b"[1]", b"3"):
        ours.socket.send(data)
    ours.tell({"kind": "beat"})
    assert list(theirs.hear()) == [{"kind": "beat"}]
    assert not theirs.over


def test_a_child_takes_up_its_end_by_number() -> None:
    ours, theirs = pair()
    with theirs:
        child = inherited(os.dup(theirs.fileno()))
    child.tell({"kind": "beat"})
    assert list(ours.hear()) == [{"kind": "beat"}]
