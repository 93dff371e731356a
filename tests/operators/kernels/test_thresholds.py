"""The table of thresholds in this folder's README is true: kinds, settings, kernels and the alarm budget."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from operators.kernels import diagnose
from operators.kernels.kinds import KINDS
from schemas.pack import load_pack

README = Path(diagnose.__file__).with_name("README.md")
NMC, LFP = (diagnose.DiagnoseConfig.of(load_pack(f"generic-{name}@96c16t60ah")) for name in ("nmc", "lfp"))
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in README.read_text("utf-8").partition("## When an alarm is raised")[2].splitlines()
    if line.startswith("| `")
]
SETTINGS = sorted(
    {m for row in ROWS for m in re.findall(r"`(\w+)\.(\w+)` ([\d.]+)(?:; ([\d.]+))?", " ".join(row[2:4]))}
)


def test_every_kind_that_opens_an_incident_has_a_row_and_no_other() -> None:
    assert sorted(row[0].strip("`") for row in ROWS) == sorted(kind.name for kind in KINDS if kind.opens)


@pytest.mark.parametrize(("part", "name", "nmc", "lfp"), SETTINGS)
def test_a_setting_is_what_the_code_has(part: str, name: str, nmc: str, lfp: str) -> None:
    assert getattr(getattr(NMC, part), name) == float(nmc)
    assert getattr(getattr(LFP, part), name) == float(lfp or nmc)


def test_a_row_names_the_kernel_that_raises_its_kind() -> None:
    for kind, *_, kernel in ROWS:
        source = README.with_name(f"{kernel.strip('`')}.py").read_text("utf-8")
        assert f'"{kind.strip("`")}"' in source, kind


@pytest.mark.parametrize("chemistry", [0, 1])
def test_all_kinds_together_stay_within_the_alarm_budget(chemistry: int) -> None:
    told = [float(row[4].split(";")[-1 if chemistry else 0]) for row in ROWS]
    assert 0 < sum(told) <= 0.1
