"""A value of another kind in a file of a run: an answer, or one line that names the file; no traceback."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from risctl.cli.app import main
from risctl.config import load_config
from risctl.losses import main_weights
from risctl.runs import RunDirectory, write_json
from risctl.runs.drawings import drawings_of
from risctl.runs.gate import GATE_SCENES, fingerprints, gate_document, judge
from risctl.runs.names import VERDICT_FILE
from risctl.runs.records import EPOCH, METRICS, STEP, EventsFile, of_kind, read_metrics, recorded_outcome
from risctl.runs.search_report import report
from tests.cli.command import Capture
from tests.runs import searches
from tests.runs.tiny import TINY

OTHERS = ([], [None], {"a": [1]}, -1.5, 3, "x", True, None)
FEW = 16  # values of a file that are altered in the quick variant
MODEL = "runs/train/r"
FILES = (
    "train/r/status.json",
    "train/r/provenance.json",
    f"train/r/{METRICS}",
    f"train/r/{VERDICT_FILE}",
    "hpo/r/search.json",
    f"hpo/r/{METRICS}",
    "check-alignment/r/alignment.json",
    "eval/r/eval/results.json",
    "eval/r/eval/example.json",
    "eval/s/eval/sweep_num_snapshots.json",
)
SHORT = (
    "--scenes",
    "8",
    "evaluation.bootstrap=2",
    "evaluation.snr_values_db=[10]",
    "--estimators",
    "learned",
)
SWEEP = ("--sweep", "physics.num_snapshots=3,4")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a small run of every kind."""
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("risctl.runs.drawings.drawings_of", lambda _: {})
        patch.setattr("risctl.runs.report.write_report", lambda run: run)
        assert main(["train", *TINY, "--name", "r"]) == 0
        assert main(["eval", MODEL, "--name", "r", *SHORT]) == 0
        assert main(["eval", MODEL, "--name", "s", *SWEEP, *SHORT]) == 0
        main(["check-alignment", MODEL, "--scenes", "2"])
        next(Path("runs/check-alignment").iterdir()).rename("runs/check-alignment/r")
        with RunDirectory.create("hpo", "search", searches.config(), {}, place=Path("runs/hpo/r")) as run:
            report(run.path, searches.plan(), searches.outcome())
            with EventsFile(run.path / METRICS) as listen:
                for event in searches.events(searches.trials()[:1]):
                    listen(event)
        _judge(Path(MODEL))
    return folder


def _judge(run: Path) -> None:
    """Write `overfit.json` as if the training had been the gate."""
    config, records = load_config(None, run / "config.json"), read_metrics(run / METRICS)
    found, weights = recorded_outcome(run, records), main_weights(config.loss)
    gate = judge(found, of_kind(records, EPOCH), of_kind(records, STEP), weights)
    marks = {"is_gate": True, "fingerprints": fingerprints(config, GATE_SCENES)}
    write_json(run / VERDICT_FILE, gate_document(gate, config, found) | marks)


def places(value: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every value of a document; of a list the first."""
    if at:
        yield at
    inside = dict(enumerate(value[:1])) if isinstance(value, list) else value
    for key, part in inside.items() if isinstance(inside, dict) else ():
        yield from places(part, (*at, key))


def altered(text: str, place: tuple[str | int, ...], other: object) -> str:
    document = json.loads(text)
    part = document
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = other
    return json.dumps(document)


def damages(path: Path, few: bool) -> Iterator[str]:
    """The contents of a file with one value of another kind: of every kind, or `FEW` in all."""
    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    chosen = {json.loads(line).get("event"): i for i, line in enumerate(lines)}  # one line of each event
    found = [(i, place) for i in chosen.values() for place in places(json.loads(lines[i]))]
    every = -(-len(found) // FEW) if few else 1
    for j, (i, place) in enumerate(found[::every]):
        for other in (OTHERS[j % len(OTHERS)],) if few else OTHERS:
            yield "\n".join([*lines[:i], altered(lines[i], place, other), *lines[i + 1 :]])


@pytest.mark.parametrize("few", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("file", FILES)
def test_a_value_of_another_kind(
    file: str, few: bool, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(project)
    # Drawing takes longest: what is drawn is read alone.
    monkeypatch.setattr("risctl.runs.report.pictures_of", lambda run: list(drawings_of(run))[:0])
    path = Path("runs", file)
    run, whole = str(Path(*path.parts[:3])), path.read_text()
    commands = (
        ("report", run, "--out", "page.html"),
        ("verdict", MODEL),
        ("runs",),
        ("runs", "compare", run, MODEL),
    )
    damaged = 0
    try:
        for text in damages(path, few):
            path.write_text(text)
            for command in commands:
                status, said = main([*command]), capsys.readouterr().err
                assert status in (0, 2, 3, 4), (command, text)
                if status in (2, 4):
                    damaged += 1
                    assert said.startswith("risctl: "), (command, said)
                    assert said.count("\n") == 1, (command, said)
                    assert path.name in said, (command, said)
    finally:
        path.write_text(whole)
    assert damaged > 0, "nothing was noticed"
