"""What a session's record says of the pack when it had ended."""

from __future__ import annotations

import numpy as np
import pytest

from operators.session_records import _known, r0_file
from schemas.pack import load_pack
from tests.support.frames import estimated, frames

PACK = load_pack("generic-nmc@4c2t60ah")


def test_each_estimate_of_a_record_stands_beside_its_standard_deviation() -> None:
    known = _known(estimated(frames([0, 10])), 1, PACK)
    file_ohm = r0_file(np.full(2, 25.0, np.float32), 0.5, PACK)
    assert (known["capacity_ah"], known["capacity_std_ah"]) == (60.0, 1.0)
    assert known["r0_rel_std"] / known["r0_rel"] == pytest.approx(0.1)
    assert known["r0_rel"] == pytest.approx(1e-3 / file_ohm, rel=0.2)
    assert [round(known[f"d_{what}_std"], 6) for what in ("soc", "r0", "q")] == [0.005, 0.05, 0.05]
    assert {k.removesuffix("_cell") for k in known if k.endswith("_cell")} == {"d_soc", "d_r0", "d_q"}
