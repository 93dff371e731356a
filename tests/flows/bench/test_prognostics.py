"""The bench of the prognostics step judges what it says it judges."""

from __future__ import annotations

from pathlib import Path

from flows.bench.many_sessions import make_lake, train
from flows.bench.prognostics import run
from sinks import ducklake


def test_all_sessions_are_judged_with_the_model(tmp_path: Path) -> None:
    make_lake(tmp_path / "lake", 200)
    found = run(tmp_path, train(tmp_path / "models"))
    assert found["seconds"] > 0
    assert 0 < found["imports_mb"] <= found["mb"]
    with ducklake.attach(tmp_path / "out") as con:
        charges, counted, by_model = con.execute(
            "SELECT (SELECT count(*) FROM evidence), (SELECT count(*) FROM evidence WHERE accepted), "
            "(SELECT count(*) FROM health WHERE soh_model IS NOT NULL)"
        ).fetchall()[0]
    assert charges == 60
    assert 0 < counted < 60
    assert by_model == 60
