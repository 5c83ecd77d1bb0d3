"""The network: encoding of measurements, backbone, heads, and the path from measurements to covariances."""

from risctl.model.load import LoadedModel, load_checkpoint
from risctl.model.network import RisNetwork, build_network
from risctl.model.predict import Forward, Network, Prediction, predict

__all__ = [
    "Forward",
    "LoadedModel",
    "Network",
    "Prediction",
    "RisNetwork",
    "build_network",
    "load_checkpoint",
    "predict",
]
