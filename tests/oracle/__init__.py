"""An independent reference: plain NumPy, complex128, one scene at a time, slow and obvious.

Written from the equations only, without reading the library, so that agreement between the two means
something. Tests hold the fast code against it; here is what they ask for.
"""
# ruff: noqa: F401

from .bounds import (
    cartesian_jacobian,
    central_difference,
    conditional_bound,
    conditional_fisher,
    unconditional_bound,
    unconditional_fisher,
)
from .covariance import back_projection, blended_covariance, predicted_covariance, sample_covariance
from .geometry import Array, element_positions, excess_path, source_position, steering, steering_matrix
from .likelihood import gaussian_log_likelihood, residual_energy, snapshot_covariance
from .music import music_null_spectrum, music_spectrum
from .signals import bs_response, codes_from_index, noise_free, rician, sensing_matrices, true_covariance
from .simulator import Scene
