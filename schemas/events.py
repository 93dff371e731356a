"""What happened: sessions, incidents, gaps, dead letters, what gateways say, and the items that a flow passes on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from schemas.frames import FrameBlock


@dataclass(frozen=True, slots=True)
class Session:
    """One stretch of driving, charging or parking of one pack."""

    id: str
    revision: int
    model: str
    pack_id: str
    vehicle_id: str
    kind: str  # drive | charge | park
    start_ns: int
    end_ns: int
    frames: int
    coverage: float  # 0..1 of the time between start and end that frames cover
    soc_start: float
    soc_end: float
    soc_start_std: float
    soc_end_std: float
    charge_in_ah: float
    charge_out_ah: float
    energy_in_kwh: float
    energy_out_kwh: float
    current_mean_a: float
    current_max_a: float  # largest magnitude, with its sign
    cell_v_min: float
    cell_v_max: float
    temp_min_c: float
    temp_mean_c: float
    temp_max_c: float
    rest_before_s: float  # time at |I| < rest current before the session began
    odo_start_km: float
    odo_end_km: float
    soc_bms_start: float
    soc_bms_end: float
    provisional: bool = False  # closed because the pack fell silent; replaced by the final record
    withdrawn: bool = False  # a gap that has been filled leaves no such session
    # What a judge of health needs; NaN and () where not known.
    gap_max_s: float = math.nan  # longest time between two frames
    soc_jump: float = math.nan  # largest change of SOC between two frames that the current does not explain
    soh_bms_min: float = math.nan  # SOH that the vehicle reports
    soh_bms_max: float = math.nan
    soh_bms_end: float = math.nan
    top_s: float = math.nan  # charging within the last 0.2 V before full
    top_ah: float = math.nan
    top_v_mean: float = math.nan  # of the median cell group there, over time
    top_v_std: float = math.nan
    top_v_skewness: float = math.nan
    top_v_kurtosis: float = math.nan
    hold_s: float = math.nan  # at full, while the current falls from C/4 to C/20
    hold_ah: float = math.nan
    hold_a_mean: float = math.nan
    hold_a_std: float = math.nan
    hold_a_skewness: float = math.nan
    hold_a_kurtosis: float = math.nan
    # As estimated when the next session had proved this one over.
    capacity_ah: float = math.nan  # usable, whatever the balance
    capacity_low_ah: float = math.nan  # of the smallest cell group: usable, once balanced
    r0_rel: float = math.nan  # R0 over the pack file's at this SOC and temperature
    current_offset_a: float = math.nan  # what the current sensor shows too much
    current_offset_std_a: float = math.nan
    d_soc_cell: tuple[float, ...] = ()  # of a charge: each cell group against the median, SOC
    d_r0_cell: tuple[float, ...] = ()  # R0, relative
    d_q_cell: tuple[float, ...] = ()  # capacity, relative
    # Standard deviations of what is estimated.
    capacity_std_ah: float = math.nan
    r0_rel_std: float = math.nan
    d_soc_std: float = math.nan  # of each cell group against the median
    d_r0_std: float = math.nan
    d_q_std: float = math.nan


@dataclass(frozen=True, slots=True)
class Incident:
    """One fault of one pack, from its opening to its clearing; each change is a revision."""

    id: str
    revision: int
    model: str
    pack_id: str
    vehicle_id: str
    kind: str  # see operators/kernels/diagnose: KINDS
    subject: str  # "cell 82", "cells 85-96", "probe 3", "pack"; numbers count from 1
    severity: int  # 1 note, 2 service, 3 stop soon, 4 thermal danger
    status: str  # open | update | clear
    opened_ns: int
    updated_ns: int
    cleared_ns: int  # 0 while open
    text: str  # plain words: what, value, what is normal, since when, what to do
    evidence: Mapping[str, float] = field(default_factory=dict)
    provisional: bool = False
    withdrawn: bool = False  # a gap that has been filled leaves no such incident
    since_ns: int = 0  # since when the evidence speaks: the windows from then on are what it was seen in
    causes: Mapping[str, float] = field(default_factory=dict)  # likelihood by cause, operators/kernels/causes.CAUSES

    @property
    def cause(self) -> str:
        """Give the likeliest cause; "" where the kind says it all."""
        return max(self.causes, key=self.causes.__getitem__, default="")

    @property
    def likelihood(self) -> float:
        """Give the likelihood of the likeliest cause, 0..1; NaN without one."""
        return max(self.causes.values(), default=math.nan)


@dataclass(frozen=True, slots=True)
class Gap:
    """Frames that a pack counted and that never came, or a silence where nothing is counted."""

    id: str
    revision: int
    model: str
    pack_id: str
    vehicle_id: str
    kind: str  # sequence | time | expired
    from_ns: int  # time of the last frame before the hole
    to_ns: int  # time of the first frame after it
    first_seq: int  # first missing number, -1 where nothing is counted
    last_seq: int
    missing: int  # frames that are missing, -1 where unknown


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Input that was refused, with its bytes, its reason and where it came from."""

    id: str
    source: str  # topic, file or bus
    partition: int
    offset: int
    row: int
    reason: str  # clock_future | clock_past | late | seq_conflict | undecodable | too_large | …
    detail: str
    pack_id: str  # "" where unreadable
    t_ns: int  # as stamped; 0 where unreadable
    expected_ns: int  # what the pack's own line would have had; 0 where it has none
    content_type: str
    payload: bytes  # original bytes, or the row's values encoded again
    headers: str = ""  # JSON of the original headers, verbatim


@dataclass(frozen=True, slots=True)
class GatewayReport:
    """What a gateway says beside frames; columns that its kind does not have keep their defaults.

    Kinds: a decision of protection, an alert, an order from afar as judged, what its outbox dropped, its start.
    """

    id: str
    model: str  # "" where it does not say
    pack_id: str
    vehicle_id: str
    what: str  # decision | alert | order | dropped | start
    t_ns: int  # by the gateway's clock
    end_ns: int  # of what was dropped, its last time; otherwise t_ns
    recv_ns: int
    src_part: int
    src_offset: int
    text: str
    gateway_version: str = ""
    limit_key: str = ""
    active: bool | None = None
    opens: bool | None = None
    tier: str = ""
    quantity: str = ""
    subject: str = ""
    value: float = math.nan
    bound: float = math.nan
    since_ns: int = 0
    action: str = ""
    phase: str = ""  # of the contactors from then on
    charge_a: float = math.nan  # allowed from then on
    discharge_a: float = math.nan
    soc: float = math.nan  # by the gateway's own count
    soc_std: float = math.nan
    result: str = ""
    sequence: int = -1
    records: int = 0
    bytes: int = 0


Event = Session | Incident | Gap | DeadLetter | GatewayReport


@dataclass(frozen=True, slots=True)
class Tick:
    """Wall time, as an item; only a source in flows/ makes these."""

    now_ns: int


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Records of one table as columns (windows, states, findings): N rows in time order per pack.

    `pack` (N,) int32 indexes `packs`; `data` holds the other columns, each N rows.
    """

    table: str
    model: str
    packs: tuple[str, ...]
    vehicles: tuple[str, ...]
    pack: NDArray[Any]
    data: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        """N."""
        return len(self.pack)


Item = FrameBlock | Rows | Event | Tick
