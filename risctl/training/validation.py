"""Validation: the weighted total under the main phase's weights, and the training figures.

Every process fills its rows of one table of all scenes. The sum of the tables does not depend on the number
of processes, so all of them have the same figures.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from risctl.data import SceneStream
from risctl.errors import DivergedError
from risctl.losses import Truth
from risctl.model import Network, Prediction, RisNetwork
from risctl.physics import ArrayGeometry, Scenes
from risctl.training.forward import forward_pass
from risctl.training.metrics import scene_figures, source_figures, summary
from risctl.training.objective import Objective
from risctl.training.plan import TrainingPlan
from risctl.training.process_group import ProcessGroup

VALIDATION_BATCH = 64  # scenes at a time at least: small batches cost more per scene


@dataclass(frozen=True)
class Validation:
    """Means over the validation scenes: `terms` raw, with their weighted `total`, and `metrics`."""

    terms: dict[str, float]
    metrics: dict[str, float]


class Validator:
    """Evaluates a network on the validation scenes, always all of them, unfiltered and without jitter.

    Simulated scenes are kept, and the network's maps of them, which have no weights (about 50 kB a scene of
    the default size): making them anew for every epoch takes longer than the rest of a validation.
    """

    def __init__(self, plan: TrainingPlan, objective: Objective, processes: ProcessGroup) -> None:
        self._plan, self._objective, self._processes = plan, objective, processes
        self._kept: dict[int, Scenes] = {}
        self._maps: dict[int, tuple[Tensor, Tensor]] = {}
        self._geometry = ArrayGeometry.from_config(plan.physics, processes.device)

    @torch.no_grad()
    def __call__(self, network: Network, stopping: Callable[[], bool]) -> Validation | None:
        """Figures of `network`; None if `stopping` was true between two batches."""
        table: dict[str, Tensor] = {}
        batch, count = max(VALIDATION_BATCH, self._plan.training.batch), self._plan.validation_scenes
        starts = range(0, count, batch)
        for turn in range(-(-len(starts) // self._processes.size)):
            if stopping():
                return None
            place = turn * self._processes.size + self._processes.rank
            # A process with nothing left in the last turn computes rows that are not its own and drops them.
            start = starts[min(place, len(starts) - 1)]
            scenes = self._scenes(start, min(start + batch, count))
            for name, found in self._rows(network, start, scenes.to(self._processes.device)).items():
                rows = found if place < len(starts) else found[:0]
                if name not in table:
                    shape = (count, *rows.shape[1:])
                    table[name] = torch.zeros(shape, dtype=torch.float64, device=rows.device)
                table[name][start : start + len(rows)] = rows
        table = {name: self._processes.all_reduce_sum(values) for name, values in table.items()}
        weights = self._objective.weights()
        means = {name: float(values.mean()) for name, values in table.items() if values.ndim == 1}
        terms = {name: value for name, value in means.items() if name in weights}
        figures = {name: value for name, value in means.items() if name not in weights}
        terms["total"] = sum(weights[name] * value for name, value in terms.items())
        if not math.isfinite(terms["total"]):
            bad = ", ".join(name for name, value in terms.items() if not math.isfinite(value))
            raise DivergedError(f"the validation loss is not finite ({bad})")
        return Validation(terms, figures | summary(table))

    def _scenes(self, start: int, stop: int) -> Scenes:
        if not isinstance(self._plan.validation, SceneStream):
            return self._plan.validation.scenes(start, stop)
        if start not in self._kept:
            self._kept[start] = self._plan.validation.scenes(start, stop)
        return self._kept[start]

    def _rows(self, network: Network, start: int, scenes: Scenes) -> dict[str, Tensor]:
        """Loss terms and figures of the scenes from `start` on, [B] or, of sources, [B, K_max]."""

        def predict(y: Tensor, H: Tensor, codes: Tensor) -> Prediction:
            if start not in self._kept or not isinstance(network, RisNetwork):
                return network(y, H, codes)
            if start not in self._maps:
                self._maps[start] = network.features(y, H, codes)
            return network.answer(*self._maps[start])

        forward = forward_pass(predict, scenes, self._plan.covariance)
        truth = Truth.of(scenes, self._geometry)
        terms = self._objective.terms(forward, truth)
        return {**terms, **scene_figures(forward, truth), **source_figures(forward, truth)}
