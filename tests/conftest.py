"""The default surface, which tests of several layers share."""

import signal

import pytest
import torch

from risctl.config import PhysicsConfig
from risctl.physics import ArrayGeometry, FieldOfView

# A shell starts its background jobs with SIGINT ignored, nohup with SIGHUP, and children ignore it too.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def view() -> FieldOfView:
    return FieldOfView.from_config(PhysicsConfig())


@pytest.fixture(scope="session")
def geometry() -> ArrayGeometry:
    return ArrayGeometry.from_config(PhysicsConfig())


@pytest.fixture(scope="session")
def geometry64() -> ArrayGeometry:
    return ArrayGeometry.from_config(PhysicsConfig(), dtype=torch.float64)
