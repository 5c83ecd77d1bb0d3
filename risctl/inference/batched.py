"""Estimators that work on batches of scenes: the division of the measurements, written once."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from risctl.inference.estimates import Estimates
from risctl.inference.observation import Observation, batches


class BatchedEstimator(ABC):
    """Locates B scenes, some at a time.

    Attributes:
        max_sources: K_max. batch: scenes worked on at a time, unless `batch_size` says otherwise.
    """

    max_sources: int
    batch: int

    @torch.no_grad()
    def __call__(
        self,
        y: Tensor,
        H: Tensor | None,
        codes: Tensor | None,
        num_sources: Tensor | None = None,
        Phi: Tensor | None = None,
    ) -> Estimates:
        """Locate the sources of B scenes; see :class:`risctl.inference.estimates.Estimator`."""
        result, size = Estimates.empty(y.shape[0], self.max_sources, y.device), self.batch_size(y)
        for obs, rows, counts in batches(y, H, codes, num_sources, self.max_sources, size, Phi):
            self._locate(obs, counts, rows, result)
            _put_noise_alone(obs, counts, rows, result)
        return result

    def batch_size(self, y: Tensor) -> int:
        """Scenes of snapshots y [B, L, M] worked on at a time."""
        return self.batch

    @abstractmethod
    def _locate(self, obs: Observation, counts: Tensor | None, rows: Tensor, result: Estimates) -> None:
        """Estimate at the given counts [B], or at those it decides on, into `rows` [B] of `result`."""


def _put_noise_alone(obs: Observation, counts: Tensor | None, rows: Tensor, result: Estimates) -> None:
    """The noise variance of scenes whose given count is zero, ``mean |y|^2``, into `rows` of `result`."""
    if counts is not None:
        none = counts == 0
        result.noise_var[rows[none]] = obs.y[none].abs().square().mean((1, 2)).double()


class ExplainingEstimator(BatchedEstimator):
    """One that does not report all sources that it finds likely, and says which these are."""

    @torch.no_grad()
    def explained(
        self,
        y: Tensor,
        H: Tensor | None,
        codes: Tensor | None,
        num_sources: Tensor | None = None,
        Phi: Tensor | None = None,
    ) -> tuple[Estimates, Estimates]:
        """The answer, and the sources that explain the measurements best."""
        result, best = (Estimates.empty(y.shape[0], self.max_sources, y.device) for _ in range(2))
        size = self.batch_size(y)
        for obs, rows, counts in batches(y, H, codes, num_sources, self.max_sources, size, Phi):
            self._locate(obs, counts, rows, result, best)
            for table in (result, best):
                _put_noise_alone(obs, counts, rows, table)
        return result, best

    @abstractmethod
    def _locate(
        self,
        obs: Observation,
        counts: Tensor | None,
        rows: Tensor,
        result: Estimates,
        best: Estimates | None = None,
    ) -> None:
        """Estimate into `rows` of `result`, and what explains the scenes best into those of `best`."""
