"""The pictures of a run. Importing this loads no matplotlib; drawing does."""

from risctl.plots.results import confusion_figure, rates_figure, result_figures, rmse_figure
from risctl.plots.style import save_figure
from risctl.plots.sweep import sweep_figure

__all__ = [
    "confusion_figure",
    "rates_figure",
    "result_figures",
    "rmse_figure",
    "save_figure",
    "sweep_figure",
]
