"""An independent reference: plain NumPy, complex128, one scene at a time, slow and obvious.

Written from the equations only, without reading the library, so that agreement between the two means
something. Tests hold the fast code against it.
"""

from .bounds import (
    Bound,
    cartesian_jacobian,
    central_difference,
    conditional_bound,
    conditional_fisher,
    unconditional_bound,
    unconditional_fisher,
)
from .covariance import back_projection, ridge_strength, sample_covariance, to_trace_n
from .geometry import (
    Array,
    distances,
    element_positions,
    excess_path,
    source_position,
    steering,
    steering_matrix,
    unit_vector,
)
from .likelihood import (
    concentrated_nll,
    conditional_log_likelihood,
    fitted_amplitudes,
    gaussian_log_likelihood,
    residual_energy,
    snapshot_covariance,
)
from .music import music_null_spectrum, music_spectrum, noise_subspace
from .signals import (
    bs_response,
    codes_from_index,
    line_of_sight,
    noise_free,
    rician,
    sensing_matrices,
    true_covariance,
)
from .simulator import Scene, complex_normal, draw_channel, draw_positions, draw_scene

__all__ = [
    "Array",
    "Bound",
    "Scene",
    "back_projection",
    "bs_response",
    "cartesian_jacobian",
    "central_difference",
    "codes_from_index",
    "complex_normal",
    "concentrated_nll",
    "conditional_bound",
    "conditional_fisher",
    "conditional_log_likelihood",
    "distances",
    "draw_channel",
    "draw_positions",
    "draw_scene",
    "element_positions",
    "excess_path",
    "fitted_amplitudes",
    "gaussian_log_likelihood",
    "line_of_sight",
    "music_null_spectrum",
    "music_spectrum",
    "noise_free",
    "noise_subspace",
    "residual_energy",
    "rician",
    "ridge_strength",
    "sample_covariance",
    "sensing_matrices",
    "snapshot_covariance",
    "source_position",
    "steering",
    "steering_matrix",
    "to_trace_n",
    "true_covariance",
    "unconditional_bound",
    "unconditional_fisher",
    "unit_vector",
]
