"""A few doubtful scenes of a file, located again by other conventions of sign and order.

A convention counts as likelier only where the model then explains the scene: else something else is wrong.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from risctl.config import PhysicsConfig
from risctl.data import Measurements
from risctl.inference import Estimates
from risctl.inference.conventions import conventions, log_likelihood, p_of_gain
from risctl.inference.goodness import LEVEL, Fit, Scores, goodness_of_fit
from risctl.inference.observation import Observation, tree_index
from risctl.physics.geometry import ArrayGeometry, FieldOfView

SCENES = 2  # of a file: a wrong convention is that of all scenes
DOUBTFUL = 0.2  # p-value of the fit below which a scene is located again
MAX_SNAPSHOTS = 512

Ask = Callable[[Measurements, Tensor | None], tuple[Estimates, Estimates]]


@dataclass
class OtherConventions:
    """What locating doubtful scenes by other conventions has found.

    Attributes:
        ask: locates scenes, of which there may be given counts; its second answer explains them best.
        physics: symbols and panel.
        geometry: the surface. view: field of view.
        found: p-value and likelier convention of each scene that was located again.
    """

    ask: Ask
    physics: PhysicsConfig
    geometry: ArrayGeometry
    view: FieldOfView
    found: dict[int, tuple[float, str]] = field(default_factory=dict)

    def look(
        self, start: int, part: Measurements, known: Tensor | None, best: Estimates, fit: Scores
    ) -> None:
        """Locate doubtful scenes, of those from `start` on, by other conventions; a few of a file.

        Args:
            part: the scenes. known: their given counts. best: what explains them best. fit: how well.
        """
        if self.physics.symbols == "constant" or part.y.shape[1] > MAX_SNAPSHOTS:
            return
        p = fit.misfit_p
        doubtful = ((fit.count_at_maximum & ~p.isnan()) | (p < DOUBTFUL)).nonzero().flatten()
        rows = doubtful[: SCENES - len(self.found)]
        if part.H is None or part.codes is None or not len(rows):
            return
        arrays = part.y[rows], part.H[rows], part.codes[rows]
        stated = log_likelihood(Observation.build(*arrays), tree_index(best, rows), self.geometry)
        panel = None if self.physics.elements.positions else (self.physics.ris_rows, self.physics.ris_columns)
        turned = conventions(*arrays, panel)
        y, H, codes = (torch.cat(parts) for parts in zip(*turned.values(), strict=True))  # in one batch
        counts = None if known is None else known[rows].repeat(len(turned))
        obs, (_, other) = Observation.build(y, H, codes), self.ask(Measurements(y, H, codes), counts)
        fits = goodness_of_fit(obs, other, self.geometry, self.view).misfit_p >= LEVEL
        value = log_likelihood(obs, other, self.geometry).masked_fill(~fits, -torch.inf)
        # No better explanation where it is none itself, or where powers of zero leave no likelihood.
        gains = (value.view(len(turned), -1) - stated).nan_to_num(nan=-torch.inf)
        gain, which = gains.max(dim=0)
        for row, found, i in zip(rows.tolist(), p_of_gain(gain).tolist(), which.tolist(), strict=True):
            self.found[start + row] = found, list(turned)[i]

    def into(self, fit: Fit) -> Fit:
        """The fit of all scenes, with what was found."""
        if not self.found:
            return fit
        least, name = min(self.found.values())
        if least >= LEVEL:
            return fit
        misfit_p = fit.misfit_p.clone()
        for i, (p, _) in self.found.items():
            misfit_p[i] = torch.fmin(misfit_p[i], misfit_p.new_tensor(p))
        p_all = least * len(self.found)
        return replace(fit, misfit_p=misfit_p, file_p=min(fit.file_p, p_all), likelier_convention=name)
