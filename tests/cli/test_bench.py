"""`bench`: the document and the table have the right form; how fast is not for a test to say."""

from pathlib import Path

import pytest

from risctl.cli.app import main
from risctl.evaluation import bench, timing
from tests.cli.command import Capture, ask

SMALL = (
    "physics.num_snapshots=4",
    "physics.max_sources=2",
    "inference.range_rings=2",
    "model.width=8",
    "model.depth=1",
)
MEASURED = {"name", "unit", "value", "low", "high", "repeats", "more_is_better", "target", "met"}
FIGURE_KEYS = MEASURED | {"reference", "reference_name", "times_better"}


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = bench.Plan(
        repeats=1, written_scenes=64, located_scenes=2, oversampling=0.5, covariances=2, training_batch=2
    )
    monkeypatch.setattr("risctl.runs.bench.QUICK", plan)
    monkeypatch.setattr(timing, "MIN_SECONDS", 0.0)


def test_the_document(capsys: Capture, tmp_path: Path) -> None:
    document = ask(capsys, "bench", "--quick", *SMALL)
    assert (document["schema_version"], document["command"], document["quick"]) == (1, "bench", True)
    figures = {figure["name"]: figure for figure in document["figures"]}
    assert all(set(figure) == FIGURE_KEYS for figure in figures.values())
    assert all(0 < f["low"] <= f["value"] <= f["high"] for f in figures.values())
    targets = [figure["target"] for figure in figures.values()]
    assert targets[:2] == [6000.0, 25_000.0]
    assert targets[5] == 150.0
    assert targets[6] == document["figures"][6]["reference"]  # of losses and covariances: the network's time
    assert targets[7:] == [0.05, 0.2, 2e6, 15e6, None]
    asked = [50.0, 10.0, 10.0]  # times faster than the dense way
    for figure, gain in zip(document["figures"][2:5], asked, strict=True):
        assert figure["target"] == pytest.approx(figure["reference"] / gain)
    machine = document["machine"]
    assert machine["threads"] == 1
    assert machine["processor"]
    assert machine["torch_build"]
    assert machine["load_before"] is None or len(machine["load_before"]) == 3
    assert list(tmp_path.iterdir()) == []


def test_the_table(capsys: Capture) -> None:
    assert main(["bench", "--quick", *SMALL]) == 0
    shown = capsys.readouterr().out
    for part in (
        "gen-data",
        "NOMP without swaps",
        "MUSIC, 1 covariance",
        "6,000",
        "speed-up",
        "naive baseline of ",
        "targets",
    ):
        assert part in shown
    assert "risctl demo" in shown.splitlines()[-1]
