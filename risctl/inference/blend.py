"""MUSIC on ``R_blend``, range MUSIC on the fine grid, and polish: the published chain but for the polish,
which is Fisher scoring on the Gaussian-symbol likelihood, without the load of 1e-3, on to its maximum.

The covariance is the network's, blended with that of the snapshots; the count is the head's unless given.
`inference.nf_mle_iters` are the first steps of the polish (0: none of it): after two or three alone the
rounding of the network shows in the answer. `inference.range_grid` only starts the refinement of each null of
the spectrum, which ends in the same place unless the grid is very coarse.
"""

from dataclasses import replace

from risctl.config import InferenceConfig, PhysicsConfig
from risctl.inference.learned import LearnedEstimator
from risctl.model.load import LoadedModel
from risctl.physics.geometry import Device


class BlendEstimator(LearnedEstimator):
    """The learned estimator without its likelihood moves."""

    @classmethod
    def from_model(
        cls, model: LoadedModel, physics: PhysicsConfig, inference: InferenceConfig, device: Device
    ) -> LearnedEstimator:
        """The chain for a model read from a checkpoint; its stages are fixed, their settings are not."""
        stages = {"moves": False, "start": "music", "count_by": "head"}
        built = super().from_model(model, physics, inference.model_copy(update=stages), device)
        return replace(built, name="blend")
