"""The cheap part of the alignment check, which `train`, `eval` and `locate` run on their first batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from risctl.config import Config
    from risctl.evaluation.alignment import TwoSides
    from risctl.inference import Estimator
    from risctl.model import RisNetwork
    from risctl.training import Measured


def alignment_subject(network: RisNetwork, config: Config, device: str) -> TwoSides:
    """Return the two sides of a network: the training step's, and the predictor of `eval` and `locate`."""
    from risctl.evaluation.alignment import TwoSides
    from risctl.inference import build_learned

    inference = config.inference.model_copy(update={"count_by": "best"})  # nothing is counted here
    estimator = build_learned(network, config.covariance, config.physics, inference, device)
    return TwoSides(
        network=network,
        training_covariance=config.covariance,
        estimator=estimator,
        physics=config.physics,
        stated=config.covariance,
        precision=config.training.precision,
        loss=config.loss,
    )


def spot_check_network(network: RisNetwork, config: Config, measured: Measured, device: str) -> None:
    """Check a network before it is trained, in evaluation mode; its mode is put back.

    Raises:
        CheckFailedError: training and inference would not compute the same.
    """
    from risctl.evaluation.alignment import spot_check

    mode = network.training
    network.eval()
    try:
        spot_check(alignment_subject(network, config, device), measured)
    finally:
        network.train(mode)


def spot_check_estimator(
    estimator: Estimator, network: RisNetwork, config: Config, measured: Measured
) -> None:
    """Check the very estimator that a command is about to use, against the training step's path.

    Raises:
        CheckFailedError: training and inference do not compute the same.
    """
    from dataclasses import replace

    from risctl.evaluation.alignment import spot_check
    from risctl.inference import LearnedEstimator

    if not isinstance(estimator, LearnedEstimator):
        return
    subject = alignment_subject(network, config, str(measured.y.device))
    spot_check(replace(subject, estimator=estimator), measured)
