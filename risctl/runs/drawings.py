"""The pictures of a run, drawn from the files in its directory: of a new run, and again of an old one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from risctl.config import load_config
from risctl.config.parse import parse_json
from risctl.data.atomic import storage_errors
from risctl.errors import InputError
from risctl.evaluation import read_results
from risctl.evaluation.files import read_sweep
from risctl.hpo import TrialRecord
from risctl.hpo.importance import Importance
from risctl.losses import main_weights
from risctl.plots import result_figures, save_figure, sweep_figure
from risctl.plots.curves import Curves, curves_figure
from risctl.plots.example import Example, example_figures
from risctl.plots.parallel import parallel_figure
from risctl.plots.search import history_figure, importance_figure, scales
from risctl.plots.style import PICTURES, Drawing
from risctl.runs.documents import read_document
from risctl.runs.names import CONFIG, EVAL_FOLDER, EXAMPLE_FILE, RESULTS_FILE, SEARCH_FILE, VERDICT_FILE
from risctl.runs.records import EPOCH, METRICS, STEP, of_kind, read_metrics
from risctl.runs.schemas import record_of
from risctl.text import Document, counted

STEPS_DRAWN = 600  # of a training: more make the file large and the picture no clearer
Drawings = dict[Path, Drawing]


def draw_run(run: Path, kind: str = "png") -> list[Path]:
    """Draw every picture of a run into its directory; return the files.

    Args:
        run: its directory.
        kind: the format, `png`, `pdf` or `svg`.

    Raises:
        InputError: another format.
        DamagedFileError: a file of the run is not what was written.
        StorageError: the disk refuses.
    """
    check_kind(kind)
    return [save_figure(draw(), run / f"{stem}.{kind}") for stem, draw in drawings_of(run).items()]


def check_kind(kind: str) -> None:
    """Refuse a format that pictures are not drawn in."""
    kinds = [suffix.removeprefix(".") for suffix in PICTURES]
    if kind not in kinds:
        raise InputError("pictures", "", f"one of {', '.join(kinds)}", repr(kind))


def drawings_of(run: Path) -> Drawings:
    """What can be drawn of a run, by the path below it without suffix."""
    return _evaluation(run) | _sweeps(run) | _training(run) | _search(run)


def evaluation_folder(run: Path) -> Path | None:
    """The directory with the results of a run's evaluation; None if it has none."""
    folders = (run / EVAL_FOLDER, run)
    return next((folder for folder in folders if (folder / RESULTS_FILE).is_file()), None)


def sweep_files(run: Path) -> list[Path]:
    """The figures of a run's sweeps."""
    return sorted((run / EVAL_FOLDER).glob("sweep_*.json")) or sorted(run.glob("sweep_*.json"))


def read_example(folder: Path) -> Example | None:
    """The typical scene of an evaluation; None where pictures were not wanted, or an older version wrote."""
    path = folder / EXAMPLE_FILE
    if not path.is_file():
        return None
    with storage_errors(path):
        content = path.read_bytes()
    return parse_json(Example, content, path)


def _evaluation(run: Path) -> Drawings:
    folder = evaluation_folder(run)
    if folder is None:
        return {}
    figures = result_figures(read_results(folder / RESULTS_FILE))
    example = read_example(folder)
    if example is not None:
        figures |= example_figures(example, load_config(None, run / CONFIG).physics)
    return {folder.relative_to(run) / name: draw for name, draw in figures.items()}


def _sweeps(run: Path) -> Drawings:
    return {
        path.relative_to(run).with_suffix(""): partial(sweep_figure, read_sweep(path))
        for path in sweep_files(run)
    }


def read_curves(run: Path) -> Curves | None:
    """The records of a training, thinned; None before its first validation, and of other runs."""
    if not (run / METRICS).is_file() or (run / SEARCH_FILE).is_file():
        return None
    records = read_metrics(run / METRICS)
    steps = of_kind(records, STEP)
    epochs = [epoch for epoch in of_kind(records, EPOCH) if epoch["val"].get("total") is not None]
    if not epochs:
        return None
    weights = main_weights(load_config(None, run / CONFIG).loss)
    gate = read_document(run / VERDICT_FILE).get("ready_below") if (run / VERDICT_FILE).is_file() else None
    return Curves(steps[:: max(1, -(-len(steps) // STEPS_DRAWN))], epochs, weights, gate)


def _training(run: Path) -> Drawings:
    curves = read_curves(run)
    if curves is None:
        return {}
    title = f"{run}: {counted(curves.epochs[-1]['step'], 'step')}"
    return {Path("curves"): partial(curves_figure, curves, title)}


@dataclass(frozen=True)
class SearchFile:
    """What pictures and report take from `search.json`.

    Attributes:
        document: all of it.
        trials: those that ended.
        preset: number of the trial with the preset's own values, None if there is none.
        importances: of the parameters.
        progress: how many trials ended, of how many.
    """

    document: Document
    trials: list[TrialRecord]
    preset: int | None
    importances: list[Importance]
    progress: str


def read_search(run: Path) -> SearchFile | None:
    """Read the result of a search; None of other runs.

    Raises:
        DamagedFileError: the file is not what was written.
    """
    path = run / SEARCH_FILE
    if not path.is_file():
        return None
    document = read_document(path)
    trials = [record_of(TrialRecord, trial) for trial in document["trials"]]
    baseline = document["preset"]
    return SearchFile(
        document,
        [trial for trial in trials if trial.state != "running"],
        None if baseline is None else baseline["number"],
        [record_of(Importance, entry) for entry in document["importance"]],
        f"{document['finished']} of {document['asked']} trials",
    )


def _search(run: Path) -> Drawings:
    found = read_search(run)
    if found is None:
        return {}
    config = load_config(None, run / CONFIG)
    title = f"{run}: {found.progress}, space {config.search.space}"
    figures: Drawings = {Path("history"): partial(history_figure, found.trials, found.preset, title)}
    if found.importances:
        words = f"What mattered in {len(found.trials)} trials"
        figures[Path("importance")] = partial(importance_figure, found.importances, words)
    figures[Path("parallel")] = partial(parallel_figure, found.trials, scales(config), found.preset, title)
    return figures
