"""What the files of a run say, as parts of its report: one function for each kind of result."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from risctl.evaluation import TextTable, headline, read_results, sweep_headline, sweep_table
from risctl.evaluation.alignment import Finding
from risctl.evaluation.files import read_sweep
from risctl.evaluation.summary import evaluation_tables, summary_table
from risctl.plots.svg import png_of, svg_of
from risctl.report import Check, Picture
from risctl.runs.documents import read_document
from risctl.runs.drawings import (
    drawings_of,
    evaluation_folder,
    read_curves,
    read_search,
    sweep_files,
)
from risctl.runs.names import ALIGNMENT_FILE, RESULTS_FILE, VERDICT_FILE
from risctl.runs.schemas import record_of
from risctl.text import number, readable_seconds
from risctl.training.metrics import FIGURES

# Of the pictures of a run, those in its report, with their titles and captions.
SHOWN = {
    "history": (
        "Trials",
        "Each trial's best loss, and the losses of every epoch; the preset's own values are a trial too.",
    ),
    "importance": (
        "Importance",
        "Share of the spread of the losses that each setting explains, and what chance alone reaches.",
    ),
    "rmse": (
        "Error against SNR",
        "RMSE of the sources found, with 95 % intervals, beside the Cramer-Rao bound. Hollow: recall is "
        "below 0.9, and the errors are those of the easier sources.",
    ),
    "rates": (
        "Found and counted",
        "Above: recall. Below: K right. Bands: 95 % intervals.",
    ),
    "scene": ("A scene", "True and estimated positions, with the estimator's own deviations."),
    "spectrum": ("Its spectrum", "MUSIC spectrum of R_samp of the same scene over azimuth and range."),
    "sweep": (
        "Sweep",
        "Against the swept value; hollow where recall falls below 90 % of the estimator's best here.",
    ),
    "curves": (
        "Training",
        "Losses, their terms, validation figures, learning rates and gradient norms over the steps.",
    ),
}


@dataclass(frozen=True)
class Part:
    """What one kind of result adds to a page."""

    headline: str
    checks: tuple[Check, ...] = ()
    tables: tuple[TextTable, ...] = ()


def parts_of(run: Path) -> list[Part]:
    """The parts of a run's report, the verdicts first.

    Raises:
        DamagedFileError: a file is not what was written.
    """
    return [part for read in READERS for part in read(run)]


def pictures_of(run: Path) -> Iterator[Picture]:
    """The pictures of a run's report, drawn anew; a scene of an older run as it was drawn then."""
    drawings = drawings_of(run)
    for stem, draw in drawings.items():
        kind = "sweep" if stem.name.startswith("sweep_") else stem.name
        if kind in SHOWN:
            title, caption = SHOWN[kind]
            yield Picture(title, caption, svg_of(draw(), title))
    folder = evaluation_folder(run)
    for name in ("scene", "spectrum"):
        if folder is not None and not any(stem.name == name for stem in drawings):
            path = folder / f"{name}.png"
            if path.is_file():
                yield Picture(*SHOWN[name], png_of(path))


def _evaluation(run: Path) -> list[Part]:
    folder = evaluation_folder(run)
    if folder is None:
        return []
    results = read_results(folder / RESULTS_FILE)
    checks = tuple(
        Check(
            f"{oracle.name}, given {oracle.side_information}",
            f"{number(oracle.median_angle_deg)} deg, {number(oracle.median_range_m)} m",
            "search exact on the true covariance",
            oracle.met,
        )
        for oracle in results.references
    )
    return [Part(headline(results) + ".", checks, (summary_table(results), *evaluation_tables(results)))]


def _sweeps(run: Path) -> list[Part]:
    sweeps = map(read_sweep, sweep_files(run))
    return [Part(sweep_headline(sweep) + ".", (), (sweep_table(sweep),)) for sweep in sweeps]


def _training(run: Path) -> list[Part]:
    curves = read_curves(run)
    if curves is None:
        return []
    epochs = curves.epochs
    best = min(epochs, key=lambda epoch: epoch["val"]["total"])
    sentence = (
        f"Best validation loss {number(best['val']['total'])} in epoch {best['epoch'] + 1} of {len(epochs)} "
        f"(first {number(epochs[0]['val']['total'])})."
    )
    chosen = (epochs[0], best, epochs[-1])
    rows = [(f.label, *(number(epoch["metrics"].get(f.name)) for epoch in chosen)) for f in FIGURES]
    losses = [("validation loss", *(number(e["val"]["total"]) for e in chosen))]
    table = TextTable("Validation", ("figure", "first epoch", "best epoch", "last epoch"), (*losses, *rows))
    return [Part(sentence, (), (table,))]


def _gate(run: Path) -> list[Part]:
    if not (run / VERDICT_FILE).is_file():
        return []
    verdict = read_document(run / VERDICT_FILE)
    checks = tuple(Check(c["name"], number(c["value"]), c["wanted"], c["met"]) for c in verdict["checks"])
    return [Part(f"Overfit gate: {verdict['verdict']}.", checks)]


def _search(run: Path) -> list[Part]:
    read = read_search(run)
    if read is None:
        return []
    found, best = read.document["verdict"], read.document["best"]
    checks = tuple(Check(f["name"], f["found"], f["wanted"], f["met"]) for f in found["findings"])
    verdict = "go" if found["go"] else "no-go"
    result = f"best loss {number(best['value'])} in trial {best['number']}" if best else "no trial complete"
    keys = sorted({key for trial in read.trials for key in trial.params})
    rows = tuple(
        (
            str(t.number),
            t.state,
            number(t.value),
            *(number(t.params.get(key)) for key in keys),
            readable_seconds(t.seconds),
        )
        for t in sorted(read.trials, key=lambda t: (t.value is None, t.value or 0.0))
    )
    names = (key.rpartition(".")[2] for key in keys)
    table = TextTable("Trials", ("trial", "state", "loss", *names, "time"), rows)
    return [Part(f"Search: {verdict}; {read.progress}, {result}.", checks, (table,))]


def _alignment(run: Path) -> list[Part]:
    path = run / ALIGNMENT_FILE
    if not path.is_file():
        return []
    document = read_document(path)
    findings = [record_of(Finding, values) for values in document["findings"]]
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
    return [Part(f"{sentence} ({len(checks)} figures compared{noticed}).", checks, tables)]


READERS: tuple[Callable[[Path], list[Part]], ...] = (
    _gate,
    _search,
    _alignment,
    _evaluation,
    _sweeps,
    _training,
)
