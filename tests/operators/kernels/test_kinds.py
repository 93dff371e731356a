"""The table of kinds is complete and can be read aloud."""

import re

from operators.kernels.kinds import INDEX, KINDS


def test_every_kind_has_a_name_of_its_own_and_says_what_to_do() -> None:
    assert len(INDEX) == len(KINDS) < 128  # numbers fit int8
    assert [k.name for k in KINDS if not k.text or not k.do.endswith(".")] == []


def test_texts_name_only_what_an_incident_knows() -> None:
    named = {field for k in KINDS for field in re.findall(r"{(\w+)}", k.text)}
    assert named <= {"subject", "value", "normal", "be", "have", "its", "they", "s", "side", "heat", "much"}


def test_kinds_keep_their_numbers() -> None:
    # findings and snapshots carry the number: the table may only grow at its end
    first = ["cell_overvoltage", "cell_undervoltage", "overtemperature", "undertemperature", "overcurrent_charge"]
    assert [k.name for k in KINDS[:5]] == first
    assert (INDEX["thermal_event"], INDEX["cell_spread"], INDEX["leak"], INDEX["cooling"]) == (9, 10, 11, 22)
