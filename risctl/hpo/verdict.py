"""Go or no-go of a search: the losses differ, the best beats the preset, no trial broke."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from risctl.hpo import SearchOutcome, TrialRecord

MIN_SPREAD, WEAK_SPREAD = 0.05, 0.10  # the least to pass; below the second it is weak
SPREAD = "relative spread of trial losses"
COMPLETE, PRUNED, FAILED, RUNNING = "complete", "pruned", "failed", "running"
NOT_FINITE = re.compile(r"\b(not finite|nan|inf|diverged)\b", re.IGNORECASE)  # words: paths may hold "nan"


@dataclass(frozen=True)
class Finding:
    """One line of the verdict.

    Attributes:
        name: of the criterion.
        found, wanted: in words.
        met: whether it holds.
        value: the figure behind it, None where there is none.
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
        """The findings that do not hold, in words."""
        return ", ".join(f"{f.name}: {f.found} (wanted {f.wanted})" for f in self.findings if not f.met)


def judge_search(outcome: SearchOutcome, asked: int) -> Verdict:
    """Judge a search that was to have `asked` trials."""
    return Verdict(
        (
            _finished(outcome, asked),
            _spread(outcome.trials),
            _better(outcome.best, outcome.baseline),
            _not_finite(outcome.trials),
            _crashed(outcome.trials),
        )
    )


def spread(trials: Sequence[TrialRecord]) -> float | None:
    """Relative spread of the losses of the complete trials: largest over smallest, less one."""
    losses = [trial.value for trial in trials if trial.state == COMPLETE and trial.value is not None]
    if len(losses) < 2 or min(losses) <= 0:
        return None
    return max(losses) / min(losses) - 1


def gain(best: TrialRecord | None, baseline: TrialRecord | None) -> float | None:
    """Relative improvement of the best loss over the preset's; None if one of them is missing."""
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


def _spread(trials: Sequence[TrialRecord]) -> Finding:
    relative = spread(trials)
    wanted = f"above {WEAK_SPREAD:.0%} (the least: {MIN_SPREAD:.0%})"
    if relative is None:
        return Finding(SPREAD, "fewer than two complete trials", wanted, met=False)
    weak = ", weak" if MIN_SPREAD < relative <= WEAK_SPREAD else ""
    return Finding(SPREAD, f"{relative:.1%}{weak}", wanted, relative > MIN_SPREAD, relative)


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
