"""Go or no-go of a search: the losses differ, the best beats the preset, no trial broke."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from risctl.hpo.plan import SearchOutcome, TrialRecord

MIN_SPREAD, WEAK_SPREAD = 0.05, 0.10  # the least to pass; below the second it is weak
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
    trials, done = outcome.trials, outcome.finished
    pruned = sum(trial.state == "pruned" for trial in trials)
    failed = [trial.reason or "" for trial in trials if trial.state == "failed"]
    diverged = sum(NOT_FINITE.search(reason) is not None for reason in failed)
    crashed, deaths = len(failed) - diverged, sum(len(trial.deaths) for trial in trials)
    ended = f"{done} of {asked}, {pruned} pruned"
    broke = f"{crashed} ({deaths} deaths of workers)" if deaths else str(crashed)
    return Verdict(
        (
            Finding("trials finished", ended, f"{asked}", done >= asked, done),
            _spread_finding(spread(trials)),
            _best_finding(outcome.best, outcome.baseline),
            Finding("NaN or Inf", str(diverged), "0", diverged == 0, diverged),
            Finding("crashed", broke, "0", crashed == 0, crashed),
        )
    )


def spread(trials: Sequence[TrialRecord]) -> float | None:
    """Relative spread of the losses of the complete trials: largest over smallest, less one."""
    losses = [trial.value for trial in trials if trial.state == "complete" and trial.value is not None]
    if len(losses) < 2 or min(losses) <= 0:
        return None
    return max(losses) / min(losses) - 1


def _spread_finding(relative: float | None) -> Finding:
    name, wanted = "spread of the losses", f"above {WEAK_SPREAD:.0%}, at least {MIN_SPREAD:.0%}"
    if relative is None:
        return Finding(name, "fewer than two complete trials", wanted, met=False)
    weak = ", weak" if MIN_SPREAD < relative <= WEAK_SPREAD else ""
    return Finding(name, f"{relative:.1%}{weak}", wanted, relative > MIN_SPREAD, relative)


def _best_finding(best: TrialRecord | None, baseline: TrialRecord | None) -> Finding:
    met = False
    if best is None or best.value is None:
        return Finding("best loss", "no complete trial", "below the preset's", met)
    if baseline is None or baseline.value is None:
        found = f"{best.value:.4g}, but the preset's own was not measured"
    elif best.number == baseline.number:
        found = f"{best.value:.4g}, the preset's own: nothing was better"
    else:
        cut = ", which was pruned" if baseline.state == "pruned" else ""
        change = f" ({best.value / baseline.value - 1:+.1%})" if baseline.value > 0 else ""
        found = f"{best.value:.4g}, preset {baseline.value:.4g}{change}{cut}"
        met = best.value < baseline.value
    return Finding("best loss", found, "below the preset's", met, best.value)
