"""How a search ended: verdict, importance of the parameters, tables, pictures, presets, `search.json`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from risctl.data import write_atomically
from risctl.errors import CheckFailedError
from risctl.hpo import SearchOutcome, SearchPlan, TrialRecord
from risctl.hpo.files import (
    BEST,
    EPOCHS,
    IMPORTANCE,
    TRIALS,
    best_preset,
    epochs_csv,
    importance_csv,
    trials_csv,
)
from risctl.hpo.importance import Importance, importances
from risctl.hpo.space import distributions
from risctl.hpo.verdict import Verdict, judge_search, spread
from risctl.runs.directory import SIGNAL_STATUS
from risctl.runs.documents import write_json
from risctl.runs.drawings import draw_run
from risctl.runs.names import SEARCH_FILE
from risctl.text import Document, versioned

COMMAND = "hpo"


@dataclass(frozen=True)
class Searched:
    """A search after it ended.

    Attributes:
        run: its directory.
        plan: what was searched.
        outcome: its trials.
        verdict: go or no-go.
        importances: of the parameters, largest first; empty for too few trials.
        document: what `search.json` holds.
    """

    run: Path
    plan: SearchPlan
    outcome: SearchOutcome
    verdict: Verdict
    importances: tuple[Importance, ...]
    document: Document

    @property
    def failure(self) -> str | None:
        """Why the search ends without success, on one line; None if it does not."""
        if self.outcome.stopped_by is not None:
            return f"stopped with {self.outcome.finished} trials finished"
        if self.outcome.gave_up is not None:
            return f"hpo: given up: {self.outcome.gave_up}"
        return None if self.verdict.go else f"hpo: no-go: {self.verdict.missed}"

    @property
    def exit_status(self) -> int:
        """Exit status of a command that ran this search."""
        if self.outcome.stopped_by is not None:
            return SIGNAL_STATUS + self.outcome.stopped_by
        return 0 if self.failure is None else CheckFailedError.exit_status


def report(run: Path, plan: SearchPlan, outcome: SearchOutcome, kind: str = "png") -> Searched:
    """Judge the search and write its report: tables, presets, `search.json`, pictures of that `kind`."""
    verdict = judge_search(outcome, plan.trials)
    ended = [trial for trial in outcome.trials if _has_loss(trial)]
    losses = [float(trial.value) for trial in ended if trial.value is not None]
    space = distributions(plan.config)
    found = importances(losses, [trial.params for trial in ended], space, plan.seed)
    files = write_files(run, plan, outcome, found)
    document = search_document(run, plan, outcome, verdict, found)
    write_json(run / SEARCH_FILE, versioned(document))
    document["files"] = [str(path) for path in (*files, run / SEARCH_FILE, *draw_run(run, kind))]
    write_json(run / SEARCH_FILE, versioned(document))
    return Searched(run, plan, outcome, verdict, found, document)


def _has_loss(trial: TrialRecord) -> bool:
    """Whether the trial ended with a loss that is a number."""
    return trial.state in ("complete", "pruned") and trial.value is not None and trial.value == trial.value


def write_files(
    run: Path, plan: SearchPlan, outcome: SearchOutcome, found: Sequence[Importance]
) -> list[Path]:
    """Write tables and presets; return their paths."""
    contents = {
        TRIALS: trials_csv(outcome.trials, list(plan.config.search.parameters)),
        EPOCHS: epochs_csv(outcome.trials),
        IMPORTANCE: importance_csv(found),
    }
    if outcome.best is not None:
        contents[BEST] = best_preset(plan.config, outcome.best, outcome.baseline, run)
    for name, text in contents.items():
        write_atomically(run / name, text.encode())
    return [run / name for name in contents]


def search_document(
    run: Path, plan: SearchPlan, outcome: SearchOutcome, verdict: Verdict, found: Sequence[Importance]
) -> Document:
    """The content of `search.json`."""
    return {
        "command": COMMAND,
        "run": str(run),
        "study": {"name": outcome.study_name, "storage": outcome.storage_url},
        "space": {key: str(parameter) for key, parameter in plan.config.search.parameters.items()},
        "asked": plan.trials,
        "finished": outcome.finished,
        "stopped_by": outcome.stopped_by,
        "gave_up": outcome.gave_up,
        "spread": spread(outcome.trials),
        "best": None if outcome.best is None else asdict(outcome.best),
        "preset": None if outcome.baseline is None else asdict(outcome.baseline),
        "importance": [asdict(entry) | {"above_chance": entry.above_chance} for entry in found],
        "verdict": {"go": verdict.go, "findings": [asdict(finding) for finding in verdict.findings]},
        "trials": [asdict(trial) for trial in outcome.trials],
    }
