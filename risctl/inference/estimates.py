"""The output of an estimator, and the interface that all estimators share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from risctl.physics.geometry import Device
from risctl.physics.polar import from_polar


@dataclass(frozen=True)
class Estimates:
    """Estimated sources of B scenes, padded to K_max with NaN (power 0).

    Attributes:
        num_sources: K per scene, int64 [B].
        azimuth, elevation: radians. range: metres. power: linear. All float64 [B, K_max].
        std_azimuth, std_elevation, std_range: standard deviations from the Fisher information at the
            estimate, of the learned estimator and NOMP those of the posterior within the field of view, same
            units and shape; infinite where the information is singular.
        noise_var: estimated noise variance, float64 [B].
        probability: that a true source lies there, within 2 m (:mod:`risctl.inference.decision`), float64
            [B, K_max]; NaN where unknown.
        count_probability: of K = 0, 1, ..., K_max sources in the scene, float64 [B, K_max + 1]; NaN where
            unknown.
    """

    num_sources: Tensor
    azimuth: Tensor
    elevation: Tensor
    range: Tensor
    power: Tensor
    std_azimuth: Tensor
    std_elevation: Tensor
    std_range: Tensor
    noise_var: Tensor
    probability: Tensor
    count_probability: Tensor

    def __len__(self) -> int:
        return int(self.num_sources.shape[0])

    @classmethod
    def empty(cls, num_scenes: int, max_sources: int, device: Device = "cpu") -> Estimates:
        """Estimates without a source in any scene."""
        nan = torch.full((num_scenes, max_sources), torch.nan, dtype=torch.float64, device=device)
        count = torch.zeros(num_scenes, dtype=torch.int64, device=device)
        columns = [nan, nan.clone(), nan.clone(), torch.zeros_like(nan), *(nan.clone() for _ in range(3))]
        noise = nan.new_full((num_scenes,), torch.nan)
        return cls(*[count, *columns, noise, *unknown(count, max_sources)])

    @classmethod
    def ranked(
        cls,
        points: Tensor,
        power: Tensor,
        std: Tensor,
        noise_var: Tensor,
        probability: Tensor | None = None,
        keep: Tensor | None = None,
    ) -> Estimates:
        """Estimates of B scenes with at most K sources each, strongest first; probabilities of counts
        unknown.

        Args:
            points: polar [B, K, 3]. power: [B, K]. noise_var: [B].
            std: deviations of azimuth, elevation and range [B, K, 3].
            probability: of each source [B, K]; None: unknown.
            keep: which sources are reported, bool [B, K]; None: all.
        """
        keep = torch.ones_like(power, dtype=torch.bool) if keep is None else keep
        count = keep.sum(1)
        nothing, counts = unknown(count, power.shape[1])
        order = power.masked_fill(~keep, -1.0).argsort(dim=1, descending=True)
        used = keep.gather(1, order)
        columns = [
            *from_polar(points),
            power,
            *std.unbind(-1),
            nothing if probability is None else probability,
        ]
        *found, last = (x.gather(1, order).masked_fill(~used, torch.nan) for x in columns)
        found[3] = found[3].nan_to_num(0.0)
        return cls(*[count, *found, noise_var, last, counts])  # in the order of the fields

    def put(self, rows: Tensor, part: Estimates) -> None:
        """Write the estimates of `part` (at most K_max wide) into scenes `rows`, in place."""
        for f in fields(self):
            target, value = getattr(self, f.name), getattr(part, f.name)
            if target.dim() == 1:
                target[rows] = value.to(target.dtype)
            else:
                target[rows, : value.shape[1]] = value.to(target.dtype)

    @staticmethod
    def concatenate(parts: Sequence[Estimates]) -> Estimates:
        """Estimates of all `parts` in order."""
        names = [f.name for f in fields(Estimates)]
        return Estimates(**{name: torch.cat([getattr(p, name) for p in parts]) for name in names})


def unknown(count: Tensor, max_sources: int) -> tuple[Tensor, Tensor]:
    """Unknown probabilities of the sources [B, K_max] and of the counts [B, K_max + 1] of B scenes."""
    nan = torch.full((len(count), max_sources + 1), torch.nan, dtype=torch.float64, device=count.device)
    return nan[:, :max_sources].clone(), nan


class Estimator(Protocol):
    """Source positions from raw measurements: y, H and the codes, and nothing else."""

    @property
    def name(self) -> str:
        """Name under which it is chosen and reported."""
        ...

    def __call__(self, y: Tensor, H: Tensor, codes: Tensor, num_sources: Tensor | None = None) -> Estimates:
        """Locate the sources of B scenes.

        Args:
            y: [B, L, M]. H: [B, M, N]. codes: [B, L, N]; complex64.
            num_sources: K per scene, int64 [B], or None to estimate it.
        """
        ...


@runtime_checkable
class Explaining(Protocol):
    """An estimator that does not report all sources that it finds likely, and says which these are."""

    def explained(
        self,
        y: Tensor,
        H: Tensor | None,
        codes: Tensor | None,
        num_sources: Tensor | None = None,
        Phi: Tensor | None = None,
    ) -> tuple[Estimates, Estimates]:
        """The answer, and the sources that explain the measurements best; arguments as of the estimator."""
        ...


class GeneralEstimator(Estimator, Protocol):
    """An estimator that can be given any front end: H and codes, or the measurement matrices themselves."""

    def __call__(
        self,
        y: Tensor,
        H: Tensor | None,
        codes: Tensor | None,
        num_sources: Tensor | None = None,
        Phi: Tensor | None = None,
    ) -> Estimates:
        """Locate the sources of B scenes.

        Args:
            y: [B, L, M]. H: [B, M, N]. codes: [B, L, N]; complex64.
            num_sources: K per scene, int64 [B], or None to estimate it.
            Phi: [B, L, M, N], or [B, 1, M, N] where it is the same in all snapshots, with H and codes None.

        Raises:
            MeasurementError: data that have no answer, or a front end that this estimator cannot use.
        """
        ...
