"""Whether a search was worth it: the losses moved, the best beats the preset, nothing broke."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from risctl.search import SearchOutcome, TrialRecord

MOVES, BARELY_MOVES = 0.10, 0.05
COMPLETE, PRUNED, FAILED, RUNNING = "complete", "pruned", "failed", "running"
NOT_FINITE = re.compile(r"\b(not finite|nan|inf|diverged)\b", re.IGNORECASE)  # words: paths may hold "nan"


@dataclass(frozen=True)
class Finding:
    """One line of the verdict.

    Attributes:
        name, found, wanted: what it is, what was found and what should have been, in words.
        met: whether it holds. value: the figure behind it, None where there is none.
    """

    name: str
    found: str
    wanted: str
    met: bool
    value: float | None = None


@dataclass(frozen=True)
class Verdict:
    """Go or no-go, and why."""

    findings: tuple[Finding, ...]

    @property
    def go(self) -> bool:
        """Whether everything is met."""
        return all(finding.met for finding in self.findings)

    @property
    def missed(self) -> str:
        """What was missed, in words."""
        return ", ".join(f"{f.name}: {f.found} (wanted {f.wanted})" for f in self.findings if not f.met)


def judge_search(outcome: SearchOutcome, asked: int) -> Verdict:
    """Judge a search that was to have `asked` trials."""
    return Verdict(
        (
            _finished(outcome, asked),
            _moved(outcome.trials),
            _better(outcome.best, outcome.baseline),
            _not_finite(outcome.trials),
            _crashed(outcome.trials),
        )
    )


def spread(trials: Sequence[TrialRecord]) -> float | None:
    """Return how far apart the losses of the complete trials are: largest over smallest, less one."""
    losses = [trial.value for trial in trials if trial.state == COMPLETE and trial.value is not None]
    if len(losses) < 2 or min(losses) <= 0:
        return None
    return max(losses) / min(losses) - 1


def gain(best: TrialRecord | None, baseline: TrialRecord | None) -> float | None:
    """Return by what share of the preset's loss the best one is lower; None if one of them is missing."""
    if best is None or baseline is None or best.value is None or baseline.value is None:
        return None
    return 1 - best.value / baseline.value if baseline.value > 0 else None


def is_divergence(trial: TrialRecord) -> bool:
    """Whether a trial failed because something in it was not finite."""
    return trial.state == FAILED and NOT_FINITE.search(trial.reason or "") is not None


def _finished(outcome: SearchOutcome, asked: int) -> Finding:
    done = outcome.finished
    pruned = sum(trial.state == PRUNED for trial in outcome.trials)
    found = f"{done} of {asked}, {pruned} of them pruned"
    return Finding("trials finished", found, f"{asked}", done >= asked, done)


def _moved(trials: Sequence[TrialRecord]) -> Finding:
    moved = spread(trials)
    wanted = f"above {MOVES:.0%} (the least: {BARELY_MOVES:.0%})"
    if moved is None:
        return Finding("losses move by", "fewer than two complete trials", wanted, met=False)
    barely = ", barely" if BARELY_MOVES < moved <= MOVES else ""
    return Finding("losses move by", f"{moved:.1%}{barely}", wanted, moved > BARELY_MOVES, moved)


def _better(best: TrialRecord | None, baseline: TrialRecord | None) -> Finding:
    better, wanted = gain(best, baseline), "below the preset's"
    if best is None or best.value is None:
        return Finding("best loss", "no complete trial", wanted, met=False)
    if baseline is None or baseline.value is None:
        found = f"{best.value:.4g}, but the preset's own was not measured"
        return Finding("best loss", found, wanted, met=False, value=best.value)
    if best.number == baseline.number:
        found = f"{best.value:.4g}, the preset's own: nothing was better"
        return Finding("best loss", found, wanted, met=False, value=best.value)
    cut = ", which was pruned" if baseline.state == PRUNED else ""
    change = "" if better is None or not math.isfinite(better) else f" ({-better:+.1%})"
    found = f"{best.value:.4g}, preset {baseline.value:.4g}{change}{cut}"
    return Finding("best loss", found, wanted, best.value < baseline.value, best.value)


def _not_finite(trials: Sequence[TrialRecord]) -> Finding:
    count = sum(map(is_divergence, trials))
    return Finding("trials with NaN or Inf", str(count), "0", count == 0, count)


def _crashed(trials: Sequence[TrialRecord]) -> Finding:
    failed = [trial for trial in trials if trial.state == FAILED and not is_divergence(trial)]
    deaths = sum(len(trial.deaths) for trial in trials)
    mended = f" ({deaths} deaths of workers)" if deaths else ""
    return Finding("trials that crashed", f"{len(failed)}{mended}", "0", not failed, len(failed))
