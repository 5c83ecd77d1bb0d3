"""The pictures of an evaluation. Importing this loads no matplotlib; drawing does."""

from pathlib import Path

from risctl.evaluation.results import Results
from risctl.plots.detection import detection_figure, reliability_figure
from risctl.plots.results import confusion_figure, rates_figure, rmse_figure
from risctl.plots.style import save_figure
from risctl.plots.sweep import sweep_figure


def write_plots(directory: Path, results: Results) -> list[Path]:
    """Draw the figures of the estimators, if any, as PNG files into an existing directory; return the paths.

    Raises:
        StorageError: disk full, permission denied, and the like.
    """
    if not results.estimators:
        return []
    figures = {
        "rmse.png": rmse_figure(results),
        "rates.png": rates_figure(results),
        "confusion.png": confusion_figure(results),
    }
    if results.detection:
        figures["detection.png"] = detection_figure(results)
    if results.reliability:
        figures["reliability.png"] = reliability_figure(results)
    return [save_figure(figure, directory / name) for name, figure in figures.items()]


__all__ = [
    "confusion_figure",
    "detection_figure",
    "rates_figure",
    "reliability_figure",
    "rmse_figure",
    "save_figure",
    "sweep_figure",
    "write_plots",
]
