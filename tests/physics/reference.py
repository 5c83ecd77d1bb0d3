"""Bridges to the float64 oracle, and what a random sample may be asked to show."""

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from risctl.config import PhysicsConfig
from risctl.physics import ArrayGeometry, Scenes, simulate_scenes
from tests import oracle

Array = npt.NDArray[Any]

WAVE_MODELS = tuple(product(("spherical", "fresnel", "planar"), (False, True)))
"""Every (wavefront, amplitude_taper); what holds of one steering model is asked of all."""


def double_geometry(physics: PhysicsConfig) -> ArrayGeometry:
    return ArrayGeometry.from_config(physics, dtype=torch.float64)


def same_scenes(a: Scenes, b: Scenes) -> bool:
    left, right = a.tensors(), b.tensors()
    return a.phase_bits == b.phase_bits and all(torch.equal(left[name], right[name]) for name in left)


def simulate(physics: PhysicsConfig, count: int, seed: int = 1, first_index: int = 0) -> Scenes:
    return simulate_scenes(physics, np.random.default_rng(seed), count, first_index)


def oracle_array(physics: PhysicsConfig) -> oracle.Array:
    return oracle.Array(
        physics.ris_columns,
        physics.ris_rows,
        physics.element_spacing,
        physics.wavelength,
        physics.wavefront,
        physics.amplitude_taper,
    )


def oracle_scene(scenes: Scenes, index: int, physics: PhysicsConfig) -> oracle.Scene:
    """One simulated scene in the oracle's terms; its phases from the stored code index."""
    K = int(scenes.num_sources[index])
    polar = (scenes.azimuth, scenes.elevation, scenes.range)
    return oracle.Scene(
        array=oracle_array(physics),
        positions=np.stack([x[index, :K].double().numpy() for x in polar], axis=1),
        powers=scenes.power[index, :K].double().numpy(),
        symbols=scenes.symbols[index, :K].numpy().astype(np.complex128),
        H=scenes.H[index].numpy().astype(np.complex128),
        codes=oracle.codes_from_index(scenes.code_index[index].numpy(), scenes.phase_bits),
        noise_var=float(scenes.noise_var[index]),
        y=scenes.y[index].numpy().astype(np.complex128),
    )


def oracle_clean(scenes: Scenes, physics: PhysicsConfig, array: oracle.Array | None = None) -> Array:
    """Noise-free snapshots [n, L, M] of all scenes, by the oracle (`array`: the surface as it really is)."""
    clean = []
    for i in range(len(scenes)):
        s = oracle_scene(scenes, i, physics)
        s = s if array is None else replace(s, array=array)
        clean.append(oracle.noise_free(s.Phi, oracle.steering_matrix(s.array, s.positions), s.amplitudes))
    return np.stack(clean)


def relative_error(value: Array, expected: Array) -> float:
    """Largest deviation over the largest expected magnitude."""
    return float(np.max(np.abs(value - expected)) / np.max(np.abs(expected)))


def assert_mean(samples: Any, expected: complex, sigmas: float = 4.5) -> None:
    """The mean of independent samples lies within `sigmas` of its own standard errors of `expected`."""
    x = np.asarray(samples).ravel()
    error = np.std(x) / np.sqrt(x.size)
    assert abs(np.mean(x) - expected) <= sigmas * error, f"{np.mean(x)} is not {expected} +- {error}"
