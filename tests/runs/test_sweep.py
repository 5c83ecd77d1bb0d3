"""Sweeps in run directories: an evaluation at every value; what is done stays done."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from risctl import runs
from risctl.config import load_config
from risctl.config.layers import Layers
from risctl.data import SceneStream
from risctl.errors import DamagedFileError, InputError
from risctl.evaluation import Sweep
from risctl.evaluation.files import read_point, write_point
from risctl.runs.progress import Update
from tests.runs.tiny import SURFACE, status_of

SMALL = Layers(overrides=(*SURFACE, "evaluation.snr_values_db=[20]", "evaluation.bootstrap=10"))
SNAPSHOTS = "physics.num_snapshots=3,5"
POINTS = Path("eval/sweep_num_snapshots_points")


def _request(*words: str, **how: Any) -> runs.EvaluationRequest:
    axes = runs.parse_sweeps(words or [SNAPSHOTS])
    return runs.EvaluationRequest(SMALL, None, ("music",), 4, plots=False, axes=axes, **how)


class Labels(list[str]):
    """A progress that keeps its labels; it interrupts at the one named."""

    interrupt: str | None = None

    @contextmanager
    def __call__(self, label: str) -> Iterator[Update]:
        self.append(label)
        if label == self.interrupt:
            raise KeyboardInterrupt
        yield lambda done, total: None


def test_a_sweep_leaves_tables_and_a_picture() -> None:
    swept = runs.sweep(replace(_request(), plots=True))
    run = swept.run
    assert status_of(run)["state"] == "done"
    names = {path.name for path in (run / "eval").iterdir() if path.is_file()}
    assert names == {"request.json"} | {f"sweep_num_snapshots{end}" for end in (".json", ".csv", ".png")}
    assert sorted(swept.files) == sorted(run / "eval" / n for n in names - {"request.json"})
    (sweep,) = swept.sweeps
    assert [(point.value, point.scenes) for point in sweep.points] == [(3, 4), (5, 4)]
    assert sweep == Sweep.model_validate_json((run / "eval" / "sweep_num_snapshots.json").read_text())
    assert load_config(None, run / "config.json").physics.num_snapshots == 4  # what is swept stays as it was


def test_the_values_are_what_was_evaluated() -> None:
    request = _request(SNAPSHOTS, "physics.num_antennas=4,6", "physics.snr_db=5,10")
    seen = []
    for configs in runs.plan_sweeps(request).values():
        for config in configs:
            at, source = runs.open_source(request, config)
            assert isinstance(source, SceneStream)
            assert at == config
            seen.append(source.scenes(0, 4))
    assert [tuple(s.y.shape[1:]) for s in seen] == [(3, 4), (5, 4), (4, 4), (4, 6), (4, 4), (4, 4)]
    assert [s.snr_db.tolist() for s in seen] == [[20.0] * 4] * 4 + [[5.0] * 4, [10.0] * 4]
    assert all(s.range.tolist() == seen[0].range.tolist() for s in seen)  # the same sources throughout


def test_an_interrupted_sweep_goes_on_with_the_next_value() -> None:
    whole, labels, made = runs.sweep(_request()), Labels(), list[Path]()
    labels.interrupt = "physics.num_snapshots=5"
    with pytest.raises(KeyboardInterrupt):
        runs.sweep(_request(), progress=labels, announce=made.append)
    (run,) = made
    assert status_of(run)["state"] == "interrupted"
    labels.interrupt, reused = None, list[str]()
    again = runs.sweep(runs.resumed_request(Layers(), run), run, labels, reused=reused.append)
    assert [label[-1] for label in labels] == ["3", "5", "5"]
    assert reused == ["physics.num_snapshots=3"]
    assert again.run == run
    assert [path.name for path in again.files] == [path.name for path in whole.files]
    for ours, theirs in zip(again.sweeps, whole.sweeps, strict=True):
        assert [point.cells for point in ours.points] == [point.cells for point in theirs.points]
        assert ours.breaks == theirs.breaks
    assert status_of(run)["state"] == "done"
    assert len(runs.read_document(run / "provenance.json")["resumed"]) == 1


def test_figures_of_other_settings_are_not_taken_for_these() -> None:
    run = runs.sweep(_request()).run
    path = run / POINTS / "00.json"
    point = read_point(path)
    assert point is not None
    write_point(path, point.model_copy(update={"fingerprint": "0"}))
    with pytest.raises(InputError, match="figures of the same settings"):
        runs.sweep(runs.resumed_request(Layers(), run), run)
    path.write_text("{")
    with pytest.raises(DamagedFileError, match=r"00\.json"):
        runs.sweep(runs.resumed_request(Layers(), run), run)


def test_no_changed_digit_of_a_finished_value_is_taken() -> None:
    path = runs.sweep(_request()).run / POINTS / "00.json"
    text = path.read_text()
    digits = [i for i, c in enumerate(text) if c.isdigit()]
    for i in digits[:: len(digits) // 30]:
        changed = f"{text[:i]}{(int(text[i]) + 1) % 10}{text[i + 1 :]}"
        if json.loads(changed) == json.loads(text):  # the seventeenth digit of a number
            continue
        path.write_text(changed)
        with pytest.raises((DamagedFileError, InputError)):
            read_point(path)
    document = json.loads(text)
    del document["content_hash"]  # as it was before there was one
    path.write_text(json.dumps(document))
    assert read_point(path) is not None


def test_what_would_be_swept_is_planned_before_anything_is_written() -> None:
    request = _request()
    assert runs.needs_of_sweeps(request, request.resolve()).disk_bytes > 0
    with pytest.raises(InputError, match=r"^sweep: expected no dataset"):
        runs.plan_sweeps(replace(request, data=Path("d")))
    with pytest.raises(
        InputError, match=r"^estimators: expected an estimator beside the oracle, got ceiling"
    ):
        runs.sweep(replace(request, estimators=("ceiling",)))
    assert not Path("runs").exists()


@pytest.mark.parametrize("layers", [Layers("full"), Layers(seed=1), Layers(file=Path("c.toml")), SMALL])
def test_only_a_sweep_can_be_resumed_and_with_its_own_settings(layers: Layers) -> None:
    with pytest.raises(InputError, match=r"^resume: expected a run of a sweep"):
        runs.resumed_request(Layers(), Path())
    with pytest.raises(InputError, match=r"expected none for a sweep that is resumed"):
        runs.resumed_request(layers, Path())


def test_override_words_of_an_axis() -> None:
    snr, codes = runs.parse_sweeps(["physics.snr_db=[-5, 0.5]", "physics.codebook=dft,random"])
    assert [snr.override(i) for i in range(2)] == [f"evaluation.snr_values_db=[{v}]" for v in ("-5", "0.5")]
    assert codes.override(0) == 'physics.codebook="dft"'
    with pytest.raises(InputError, match="scalar"):
        runs.parse_sweeps(["physics.snr_db=2026-01-01,2026-01-02"])


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("nonsense", "sweep: expected section.key=v1,v2,..., got 'nonsense'"),
        ("physics.num_snapshot=4,8", "known key (nearest: physics.num_snapshots)"),
        ("physics.num_snapshots=4", "expected 2 to 64 values, got 1"),
        ("physics.num_snapshots=4,4", "expected every value once, got 4 twice"),
        ("physics.num_snapshots=4,,8", "expected values like 4,8,16"),
        ("physics.num_snapshots=[4,8", "expected values like 4,8,16"),
        (
            "physics.num_snapshots=4,0",
            "sweep physics.num_snapshots=0: physics.num_snapshots: expected greater",
        ),
        ("physics.num_antennas=4,0", "sweep physics.num_antennas=0: physics.num_antennas: expected greater"),
        ("physics.codebook=random,dtf", "sweep physics.codebook=dtf: physics.codebook: expected 'random'"),
        ("physics.snr_db=0,400", "sweep physics.snr_db=400: physics.snr_db: expected less"),
        ("physics.snr_values_db=0,10", "expected physics.snr_db"),
        ("physics.impairments=1,2", "expected one setting, got a table"),
        ("evaluation.gate_deg=1,2", "expected a key of physics, inference, covariance"),
    ],
)
def test_what_cannot_be_swept_is_refused(word: str, message: str) -> None:
    with pytest.raises(InputError) as refused:
        runs.plan_sweeps(_request(word))
    assert message in str(refused.value)
    with pytest.raises(InputError, match="every setting once"):
        runs.parse_sweeps([SNAPSHOTS, SNAPSHOTS])
