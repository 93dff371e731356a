"""The step around the detectors."""

import numpy as np

from operators.diagnose import FINDINGS, DiagnoseStep
from operators.kernels import slots
from operators.kernels.diagnose import DiagnoseConfig, DiagnoseState
from operators.kernels.kinds import INDEX
from schemas.events import Rows
from schemas.frames import FrameBlock
from schemas.ids import hash64
from schemas.pack import load_pack
from tests.support.enriched import enriched

MODEL = "generic-nmc@16c4t60ah"


def test_frames_pass_on_unchanged_and_findings_follow_with_their_pack() -> None:
    pack = load_pack(MODEL)
    step = DiagnoseStep(pack, DiagnoseConfig.of(pack))
    step.state = slots.moved(DiagnoseState.empty(0, 16, 4), slice(None), 2, 16, 4)
    v = np.full((40, 16), 4.1, np.float32)
    of = np.arange(40) % 2
    v[of == 1, 5] = 4.24
    block = enriched(np.arange(40) * 10.0, cell_v=v, names=("A", "B"), pack=of)
    out = step.block(block)
    assert isinstance(out[0], FrameBlock)
    assert out[0].cell_v is block.cell_v
    assert set(block.derived) < set(out[0].derived)
    rows = out[1]
    assert isinstance(rows, Rows)
    assert rows.table == FINDINGS
    assert {rows.packs[i] for i in rows.pack.tolist()} == {"B"}
    assert rows.data["kind"].tolist() == [INDEX["cell_overvoltage"]]
    assert rows.data["pack_hash"].tolist() == [hash64("B")]
    assert rows.data["subject"].tolist() == [5]


def test_a_quiet_block_brings_no_findings() -> None:
    pack = load_pack(MODEL)
    step = DiagnoseStep(pack, DiagnoseConfig.of(pack))
    step.state = DiagnoseState.empty(1, 16, 4)
    assert len(step.block(enriched(np.arange(40) * 10.0))) == 1
