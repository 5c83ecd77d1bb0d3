"""What the files of a run say, as parts of its report: one function for each kind of result."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from risctl.config import load_config
from risctl.errors import DamagedFileError
from risctl.evaluation import Results, TextTable, headline, read_results, sweep_headline, sweep_table
from risctl.evaluation.alignment import Finding
from risctl.evaluation.files import read_sweep
from risctl.evaluation.summary import evaluation_tables, summary_table
from risctl.hpo import TrialRecord
from risctl.hpo.importance import Importance
from risctl.losses import main_weights
from risctl.plots import rates_figure, rmse_figure, sweep_figure
from risctl.plots.curves import Curves, curves_figure
from risctl.plots.search import history_figure, importance_figure
from risctl.plots.svg import png_of, svg_of
from risctl.report import Check, Picture
from risctl.runs.documents import read_document
from risctl.runs.names import ALIGNMENT_FILE, CONFIG, EVAL_FOLDER, RESULTS_FILE, SEARCH_FILE, VERDICT_FILE
from risctl.runs.records import EPOCH, METRICS, STEP, of_kind, read_metrics
from risctl.text import number, readable_seconds
from risctl.training.metrics import FIGURES

STEPS_DRAWN = 600  # of a training: more make the file large and the picture no clearer
EXAMPLES = {
    "scene.png": ("A scene", "True and estimated positions, with the estimator's own deviations."),
    "spectrum.png": ("Its spectrum", "MUSIC spectrum of the same scene over azimuth and elevation."),
}
AnyRecord = TypeVar("AnyRecord")


@dataclass(frozen=True)
class Part:
    """What one kind of result adds to a page."""

    headline: str
    checks: tuple[Check, ...] = ()
    pictures: tuple[Picture, ...] = ()
    tables: tuple[TextTable, ...] = ()


def parts_of(run: Path) -> list[Part]:
    """The parts of a run's report, the verdicts first.

    Raises:
        DamagedFileError: a file is not what was written.
    """
    return [part for read in READERS for part in read(run)]


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Name the file of a document that lacks a key or has a value of another kind."""
    try:
        yield
    except (KeyError, TypeError, AttributeError) as error:
        raise DamagedFileError(path, "a result of risctl", f"{type(error).__name__}: {error}") from None


def _record(kind: type[AnyRecord], values: Mapping[str, Any]) -> AnyRecord:
    """A dataclass from its document; what this version does not know is left out."""
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in values.items() if name in names})


def _evaluation(run: Path) -> list[Part]:
    for folder in (run / EVAL_FOLDER, run):
        if (folder / RESULTS_FILE).is_file():
            return [_evaluation_part(folder, read_results(folder / RESULTS_FILE))]
    return []


def _evaluation_part(folder: Path, results: Results) -> Part:
    checks = tuple(
        Check(
            f"{oracle.name}, given {oracle.side_information}",
            f"{number(oracle.median_angle_deg)} deg, {number(oracle.median_range_m)} m",
            "search exact on the true covariance",
            oracle.met,
        )
        for oracle in results.references
    )
    pictures = []
    if results.estimators:
        rmse = "Solid: RMSE of the sources found. Dashed: Cramer-Rao bound of the same sources."
        shares = "Above: sources found. Below: scenes with the right count. Bands: 95 % intervals."
        pictures = [
            Picture("Error against SNR", rmse, svg_of(rmse_figure(results), "error against SNR")),
            Picture("Found and counted", shares, svg_of(rates_figure(results), "recall and count")),
        ]
    pictures += [
        Picture(*EXAMPLES[name], png_of(folder / name)) for name in EXAMPLES if (folder / name).is_file()
    ]
    tables = (summary_table(results), *evaluation_tables(results))
    return Part(headline(results) + ".", checks, tuple(pictures), tables)


def _sweeps(run: Path) -> list[Part]:
    parts = []
    for path in sorted((run / EVAL_FOLDER).glob("sweep_*.json")) or sorted(run.glob("sweep_*.json")):
        sweep = read_sweep(path)
        caption = (
            "Against the swept value; hollow where recall falls below 90 % of the estimator's best here."
        )
        picture = Picture(
            f"Sweep of {sweep.key}", caption, svg_of(sweep_figure(sweep), f"sweep of {sweep.key}")
        )
        parts.append(Part(sweep_headline(sweep) + ".", (), (picture,), (sweep_table(sweep),)))
    return parts


def _training(run: Path) -> list[Part]:
    if not (run / METRICS).is_file() or (run / SEARCH_FILE).is_file():
        return []
    records = read_metrics(run / METRICS)
    steps = of_kind(records, STEP)
    epochs = [epoch for epoch in of_kind(records, EPOCH) if epoch["val"].get("total") is not None]
    if not epochs:
        return []
    config = load_config(None, run / CONFIG)
    weights = main_weights(config.loss)
    gate = read_document(run / VERDICT_FILE).get("ready_below") if (run / VERDICT_FILE).is_file() else None
    every = max(1, -(-len(steps) // STEPS_DRAWN))
    figure = curves_figure(Curves(steps[::every], epochs, weights, gate), str(run))
    best = min(epochs, key=lambda epoch: epoch["val"]["total"])
    sentence = (
        f"Best validation loss {number(best['val']['total'])} in epoch {best['epoch'] + 1} of {len(epochs)} "
        f"(first {number(epochs[0]['val']['total'])})."
    )
    caption = "Losses, their terms, validation figures, learning rates and gradient norms over the steps."
    chosen = (epochs[0], best, epochs[-1])
    rows = [(f.label, *(number(epoch["metrics"].get(f.name)) for epoch in chosen)) for f in FIGURES]
    losses = [("validation loss", *(number(e["val"]["total"]) for e in chosen))]
    table = TextTable("Validation", ("figure", "first epoch", "best epoch", "last epoch"), (*losses, *rows))
    return [Part(sentence, (), (Picture("Training", caption, svg_of(figure, "training curves")),), (table,))]


def _gate(run: Path) -> list[Part]:
    if not (run / VERDICT_FILE).is_file():
        return []
    verdict = read_document(run / VERDICT_FILE)
    with _reading(run / VERDICT_FILE):
        checks = tuple(Check(c["name"], number(c["value"]), c["wanted"], c["met"]) for c in verdict["checks"])
        return [Part(f"Overfit gate: {verdict['verdict']}.", checks)]


def _search(run: Path) -> list[Part]:
    if not (run / SEARCH_FILE).is_file():
        return []
    document = read_document(run / SEARCH_FILE)
    with _reading(run / SEARCH_FILE):
        trials = [_record(TrialRecord, trial) for trial in document["trials"]]
        baseline = document["preset"]
        bars = [_record(Importance, entry) for entry in document["importance"]]
        found = document["verdict"]
        checks = tuple(Check(f["name"], f["found"], f["wanted"], f["met"]) for f in found["findings"])
        finished, asked = document["finished"], document["asked"]
        best = document["best"]
    at = None if baseline is None else baseline["number"]
    caption = (
        "Each trial's best loss, and the losses of every epoch; the preset's own values are a trial too."
    )
    history = history_figure(trials, at, f"{finished} of {asked} trials")
    pictures = [Picture("Trials", caption, svg_of(history, "losses of the trials"))]
    if bars:
        share = "Share of the spread of the losses that each setting explains, and what chance alone reaches."
        drawn = importance_figure(bars, "What mattered")
        pictures.append(Picture("Importance", share, svg_of(drawn, "importance of the settings")))
    keys = sorted({key for trial in trials for key in trial.params})
    rows = tuple(
        (
            str(t.number),
            t.state,
            number(t.value),
            *(number(t.params.get(key)) for key in keys),
            readable_seconds(t.seconds),
        )
        for t in sorted(trials, key=lambda t: (t.value is None, t.value or 0.0))
    )
    table = TextTable("Trials", ("trial", "state", "loss", *keys, "time"), rows)
    verdict = "go" if found["go"] else "no-go"
    result = f"best loss {number(best['value'])} in trial {best['number']}" if best else "no trial complete"
    return [
        Part(f"Search: {verdict}; {finished} of {asked} trials, {result}.", checks, tuple(pictures), (table,))
    ]


def _alignment(run: Path) -> list[Part]:
    path = run / ALIGNMENT_FILE
    if not path.is_file():
        return []
    document = read_document(path)
    with _reading(path):
        findings = [_record(Finding, values) for values in document["findings"]]
        checks = tuple(Check(f.label, str(f.got), f.expected, f.passed) for f in findings)
        mutants = tuple(
            (m["mutant"], m["side"], "noticed" if m["caught"] else "unnoticed") for m in document["mutants"]
        )
        passed = document["passed"]
    missed = sum(not check.met for check in checks)
    tables = (TextTable("Alterations", ("altered", "side", "result"), mutants),)
    sentence = (
        "Training and inference compute the same" if passed else f"Not aligned: {missed} figures differ"
    )
    caught = sum(row[2] == "noticed" for row in mutants)
    noticed = f"; {caught} of {len(mutants)} alterations noticed" if mutants else ""
    return [Part(f"{sentence} ({len(checks)} figures compared{noticed}).", checks, (), tables)]


READERS: tuple[Callable[[Path], list[Part]], ...] = (
    _gate,
    _search,
    _alignment,
    _evaluation,
    _sweeps,
    _training,
)
