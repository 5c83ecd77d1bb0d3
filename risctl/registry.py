"""The estimators that a configuration can name: a new one is its own file and one line here."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["learned", "classical", "oracle"]


@dataclass(frozen=True)
class EstimatorEntry:
    """An estimator of the registry.

    Attributes:
        kind: ``learned`` is built from a trained model, ``classical`` from settings alone; an ``oracle``
            reads the true scenes instead of measurements and is a reference for the others.
        path: its class as ``module:name``, imported when it is built (:mod:`risctl.inference.build`).
        summary: the method in a few words.
    """

    kind: Kind
    path: str
    summary: str


ESTIMATORS: dict[str, EstimatorEntry] = {
    "learned": EstimatorEntry(
        "learned", "risctl.inference.learned:LearnedEstimator", "network and likelihood"
    ),
    "blend": EstimatorEntry(
        "learned", "risctl.inference.blend:BlendEstimator", "MUSIC on the network's covariance"
    ),
    "nomp": EstimatorEntry("classical", "risctl.inference.nomp:NompEstimator", "greedy maximum likelihood"),
    "music": EstimatorEntry("classical", "risctl.inference.music:MusicEstimator", "near-field MUSIC"),
    "sbl": EstimatorEntry("classical", "risctl.inference.sbl:SblEstimator", "sparse Bayesian learning"),
    "ceiling": EstimatorEntry("oracle", "risctl.inference.ceiling:Ceiling", "MUSIC on the true covariance"),
}


def estimator_names(*kinds: Kind) -> tuple[str, ...]:
    """Names of the estimators of these kinds (of all if none is given), in the order of the registry."""
    return tuple(name for name, entry in ESTIMATORS.items() if not kinds or entry.kind in kinds)
