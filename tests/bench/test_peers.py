"""The job that peers are compared by: right by hand, and the same in our own parts."""

from __future__ import annotations

import numpy as np
import orjson
import pytest

from operators.step import Slots
from schemas.events import Rows
from schemas.wire_json import encode_json
from tests.bench.peers import environments, run
from tests.bench.peers.job import CELLS, EVERY, NAMES, advance, new_state, pack, stepper, unpack
from tests.bench.peers.ours import Job
from tests.support.frames import frames

ROWS = 2 * EVERY


def test_soc_follows_the_charge_and_each_cells_capacity() -> None:
    state, out = new_state(), np.zeros(len(NAMES))
    cell_v = np.full(CELLS, 3.6, np.float32)
    for i in range(EVERY):
        due = advance(*state, i * 10 * 10**9, 60.0, cell_v, out)
    assert due
    begin, hours = (float(np.float32(3.6)) - 3.0) / 1.2, 50 / 3600
    assert out[:3] == pytest.approx(
        [begin + hours, begin + hours * np.mean(1 / (1 - 0.001 * np.arange(CELLS))), begin + hours / (1 - 0.095)],
        abs=1e-12,
    )
    assert out[3] == 0


def test_the_cell_that_moves_away_has_the_largest_score() -> None:
    state, out = new_state(), np.zeros(len(NAMES))
    cell_v = np.full(CELLS, 3.6, np.float32)
    for i in range(EVERY):
        cell_v[7] = 3.6 - 0.01 * i
        advance(*state, i * 10 * 10**9, 0.0, cell_v, out)
    assert out[5] == 7
    assert out[4] < -3
    assert out[3] == pytest.approx(0.05, abs=1e-6)


def test_a_state_survives_as_bytes() -> None:
    state = new_state()
    advance(*state, 5, 1.0, np.linspace(3.5, 3.7, CELLS, dtype=np.float32), np.zeros(len(NAMES)))
    for one, other in zip(state, unpack(pack(state)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_our_parts_give_what_the_plain_job_gives() -> None:
    rows, model = 2 * ROWS, "generic-nmc@96c16t60ah"
    cell_v = np.linspace(3.5, 3.9, rows * CELLS).reshape(rows, CELLS)
    times, two = [10.0 * (i // 2) for i in range(rows)], [i % 2 for i in range(rows)]
    block = frames(
        times,
        np.linspace(-50, 50, rows),
        model=model,
        cells=CELLS,
        probes=16,
        names=("A", "B"),
        pack=two,
        cell_v=cell_v,
    )
    step, states = stepper(), {"A": new_state(), "B": new_state()}
    expected = {}
    for i in range(len(block)):
        name, value = encode_json(block.take(slice(i, i + 1)))[0]
        made = step(states[name], value)
        if made is not None:
            found = orjson.loads(made)
            expected[name, found["t_ns"]] = [found[n] for n in NAMES]
    job = Job(CELLS)
    slots = Slots()
    slots.add(("A", "B"), ("A", "B"))
    job.state = type(job.state).empty(2, CELLS, 0)
    (made_of,) = job.block(block.with_derived(slot=block.pack, pack_hash=slots.pack_hash[block.pack]))
    assert isinstance(made_of, Rows)
    got = {
        (made_of.packs[p], t): [float(made_of.data[n][i]) for n in NAMES]
        for i, (p, t) in enumerate(zip(made_of.pack.tolist(), made_of.data["start_ns"].tolist(), strict=True))
    }
    assert got == expected
    assert len(got) == 4


def test_a_peer_without_an_environment_says_how_to_make_it(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(environments, "ROOT", tmp_path)
    assert "just peers-setup" in environments.missing("pathway")
    monkeypatch.setattr("sys.argv", ["peers", "--json"])
    run.main()
    out, err = capsys.readouterr()
    assert json_null(out)
    assert err.count("just peers-setup") == len(environments.PEERS)


def json_null(text: str) -> bool:
    return orjson.loads(text) is None
