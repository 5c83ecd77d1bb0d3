"""Scenes of a file, located again by other conventions of sign and order.

A doubtful scene nominates the conventions by which it is no less likely. They are judged by that scene, where
it is decisive alone, and by further scenes, which had no part in the nomination. A convention counts as
likelier only where the model then explains the scene: else something else is wrong.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from risctl.config import PhysicsConfig
from risctl.data import Measurements
from risctl.inference import Estimates
from risctl.inference.conventions import Arrays, conventions, log_likelihood, p_of_gain, p_of_gains
from risctl.inference.goodness import LEVEL, Fit, Scores, goodness_of_fit
from risctl.inference.observation import Observation, tree_index
from risctl.physics.geometry import ArrayGeometry, FieldOfView

FURTHER = 10  # scenes that judge the conventions that a doubtful one nominates
NOMINATED = -1.0  # nats of gain from which a convention is nominated: order may not matter to one source
SOURCE = 10.0  # nats that a source more than by the stated convention fits of noise
DOUBTFUL = 0.2  # p-value of the fit below which a scene is doubtful
MAX_SNAPSHOTS = 512

Ask = Callable[[Measurements, Tensor | None], tuple[Estimates, Estimates]]


@dataclass(frozen=True)
class Scene:
    """A scene that may be located again.

    Attributes:
        arrays: y [1, L, M], H [1, M, N] and codes [1, L, N]. known: given count [1], or None.
        best: what explains it best.
    """

    arrays: Arrays
    known: Tensor | None
    best: Estimates


@dataclass
class OtherConventions:
    """The first doubtful scene of a file and a few more, and what other conventions say of them.

    Attributes:
        ask: locates scenes, of which there may be given counts; its second answer explains them best.
        physics: symbols and panel.
        geometry: the surface. view: field of view.
        scenes: the first ones and the doubtful one, by their numbers in the file. doubtful: its number.
    """

    ask: Ask
    physics: PhysicsConfig
    geometry: ArrayGeometry
    view: FieldOfView
    scenes: dict[int, Scene] = field(default_factory=dict)
    doubtful: int | None = None

    def keep(
        self, start: int, part: Measurements, known: Tensor | None, best: Estimates, fit: Scores
    ) -> None:
        """Keep what may be located again of the scenes from `start` on.

        Args:
            part: the scenes. known: their given counts. best: what explains them best. fit: how well.
        """
        if self.physics.symbols == "constant" or part.y.shape[1] > MAX_SNAPSHOTS:
            return
        if part.H is None or part.codes is None:
            return
        p = fit.misfit_p
        doubtful = (fit.count_at_maximum & ~p.isnan()) | (p < DOUBTFUL)
        rows = list(range(min(FURTHER + 1 - start, len(p))))
        if self.doubtful is None and bool(doubtful.any()):
            rows.append(int(doubtful.nonzero()[0]))
            self.doubtful = start + rows[-1]
        for row in rows:
            at = torch.tensor([row], device=part.y.device)
            arrays = part.y[at], part.H[at], part.codes[at]
            self.scenes[start + row] = Scene(
                arrays, None if known is None else known[at], tree_index(best, at)
            )

    def into(self, fit: Fit) -> Fit:
        """The fit of all scenes, with what was found."""
        if self.doubtful is None:
            return fit
        gains = self._gains([self.doubtful])
        name = max(gains, key=lambda name: float(gains[name]))
        p_scene, looks = float(p_of_gain(gains[name])), 1
        p_file = p_scene
        nominated = [name for name, gain in gains.items() if float(gain) > NOMINATED]
        further = [row for row in self.scenes if row != self.doubtful][:FURTHER]
        if nominated and further:
            again = {name: p_of_gains(gain) for name, gain in self._gains(further, nominated).items()}
            likeliest = min(again, key=lambda name: again[name])
            looks += len(nominated)
            if again[likeliest] < p_file:
                p_file, name = again[likeliest], likeliest
        p_file = min(1.0, looks * p_file)
        if p_file >= LEVEL:
            return fit
        misfit_p = fit.misfit_p.clone()
        misfit_p[self.doubtful] = torch.fmin(misfit_p[self.doubtful], misfit_p.new_tensor(p_scene))
        return replace(fit, misfit_p=misfit_p, file_p=min(fit.file_p, p_file), likelier_convention=name)

    def _gains(self, rows: Sequence[int], names: Collection[str] | None = None) -> dict[str, Tensor]:
        """Gains of log-likelihood [n] of the scenes `rows` by each of the conventions `names`, or all.

        Less the price of each source that a convention needs more than the stated one. At most 0 where the
        model does not explain the scene by it either, or where powers of zero leave no likelihood.
        """
        scenes = [self.scenes[row] for row in rows]
        y, H, codes = (torch.cat(parts) for parts in zip(*(scene.arrays for scene in scenes), strict=True))
        best = Estimates.concatenate([scene.best for scene in scenes])
        stated = log_likelihood(Observation.build(y, H, codes), best, self.geometry)
        panel = None if self.physics.elements.positions else (self.physics.ris_rows, self.physics.ris_columns)
        turned = conventions(y, H, codes, panel)
        turned = {name: turned[name] for name in names or turned}
        y, H, codes = (torch.cat(parts) for parts in zip(*turned.values(), strict=True))  # in one batch
        known = [scene.known for scene in scenes if scene.known is not None]
        counts = torch.cat(known).repeat(len(turned)) if known else None
        obs, (_, other) = Observation.build(y, H, codes), self.ask(Measurements(y, H, codes), counts)
        fits = goodness_of_fit(obs, other, self.geometry, self.view).misfit_p >= LEVEL
        more = (other.num_sources - best.num_sources.repeat(len(turned))).clamp_min(0)
        gain = log_likelihood(obs, other, self.geometry) - stated.repeat(len(turned)) - SOURCE * more
        gain = gain.nan_to_num(nan=0.0, posinf=0.0)
        gain = torch.where(fits, gain, gain.clamp_max(0.0)).view(len(turned), -1)
        return dict(zip(turned, gain, strict=True))
