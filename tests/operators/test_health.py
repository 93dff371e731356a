"""Health of packs through their charges: what moves it, what does not, and what is said."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from operators.health import HealthStep, Judge, Said
from operators.kernels.evidence import EvidenceConfig
from operators.kernels.health import HealthConfig
from operators.session_step import SESSIONS
from operators.shard import ShardLogic
from operators.step import Slots
from schemas.arrow import Provenance, to_arrow
from schemas.events import Incident, Item, Rows
from schemas.pack import PackModel, load_pack
from tests.operators.kernels.test_evidence import BAD
from tests.support.frames import NS
from tests.support.sessions import NEW_AH, charges, cut


def logic(resume: dict[str, Any] | None = None, judge: Judge | None = None) -> ShardLogic:
    def build(pack: PackModel, _: Slots) -> HealthStep:
        return HealthStep(pack, HealthConfig.of(pack), EvidenceConfig(), judge or Judge())

    return ShardLogic(build, load_pack, resume, assigns=True, admits=SESSIONS)


def run(*rows: Rows, by: ShardLogic | None = None) -> list[Item]:
    """Give the records; the sessions that pass to the next step are left out."""
    out = (by or logic()).on_batch(list(rows))[0]
    return [item for item in out if not (isinstance(item, Rows) and item.table == SESSIONS)]


def column(items: list[Item], name: str, table: str = "health") -> np.ndarray:
    return np.concatenate([r.data[name] for r in items if isinstance(r, Rows) and r.table == table])


def test_fifty_bad_charges_of_every_kind_move_soh_by_less_than_half_a_point() -> None:
    good = charges(20, 0.85 * NEW_AH)
    # wrong by a third, too: were they to count, they would pull
    every = [wrong for wrong, reason in BAD if reason != "revised"]
    bad = [charges(50, 0.55 * NEW_AH, first=20 + 50 * k, **wrong) for k, wrong in enumerate(every)]
    before = column(run(good), "soh")[-1]
    for rows in bad:
        assert abs(column(run(good, rows), "soh_capacity")[-1] - before) < 0.005 if len(rows) else False
    got = run(good, *bad)
    assert not column(got, "accepted", "evidence")[20:].any()
    assert all(column(got, "reason", "evidence")[20:] != "")


def test_fifty_charges_that_pass_every_check_and_contradict_all_before_move_nothing_either() -> None:
    good, wild = charges(20, 0.85 * NEW_AH), charges(50, 0.5 * NEW_AH, first=20)
    got = run(good, wild)
    soh = column(got, "soh")
    assert abs(soh[-1] - soh[19]) < 0.005
    assert set(column(got, "reason", "evidence")[20:]) == {"outlier"}


def test_balancing_gives_back_what_imbalance_took_and_leaves_the_age_alone() -> None:
    whole = 0.9 * NEW_AH
    before = charges(20, 0.8 * NEW_AH, capacity_low_ah=whole)
    after = charges(20, 0.9 * NEW_AH, capacity_low_ah=whole, first=20)
    got = run(before, after)
    soh, lost, usable = (column(got, k) for k in ("soh", "loss_imbalance", "usable"))
    assert lost[19] == pytest.approx(0.1, abs=0.001)
    assert lost[-1] == pytest.approx(0.0, abs=0.001)
    assert abs(soh[-1] - soh[19]) < 0.002
    assert usable[-1] - usable[19] == pytest.approx(0.1, abs=0.005)


def test_what_balancing_would_give_back_is_as_unsure_as_the_two_cells_that_bind() -> None:
    got = run(charges(20, 0.8 * NEW_AH, capacity_low_ah=0.9 * NEW_AH, d_soc_std=0.02))
    lost_std, soh_std, usable_std = (column(got, k)[-1] for k in ("loss_imbalance_std", "soh_std", "usable_std"))
    assert lost_std == pytest.approx(2**0.5 * 0.02 * 0.8)
    assert usable_std == pytest.approx(np.hypot(soh_std, lost_std))
    assert column(got, "capacity_std_ah")[-1] == pytest.approx(soh_std * NEW_AH)


def test_what_cold_takes_is_as_unsure_as_the_resistance_behind_it() -> None:
    sure, unsure = (run(charges(10, temp_mean_c=0.0, r0_rel_std=std)) for std in (0.0, 0.2))
    share = [column(got, "loss_temperature_std")[-1] / column(got, "loss_temperature")[-1] for got in (sure, unsure)]
    assert np.hypot(share[0], 0.2) == pytest.approx(share[1])


def test_cold_takes_from_what_is_usable_and_not_from_the_age() -> None:
    warm, cold = (run(charges(10, temp_mean_c=t)) for t in (25.0, 6.0))
    assert column(cold, "soh")[-1] == column(warm, "soh")[-1]
    assert column(cold, "loss_temperature")[-1] > column(warm, "loss_temperature")[-1] == 0
    assert column(cold, "usable")[-1] < column(warm, "usable")[-1]


def _bms(values: Any) -> dict[str, Any]:
    return dict.fromkeys(("soh_bms_min", "soh_bms_max", "soh_bms_end"), values)


def test_a_reset_of_the_reported_soh_is_suspected_within_one_charge() -> None:
    got = run(charges(10, 0.78 * NEW_AH, **_bms(np.r_[np.full(9, 0.78), 1.0])))
    (alarm,) = [i for i in got if isinstance(i, Incident) and i.kind != "not_a_measurement"]
    assert (alarm.kind, alarm.status, alarm.revision) == ("soh_reset_suspected", "open", 0)
    assert alarm.opened_ns == int(column(got, "t_ns")[9])
    assert "rose by 22 to 100 %" in alarm.text


def test_a_thousand_frames_of_exactly_95_are_no_measurement_and_a_change_clears_that() -> None:
    rows = [charges(4, frames=300.0, **_bms(0.95)), charges(1, frames=300.0, first=4, **_bms(0.949))]
    first, second = [i for i in run(*rows) if isinstance(i, Incident)]
    assert (first.kind, first.status, "exactly 95 % for 1200 frames" in first.text) == (
        "not_a_measurement",
        "open",
        True,
    )
    assert (second.kind, second.status, second.revision) == ("not_a_measurement", "clear", 1)
    assert second.id == first.id
    assert second.opened_ns == first.opened_ns


def test_drives_and_parking_are_audited_too() -> None:
    rows = charges(4, frames=300.0, charge=False, **_bms(0.95))
    assert [i.kind for i in run(rows) if isinstance(i, Incident)] == ["not_a_measurement"]


def test_a_charge_that_came_again_corrected_counts_once() -> None:
    once, again = charges(10), charges(1, 0.6 * NEW_AH, first=9, revision=1)
    got = run(once, again)
    assert len(column(got, "soh")) == 10
    assert column(got, "reason", "evidence")[-1] == "revised"


def test_a_charge_that_comes_only_in_its_corrected_form_counts() -> None:
    got = run(charges(10, revision=np.arange(10) % 2))
    assert column(got, "accepted", "evidence").all()
    assert column(got, "accepted").tolist() == list(range(1, 11))


def test_what_a_model_says_is_weighed_in_and_named() -> None:
    class Fixed(Judge):
        def judge(self, slot: Any, t_ns: Any, charge: Any, cycles: Any) -> Said:
            n = len(slot)
            nan = np.full(n, np.nan)
            return Said(np.full(n, 0.7), np.full(n, 0.02), np.full(n, "feedc0de"), nan, np.full(n, ""))

    with_model, alone = run(charges(10), by=logic(judge=Fixed())), run(charges(10))
    assert column(with_model, "soh")[-1] < column(alone, "soh")[-1]
    assert set(column(with_model, "soh_model_sha")) == {"feedc0de"}
    assert set(column(alone, "soh_model_sha")) == {""}


def _many() -> Rows:
    draw = np.random.default_rng(5)
    return charges(
        60, 54 * draw.normal(1, 0.03, 60), pack=draw.integers(0, 3, 60), packs=("A", "B", "C"),
        gap_max_s=draw.choice([30.0, 900.0], 60), r0_rel=draw.normal(1.1, 0.02, 60), charge=draw.random(60) < 0.8,
        **_bms(draw.choice([0.9, 0.95, np.nan], 60)),
    )  # fmt: skip


def _records(items: list[Item]) -> list[str]:
    tables = to_arrow(items, Provenance({}, "1", "p"))
    return sorted(str(row) for item in tables if isinstance(item, tuple) for row in item[1].to_pylist())


@pytest.mark.parametrize("step", [1, 7, 59])
def test_cutting_the_sessions_changes_no_bit_of_any_record(step: int) -> None:
    whole = _many()
    parts = [cut(whole, k, min(k + step, 60)) for k in range(0, 60, step)]
    assert _records(run(*parts)) == _records(run(whole))


def test_other_packs_change_nothing_of_a_pack() -> None:
    whole = _many()
    mine = np.flatnonzero(whole.pack == 1)
    alone = Rows(whole.table, whole.model, whole.packs, whole.vehicles, whole.pack[mine],
                 {k: v[mine] for k, v in whole.data.items()})  # fmt: skip
    together = [r for r in _records(run(whole)) if "'pack_id': 'B'" in r]
    assert _records(run(alone)) == together


def test_a_restart_from_a_snapshot_changes_no_bit() -> None:
    whole = _many()
    one = logic()
    first = run(cut(whole, 0, 31), by=one)
    second = run(cut(whole, 31, 60), by=logic(one.snapshot()))
    assert _records([*first, *second]) == _records(run(whole))


def test_ids_and_times_are_those_of_the_session() -> None:
    rows = charges(2)
    got = run(rows)
    assert column(got, "session_id").tolist() == rows.data["id"].tolist()
    assert column(got, "t_ns")[1] - column(got, "t_ns")[0] == 43_200 * NS
