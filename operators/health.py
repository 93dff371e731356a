"""How healthy each pack is after each charge, why a charge did not count, and which reports are no measurement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bytewax.operators import KeyedStream
from numpy.typing import NDArray

from operators.kernels import evidence
from operators.kernels import health as kernel
from operators.kernels.evidence import EvidenceConfig, words
from operators.kernels.health import HealthConfig
from operators.session_step import SESSIONS, session_step
from operators.shard import Packs
from operators.step import Step
from schemas.events import Incident, Item, Rows
from schemas.ids import record_id
from schemas.pack import PackModel

Floats = NDArray[np.float64]
RESET, CONSTANT = AUDITS = ("soh_reset_suspected", "not_a_measurement")


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """What a trained model says of N charges: SOH, its standard deviation, and the model's hash ("" where none).

    `beside` is what the model says that runs beside it and has no weight.
    """

    soh: Floats
    std: Floats
    sha: NDArray[np.str_]
    beside: Floats
    beside_sha: NDArray[np.str_]


class Judge:
    """A trained model of health over one shard's packs; this one knows nothing.

    `state` is None or a dataclass of arrays with one slot per pack, as every step's.
    """

    def judge(self, slot: NDArray[np.int32], t_ns: NDArray[np.int64], charge: dict[str, Any], cycles: Floats) -> Said:
        """Say the SOH at charges (N,), those of a pack in order of time; `cycles` passed before each."""
        nan, nobody = np.full(len(slot), np.nan), np.full(len(slot), "", "<U16")
        return Said(nan, nan.copy(), nobody, nan.copy(), nobody.copy())

    def dump(self) -> dict[str, Any]:
        """Give its state as plain arrays."""
        return {}

    def load(self, data: dict[str, Any]) -> None:
        """Take back what `dump` gave."""


MakeJudge = Callable[[PackModel], Judge]


class HealthStep(Step):
    """Health of one shard's packs."""

    def __init__(self, pack: PackModel, cfg: HealthConfig, evidence_cfg: EvidenceConfig, judge: Judge) -> None:
        """Start with no pack."""
        self.state = kernel.HealthState.empty(0, pack.series, pack.probes)
        self._pack, self._cfg, self._evidence, self._judge = pack, cfg, evidence_cfg, judge
        self._cold = kernel.cold_loss(pack)

    def dump(self) -> dict[str, Any]:
        """Give the trained model's state."""
        return self._judge.dump()

    def load(self, data: dict[str, Any]) -> None:
        """Take back what `dump` gave."""
        self._judge.load(data)

    def rows(self, rows: Rows) -> list[Item]:
        """Judge sessions: evidence and health of each charge, and incidents where a report is not believed."""
        if rows.table != SESSIONS:
            return [rows]
        d, new_ah = rows.data, self._pack.usable_ah
        charge, revised = d["charge"], kernel.again(self.state, d["slot"], d["end_ns"], d["revision"] > 0)
        graded = evidence.grade(self._evidence, d, revised)
        moved = (d["charge_in_ah"] + d["charge_out_ah"]) / (2.0 * self._pack.nominal_ah)
        said = self._said(rows, revised, kernel.cycles_before(self.state, d["slot"], np.where(revised, np.nan, moved)))
        nan = np.full(len(rows), np.nan)
        made = kernel.follow(
            self._cfg,
            self.state,
            kernel.Rows(
                slot=d["slot"],
                t_ns=d["end_ns"],
                charge=charge,
                reasons=graded.reasons,
                soh=graded.capacity_ah / new_ah,
                soh_std=graded.capacity_std_ah / new_ah,
                r0_rel=np.where(charge & ~revised, d["r0_rel"], nan),
                imbalance=(d["capacity_low_ah"] - d["capacity_ah"]) / new_ah,
                cycles=np.where(revised, nan, moved),
                model=said.soh,
                model_std=said.std,
                frames=np.where(revised, 0.0, d["frames"]),
                **{f"bms_{k}": np.where(revised, nan, d[f"soh_bms_{k}"]) for k in ("min", "max", "end")},
            ),
        )
        judged, first = np.flatnonzero(charge), np.flatnonzero(charge & ~revised)
        tables = [self._graded(rows, judged, graded, made), self._health(rows, first, said, made)]
        return [*(t for t in tables if len(t)), *self._alarms(rows, made), _on(rows, made, charge & ~revised)]

    def _said(self, rows: Rows, revised: NDArray[np.bool_], cycles: Floats) -> Said:
        at = np.flatnonzero(rows.data["charge"] & ~revised)
        whole = Judge().judge(rows.data["slot"], rows.data["end_ns"], {}, rows.data["frames"])
        if at.size:
            d = {k: v[at] for k, v in rows.data.items()}
            one = self._judge.judge(d["slot"], d["end_ns"], d, cycles[at])
            for name in Said.__slots__:
                getattr(whole, name)[at] = getattr(one, name)
        return whole

    def _rows(self, table: str, rows: Rows, at: NDArray[np.int64], data: dict[str, NDArray[Any]]) -> Rows:
        d = rows.data
        common = {"pack_hash": d["pack_hash"][at], "session_id": d["id"][at], "t_ns": d["end_ns"][at]}
        common["revision"] = d["revision"][at].astype(np.int32)
        return Rows(table, rows.model, rows.packs, rows.vehicles, rows.pack[at], {**common, **data})

    def _graded(self, rows: Rows, at: NDArray[np.int64], graded: evidence.Graded, made: kernel.Followed) -> Rows:
        d, why = rows.data, made.reasons[at]
        measured = ("temp_mean_c", "coverage", "gap_max_s", "soc_jump", "soh_bms_end")
        return self._rows(
            "evidence",
            rows,
            at,
            {
                "start_ns": d["start_ns"][at],
                "accepted": why == 0,
                "reason": np.array([words(w) for w in why.tolist()], np.str_),
                "weight": made.out[at, kernel.O_GAIN],
                "d_soc": graded.d_soc[at],
                "d_soc_std": graded.d_soc_std[at],
                "d_ah": graded.d_ah[at],
                "capacity_ah": graded.capacity_ah[at],
                "capacity_std_ah": graded.capacity_std_ah[at],
                "charge_out_ah": d["charge_out_ah"][at],
                **{name: d[name][at] for name in measured},
            },
        )

    def _health(self, rows: Rows, at: NDArray[np.int64], said: Said, made: kernel.Followed) -> Rows:
        d, o = rows.data, made.out[at]
        cold = o[:, kernel.O_SOH] * np.interp(d["temp_mean_c"][at], *self._cold)
        lost = np.nan_to_num(o[:, kernel.O_IMB])
        soh, soh_std, new_ah = o[:, kernel.O_SOH], o[:, kernel.O_STD], self._pack.usable_ah
        # one cell group binds when it empties and another when it fills, each with an error of its own
        lost_std = np.sqrt(2.0) * d["d_soc_std"][at] * d["capacity_ah"][at] / new_ah
        # what cold keeps back is charge in proportion to SOH, and to the resistance under which a cell is empty
        cold_std = cold * np.hypot(soh_std / soh, d["r0_rel_std"][at] / d["r0_rel"][at])
        names = ("soh", "soh_std", "soh_low", "soh_high", "soh_capacity", "soh_capacity_std", "soh_resistance",
                 "soh_resistance_std", "loss_imbalance", "cycles")  # fmt: skip
        columns = {name: o[:, kernel.OUT_COLUMNS.index(name)] for name in names}
        for name in ("accepted", "rejected"):
            columns[name] = o[:, kernel.OUT_COLUMNS.index(name)].astype(np.int32)
        return self._rows(
            "health",
            rows,
            at,
            {
                **columns,
                "soh_model": said.soh[at],
                "soh_model_std": said.std[at],
                "soh_model_sha": said.sha[at],
                "soh_beside": said.beside[at],
                "soh_beside_sha": said.beside_sha[at],
                "loss_imbalance_std": lost_std,
                "loss_temperature": cold,
                "loss_temperature_std": cold_std,
                "usable": soh - lost - np.nan_to_num(cold),
                "usable_std": np.hypot(np.hypot(soh_std, lost_std), np.nan_to_num(cold_std)),
                "capacity_ah": soh * new_ah,
                "capacity_std_ah": soh_std * new_ah,
                "last_accepted_ns": made.accepted_ns[at],
                "r0_rel": d["r0_rel"][at],
                "r0_rel_std": d["r0_rel_std"][at],
                "soh_bms": d["soh_bms_end"][at],
            },
        )

    def _alarms(self, rows: Rows, made: kernel.Followed) -> list[Item]:
        return [
            self._alarm(rows, n, AUDITS[k], made.out[n], int(made.opened_ns[n, k]), opens=bool(made.raised[n, k] > 0))
            for n, k in np.argwhere(made.raised).tolist()
        ]

    def _alarm(self, rows: Rows, n: int, kind: str, o: Floats, opened_ns: int, *, opens: bool) -> Incident:
        d, p = rows.data, rows.pack[n]
        pack, t_ns = rows.packs[p], int(d["end_ns"][n])
        end, low, high = (float(v) for v in (d["soh_bms_end"][n], o[kernel.O_LOW], o[kernel.O_HIGH]))
        own = f"measured are {100 * o[kernel.O_SOH]:.0f} % ({100 * low:.0f} to {100 * high:.0f})"
        texts = {
            (
                RESET,
                True,
            ): f"reported SOH rose by {100 * o[kernel.O_STEP]:.0f} to {100 * end:.0f} % and the capacity did "
            f"not: {own}. Ask whether the battery management was reset.",
            (RESET, False): f"reported SOH of {100 * end:.0f} % agrees with what is measured again: {own}.",
            (CONSTANT, True): f"reported SOH has been exactly {100 * end:.4g} % for {o[kernel.O_ROWS]:.0f} frames: "
            f"a constant, not a measurement; {own}.",
            (CONSTANT, False): f"reported SOH changes again, to {100 * end:.4g} %.",
        }
        return Incident(
            id=record_id(pack, kind, "pack", opened_ns),
            revision=0 if opens else 1,
            model=rows.model,
            pack_id=pack,
            vehicle_id=rows.vehicles[p],
            kind=kind,
            subject="pack",
            severity=1,
            status="open" if opens else "clear",
            opened_ns=opened_ns,
            updated_ns=t_ns,
            cleared_ns=0 if opens else t_ns,
            text=texts[kind, opens],
            evidence={"soh_bms": end, "soh": float(o[kernel.O_SOH]), "soh_low": low, "soh_high": high},
        )


def _on(rows: Rows, made: kernel.Followed, judged: NDArray[np.bool_]) -> Rows:
    """Give sessions on to who asks for the life that is left, with what is known now; cells stay here."""
    o = made.out
    known = {
        "soh": o[:, kernel.O_SOH],
        "soh_std": o[:, kernel.O_STD],
        "cycles": o[:, kernel.O_CYCLES],
        "accepted": o[:, kernel.O_N],
        "counted": judged & (o[:, kernel.O_GAIN] > 0.0),
        "judged": judged,
    }
    kept = {k: v for k, v in rows.data.items() if not k.endswith("_cell")}
    return Rows(rows.table, rows.model, rows.packs, rows.vehicles, rows.pack, kept | known)


def health(
    step_id: str,
    up: KeyedStream[Item],
    packs: Packs,
    cfg: Callable[[PackModel], HealthConfig] = HealthConfig.of,
    *,
    judge: MakeJudge | None = None,
    files: Path | None = None,
) -> KeyedStream[Item]:
    """Add the step: sessions give evidence, health and incidents, and pass with what is known; so do other items."""

    def build(pack: PackModel) -> Step:
        return HealthStep(pack, cfg(pack), EvidenceConfig.of(pack), Judge() if judge is None else judge(pack))

    return session_step(step_id, up, build, packs, files)
