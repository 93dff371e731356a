from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.fit.generic import lfp, nmc
from replay.fit.render import PackSpec, render
from schemas.limit_profile import default_limits
from schemas.pack import parse_pack


@pytest.mark.parametrize("spec", [nmc(), lfp()], ids=["nmc", "lfp"])
def test_what_is_written_is_read_back(spec: PackSpec) -> None:
    pack = parse_pack(render(spec).encode(), "x", "packs/x.toml")
    tables = spec.tables
    np.testing.assert_allclose(pack.ocv.v, tables.ocv_v, atol=5.1e-5)
    np.testing.assert_allclose(pack.resistance.r0_ohm, tables.r_ohm[0], rtol=5.1e-4)
    np.testing.assert_allclose(pack.resistance.rb_ohm, tables.r_ohm[1:], rtol=5.1e-4)
    np.testing.assert_array_equal(pack.resistance.tau_s, tables.tau_s)
    assert pack.provenance == spec.provenance
    assert (pack.series, pack.probes, pack.nominal_ah) == (spec.series, spec.probes, spec.nominal_ah)


@given(
    st.integers(1, 400),
    st.floats(0.1, 2000).map(lambda a: round(a, 1)),
    st.text(st.characters(exclude_categories=["C"]), min_size=1),
)
def test_any_size_limit_and_text_survives_writing(series: int, largest_a: float, text: str) -> None:
    spec = replace(nmc(), series=series, charge_max_a=largest_a, ocv_from=text)
    pack = parse_pack(render(spec).encode(), "x", "packs/x.toml")
    assert pack.ocv_from == text
    assert pack.limits == default_limits("nmc", series, largest_a, spec.discharge_max_a)
