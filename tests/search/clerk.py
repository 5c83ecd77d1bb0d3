"""A process as a study knows it: one that claims trials and ends them, without training anything."""

from pathlib import Path

from optuna.trial import TrialState

from risctl.search.plan import SearchPlan
from risctl.search.storage import open_storage
from risctl.search.study import Claim, Study


class Clerk:
    def __init__(self, plan: SearchPlan, directory: Path) -> None:
        self.storage = open_storage(plan, directory)
        self.study = Study(plan, self.storage)
        self.mine: set[int] = set()
        self._directory = directory

    def claim(self) -> Claim | None:
        claim = self.study.claim(self.mine, lambda number: self._directory / str(number))
        if claim is not None:
            self.mine.add(claim.number)
        return claim

    def finish(self, number: int, value: float, state: TrialState = TrialState.COMPLETE) -> None:
        self.study.finish(number, state, value, 1.0)
        self.mine.discard(number)

    def states(self) -> list[str]:
        return [record.state for record in self.study.records()]
