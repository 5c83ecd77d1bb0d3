"""The network: encoding of measurements, backbone, heads, and the path from measurements to covariances."""

from risctl.model.predict import Forward, Network, predict
from risctl.model.prediction import Prediction

__all__ = ["Forward", "Network", "Prediction", "predict"]
