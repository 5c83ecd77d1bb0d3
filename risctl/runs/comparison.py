"""Two runs side by side: the settings that differ, and their figures."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from risctl.config import diff_configs, load_config
from risctl.errors import InputError
from risctl.evaluation.paired import SCENES, Difference, paired_differences, same_scenes
from risctl.runs.documents import read_document
from risctl.runs.names import CONFIG, EVAL_FOLDER, RESULTS_FILE, SEARCH_FILE
from risctl.runs.records import EPOCH, METRICS, of_kind, read_metrics
from risctl.training.metrics import FIGURES

SHOWN_SNR_DB = (None, 0.0, 10.0, 20.0)


@dataclass(frozen=True)
class Comparison:
    """Two runs side by side.

    Attributes:
        settings: `{"section.key": (value in the first, in the second)}` where they differ.
        figures: name and value in each, None where a run has none.
        paired: figures of the estimators that both evaluated on the same scenes, with intervals.
    """

    settings: dict[str, tuple[Any, Any]]
    figures: tuple[tuple[str, float | None, float | None], ...]
    paired: tuple[Difference, ...]


def compare_runs(first: Path, second: Path, estimators: tuple[str, str] | None = None) -> Comparison:
    """Compare two runs; of evaluations of the same scenes the differences have paired intervals.

    Args:
        first, second: directories of runs; one and the same, to compare two of its estimators.
        estimators: the one of each whose figures are compared; None: every one that both have, with itself.

    Raises:
        InputError: one of them is no run, has no such estimator, or evaluated other scenes.
        DamagedFileError: a file is not what was written.
    """
    for run in (first, second):
        if not (run / CONFIG).is_file():
            raise InputError(run, "", f"a run's directory (with {CONFIG})", "none")
    a, b = (load_config(None, run / CONFIG) for run in (first, second))
    ours, theirs = _figures(first), _figures(second)
    figures = tuple((name, ours.get(name), theirs.get(name)) for name in ours | theirs)
    folders = [_rows(run) for run in (first, second)]
    paired: list[Difference] = []
    if folders[0] is not None and folders[1] is not None and same_scenes(folders[0], folders[1]):
        paired = paired_differences(folders[0], folders[1], estimators)
    elif estimators is not None:
        raise InputError(second, "", f"an evaluation of the scenes of {first}, with its raw rows", "none")
    return Comparison(diff_configs(a, b), figures, tuple(paired))


def _rows(run: Path) -> Path | None:
    """The directory with the raw rows of an evaluation, if there is one."""
    return next((folder for folder in (run / EVAL_FOLDER, run) if (folder / SCENES).is_file()), None)


def _figures(run: Path) -> dict[str, float | None]:
    """The figures of a run by name: of the best epoch of a training, of a search, of an evaluation."""
    found: dict[str, float | None] = {}
    epochs = of_kind(read_metrics(run / METRICS), EPOCH) if (run / METRICS).is_file() else []
    measured = [epoch for epoch in epochs if epoch["val"].get("total") is not None]
    if measured:
        best = min(measured, key=lambda epoch: epoch["val"]["total"])
        found["validation loss"], found["epochs"] = best["val"]["total"], len(epochs)
        found |= {figure.label: best["metrics"].get(figure.name) for figure in FIGURES}
    if (run / SEARCH_FILE).is_file():
        search = read_document(run / SEARCH_FILE)
        found["best trial's loss"] = (search.get("best") or {}).get("value")
        found["trials finished"], found["spread of losses"] = search.get("finished"), search.get("spread")
    for path in (run / EVAL_FOLDER / RESULTS_FILE, run / RESULTS_FILE):
        if path.is_file():
            found |= _of_results(read_document(path))
            break
    return found


def _of_results(results: dict[str, Any]) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for cell in results["cells"]:
        if cell["num_sources"] is None and cell["snr_db"] in SHOWN_SNR_DB:
            at = "all SNR" if cell["snr_db"] is None else f"{cell['snr_db']:g} dB"
            name = f"{cell['estimator']}, {at}"
            found[f"{name}: recall"] = cell["recall"]["value"]
            found[f"{name}: K right"] = cell["count_accuracy"]["value"]
            found[f"{name}: azimuth RMSE, deg"] = cell["azimuth_deg"]["rmse"]
            found[f"{name}: range RMSE, m"] = cell["range_m"]["rmse"]
    return found
