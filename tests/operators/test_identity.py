"""Packs that move, come back and are exchanged, with ids and without."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from operators.identity import IdentityStep
from operators.kernels.fingerprint import FingerprintConfig
from operators.session_step import SESSIONS
from operators.shard import ShardLogic
from schemas.events import Incident, Item, Rows
from schemas.pack import load_pack
from tests.support.sessions import CELLS, charges

P, Q, R = (np.random.default_rng(seed).normal(0, 0.03, CELLS) for seed in (1, 2, 3))


def logic(resume: dict[str, Any] | None = None) -> ShardLogic:
    build = lambda pack, _: IdentityStep(pack, FingerprintConfig())  # noqa: E731 - one line says it
    return ShardLogic(build, load_pack, resume, assigns=True, admits=SESSIONS)


def named(items: list[Item]) -> list[str]:
    return [r.packs[p] for r in items if isinstance(r, Rows) and r.table == SESSIONS for p in r.pack.tolist()]


def told(items: list[Item]) -> list[tuple[str, str, str, str]]:
    """Give what was recorded: kind, pack, vehicle, vehicle before."""
    return [
        (str(kind), r.packs[p], r.vehicles[p], str(before))
        for r in items
        if isinstance(r, Rows) and r.table == "identity"
        for kind, p, before in zip(r.data["kind"], r.pack.tolist(), r.data["vehicle_before"], strict=True)
    ]


def run(*rows: Rows, by: ShardLogic | None = None) -> list[Item]:
    return list((by or logic()).on_batch(list(rows))[0])


def noisy(cells: NDArray[np.float64], n: int, seed: int = 0) -> NDArray[np.float64]:
    return np.asarray(cells + np.random.default_rng(seed).normal(0, 0.004, (n, CELLS)))


def test_a_pack_with_an_id_takes_its_name_to_another_vehicle() -> None:
    got = run(
        charges(4, packs=("PACK-7",), vehicles=("V1",), cells=P),
        charges(4, packs=("PACK-7",), vehicles=("V2",), cells=P, first=4),
    )
    assert named(got) == ["PACK-7"] * 8
    assert told(got) == [("first_seen", "PACK-7", "V1", ""), ("moved", "PACK-7", "V2", "V1")]
    assert [r.vehicles for r in got if isinstance(r, Rows) and r.table == SESSIONS] == [("V1",), ("V2",)]


def test_a_pack_without_an_id_is_recognised_in_another_vehicle() -> None:
    got = run(
        charges(8, packs=("V1", "V2"), pack=[0, 1] * 4, cells=np.stack([P, Q] * 4)),
        charges(6, packs=("V2",), cells=noisy(P, 6), first=20),
    )
    assert named(got)[8:] == ["V2", *["V1"] * 5]  # one strange charge may be an error, two are not
    assert ("recognised", "V1", "V2", "V1") in told(got)
    (alarm,) = [i for i in got if isinstance(i, Incident)]
    assert (alarm.kind, alarm.pack_id, alarm.vehicle_id) == ("pack_replaced", "V2", "V2")
    assert "those of V1" in alarm.text


def test_an_exchange_of_two_packs_is_followed_both_ways() -> None:
    got = run(
        charges(8, packs=("V1", "V2"), pack=[0, 1] * 4, cells=np.stack([P, Q] * 4)),
        charges(12, packs=("V1", "V2"), pack=[0, 1] * 6, cells=np.stack([Q, P] * 6), first=20),
    )
    assert named(got)[-4:] == ["V2", "V1", "V2", "V1"]


def test_a_pack_that_is_silently_replaced_by_one_never_seen_is_flagged_and_gets_a_name() -> None:
    got = run(charges(4, packs=("V1",), cells=P), charges(5, packs=("V1",), cells=noisy(R, 5), first=10))
    assert named(got) == ["V1"] * 5 + ["V1#2"] * 4
    assert told(got)[-1] == ("replaced", "V1#2", "V1", "V1")
    assert [i.kind for i in got if isinstance(i, Incident)] == ["pack_replaced"]


def test_a_pack_whose_cells_age_is_still_the_same() -> None:
    slow = np.linspace(0, 1, 60)[:, None] * np.random.default_rng(9).normal(0, 0.03, CELLS)
    got = run(charges(60, packs=("V1",), cells=P + slow, r0_rel=np.linspace(1, 1.6, 60)))
    assert set(named(got)) == {"V1"}


def test_noise_and_unknown_cells_raise_nothing() -> None:
    cells = noisy(P, 40, 3)
    cells[::5] = np.nan
    got = run(charges(40, packs=("V1",), cells=cells))
    assert told(got) == [("first_seen", "V1", "V1", "")]


def test_a_pack_that_is_in_its_vehicle_is_not_recognised_in_another_at_the_same_time() -> None:
    both = charges(8, packs=("V1", "V2"), pack=[0, 1] * 4, cells=np.stack([P, Q] * 4))
    own = charges(1, packs=("V1",), cells=P, first=20)
    began = int(own.data["end_ns"][0]) - 1
    got = run(both, own, charges(3, packs=("V2",), cells=P, first=21, start_ns=began))
    assert "recognised" not in {t[0] for t in told(got)}
    assert named(got)[-1] == "V2#2"


def test_the_state_goes_on_after_a_restart() -> None:
    first, second = charges(4, packs=("V1",), cells=P), charges(6, packs=("V1",), cells=R, first=10)
    one = logic()
    run(first, by=one)
    again = run(second, by=logic(one.snapshot()))
    straight = run(first, second)
    assert told(again) == told(straight)[1:]
    assert named(again) == named(straight)[4:]


def test_cutting_the_sessions_changes_no_name() -> None:
    rows = [charges(1, packs=("V1",), cells=P if k < 4 else R, first=k) for k in range(9)]
    assert named(run(*rows)) == ["V1"] * 5 + ["V1#2"] * 4
