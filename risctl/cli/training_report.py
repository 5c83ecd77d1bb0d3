"""How a training ended, for people: the curves, the best loss beside the first, what to type next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from risctl.cli.documents import Document, Ending
from risctl.cli.signals import SIGNAL_STATUS
from risctl.cli.training_records import EPOCH, STEP, Record, of_kind
from risctl.cli.training_state import FIGURES

if TYPE_CHECKING:
    from risctl.config import Config
    from risctl.training import Outcome

CURVES = "curves.png"


@dataclass(frozen=True)
class Trained:
    """A training after it ended."""

    run: Path
    config: Config
    outcome: Outcome
    records: list[Record]

    @property
    def epochs(self) -> list[Record]:
        """Its validations."""
        return of_kind(self.records, EPOCH)


def interrupted(command: str, trained: Trained) -> Ending:
    """Return how a command ends that a signal stopped: how far it came, and how to go on."""
    outcome = trained.outcome
    assert outcome.stopped_by is not None
    again = f"risctl {command} --resume {trained.run}"
    message = f"stopped and saved after step {outcome.steps}; go on with: {again}"
    document = {"command": command} | outcome_document(trained, ())
    return Ending(document, SIGNAL_STATUS + outcome.stopped_by, message)


def draw_curves(trained: Trained, gate: float | None = None) -> Path:
    """Draw `curves.png` from what was recorded, earlier processes of the run included."""
    from risctl.evaluation.plots.curves import Curves, curves_figure
    from risctl.evaluation.plots.style import save_figure
    from risctl.losses import main_weights

    steps = of_kind(trained.records, STEP)
    curves = Curves(steps, trained.epochs, main_weights(trained.config.loss), gate)
    title = f"{trained.run}: {trained.config.model.head} head, {trained.outcome.steps} steps"
    return save_figure(curves_figure(curves, title), trained.run / CURVES)


def outcome_document(trained: Trained, files: Sequence[Path]) -> Document:
    """Return what `--json` prints of a training."""
    outcome = asdict(trained.outcome)
    return {
        "run": str(trained.run),
        "outcome": outcome,
        "files": [str(path) for path in files],
    }


def outcome_sentence(trained: Trained) -> str:
    """Return the best validation loss beside the first, with the figures of its epoch."""
    outcome = trained.outcome
    if outcome.best_value is None or outcome.best_epoch is None or outcome.first_value is None:
        return f"{outcome.steps} steps, no validation yet"
    best = [entry for entry in trained.epochs if entry["epoch"] == outcome.best_epoch]
    found = best[0]["metrics"] if best else {}
    figures = [words(found[name]) for name, words in FIGURES.items() if found.get(name) is not None]
    start = f"validation loss {outcome.best_value:.4g} after epoch {outcome.best_epoch + 1}"
    return "; ".join([f"{start} (first {outcome.first_value:.4g})", ", ".join(figures)]).rstrip("; ")
