"""The committed result of the mutants: whole, good enough, and each survivor with its reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.safety.mutation import JUDGED, LEAST_PCT, ORACLE, PROJECT, _survivor, committed, complaints, killed_pct

DIFF = """# edge.sensing.xǁSensingConfigǁperiods__mutmut_7: survived
--- edge/sensing.py
+++ edge/sensing.py
@@ -5,5 +5,5 @@
         for source in self.sources:
-            longest = max(0.0, source.period_s)
+            longest = max(1.0, source.period_s)
"""


def test_the_committed_result_holds() -> None:
    result = committed()
    assert complaints(result) == []
    assert killed_pct(result) >= LEAST_PCT
    assert result["mutants"] - result["killed"] == len(result["survivors"])
    assert result["mutants"] > 1000


def test_what_is_judged_and_what_judges_it_is_there() -> None:
    assert [name for name in (*JUDGED, *ORACLE) if not (PROJECT / name).is_file()] == []


def test_too_few_killed_or_a_survivor_without_a_reason_is_a_complaint(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    reasons = tmp_path / "survivors.toml"
    monkeypatch.setattr("tests.safety.mutation.REASONS", reasons)
    reasons.write_text('[[survivor]]\nin = "a.b"\nwas = "x"\nbecame = "y"\nreason = "the same"\n')
    known = {"in": "a.b", "was": "x", "became": "y"}
    assert complaints({"mutants": 100, "killed": 95, "survivors": [known]}) == []
    few, unknown = complaints({"mutants": 1000, "killed": 949, "survivors": [known, known | {"was": "z"}]})
    assert few == "mutants killed must be ≥ 95 %; got 94.90 %"
    assert unknown == "a survivor needs a reason in survivors.toml: a.b: z -> y"
    (gone,) = complaints({"mutants": 100, "killed": 100, "survivors": []})
    assert gone == "a reason in survivors.toml has no survivor: a.b: x -> y"


def test_a_survivor_is_told_by_its_function_and_line_not_by_its_number() -> None:
    assert _survivor("edge.sensing.xǁSensingConfigǁperiods__mutmut_7", DIFF) == {
        "in": "edge.sensing.SensingConfig.periods",
        "was": "longest = max(0.0, source.period_s)",
        "became": "longest = max(1.0, source.period_s)",
    }
    assert _survivor("edge.protection.x__judged__mutmut_12", DIFF)["in"] == "edge.protection._judged"
