"""References: their figures, and that nothing takes them for estimators."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from risctl.evaluation import (
    Evaluation,
    accuracy_table,
    detection_table,
    headline,
    read_results,
    reference_table,
    timing_table,
    write_evaluation,
)
from risctl.inference import Estimates
from risctl.inference.estimates import unknown
from risctl.physics import Scenes
from risctl.plots import result_figures, rmse_figure
from tests.evaluation.conftest import Run


@dataclass(frozen=True)
class Told:
    """Answers the truth moved by `shift` radians of elevation, `metres` of range, in two scenes of three."""

    shift: float = 0.0
    metres: float = 0.0
    name: str = "told"
    side_information: str = "everything"

    def __call__(self, scenes: Scenes) -> Estimates:
        moved = (torch.arange(len(scenes)) % 3 > 0).double().unsqueeze(1)
        used, count = scenes.source_mask, scenes.num_sources.long()
        nan = torch.full_like(scenes.azimuth, torch.nan, dtype=torch.float64)

        def padded(values: torch.Tensor) -> torch.Tensor:
            return torch.where(used, values.double(), torch.nan)

        elevation, range_ = scenes.elevation + self.shift * moved, scenes.range + self.metres * moved
        places = map(padded, (scenes.azimuth, elevation, range_))
        rest = (padded(scenes.power), nan, nan, nan, scenes.noise_var.double())
        return Estimates(count, *places, *rest, *unknown(count, nan.shape[1]))


@pytest.fixture
def judge(run: Run) -> Run:
    return lambda **how: run(references={"told": Told(**how)})


def test_figures_are_over_every_source_also_outside_the_gate(judge: Run) -> None:
    shift = torch.deg2rad(torch.tensor(7.0)).item()  # past the gate of 5 degrees
    results = judge(shift=shift, metres=0.3).results
    (figures,) = results.references
    assert results.cell("told").recall.value == pytest.approx(1 / 3, abs=0.05)
    assert figures.sources == sum(results.cell("told", None, k).true_sources for k in (1, 2, 3))
    assert figures.median_angle_deg == pytest.approx(7.0, abs=1e-3)
    assert figures.median_range_m == pytest.approx(0.3, abs=1e-3)
    assert figures.within_a_degree == pytest.approx(1 / 3, abs=0.05)
    assert not figures.met


@pytest.mark.parametrize(
    ("shift", "metres", "met"),
    [(0.0, 0.0, True), (0.004, 0.0, False), (0.0, 0.25, False), (-0.001, 0.01, True)],
)
def test_the_targets_are_a_fifth_of_a_degree_and_of_a_metre(
    judge: Run, shift: float, metres: float, met: bool
) -> None:
    assert judge(shift=shift, metres=metres).results.references[0].met is met


def test_estimates_stuck_at_an_edge_are_counted_beside_the_truth_there(judge: Run) -> None:
    here, stuck = judge().results.references[0], judge(metres=20.0).results.references[0]
    assert here.edge_pegged_share == here.edge_share_of_truth
    assert stuck.edge_share_of_truth == here.edge_share_of_truth
    assert stuck.edge_pegged_share == pytest.approx(2 / 3, abs=0.05)
    assert not stuck.met


def test_it_is_listed_apart(judge: Run) -> None:
    results = judge().results
    assert (results.estimators, results.names) == (("good",), ("good", "told"))
    for table in (detection_table(results), accuracy_table(results)):
        assert {row[0] for row in table.rows} == {"good"}
    table = reference_table(results)
    assert [row[:2] for row in table.rows] == [("told", "everything")]
    assert {len(row) for row in table.rows} == {len(table.columns)}
    assert "no estimator" in table.note
    assert [row[0] for row in timing_table(results).rows] == ["good", "told (reference)"]
    assert "told (a reference, given everything)" in headline(results)


def test_without_one_there_is_no_table(evaluated: Evaluation) -> None:
    assert reference_table(evaluated.results).rows == ()


def test_files_hold_it_and_read_back(judge: Run, tmp_path: Path) -> None:
    evaluation = judge(metres=0.1)
    write_evaluation(tmp_path, evaluation)
    path = tmp_path / "results.json"
    assert '"told": "everything"' in path.read_text()
    assert read_results(path) == evaluation.results


def test_it_is_drawn_as_a_dotted_line_on_the_estimators_scale(judge: Run) -> None:
    def panel(**how: float) -> Any:
        return rmse_figure(judge(**how).results).axes[2]

    exact, shifted = panel(metres=1e-4), panel(metres=1.0)
    assert exact.get_ylim() == shifted.get_ylim()
    assert [text.get_text() for text in exact.texts] == ["told: below 8e-05"]
    assert not shifted.texts
    dotted = [line for line in shifted.get_lines() if line.get_linestyle() == ":"]
    assert len(dotted) == 1


def test_alone_it_leaves_nothing_to_draw(run: Run) -> None:
    results = run(estimators={}, num_scenes=6, references={"told": Told()}).results
    assert results.estimators == ()
    assert result_figures(results) == {}
