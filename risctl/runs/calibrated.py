"""A calibrated surface: its document, and what it does to measurements and estimates."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar, cast

import torch
from pydantic import Field
from torch import Tensor

from risctl.config import PhysicsConfig, parse_section
from risctl.config.base import Section, as_tuple
from risctl.config.former import digest16
from risctl.data import Measurements
from risctl.data.atomic import storage_errors
from risctl.errors import DamagedFileError, InputError, require_file
from risctl.inference import Estimates, Estimator
from risctl.inference.count import angle_jacobian
from risctl.inference.greedy import Search
from risctl.inference.surface.excess import excess_noise, whitener
from risctl.inference.surface.response import SurfaceResponse
from risctl.inference.surface.summary import DEAD_LEVEL, tilt_std
from risctl.physics.geometry import ArrayGeometry
from risctl.physics.polar import to_polar
from risctl.text import counted

SURFACE_VERSION: Final = 1
CODE_TOLERANCE = 1e-2  # of a code from its quantised phase, rad
AnyEstimator = TypeVar("AnyEstimator", bound=Estimator)
Floats = Annotated[tuple[float, ...], as_tuple]
Names = Annotated[tuple[str, ...], as_tuple]


class SurfaceDocument(Section):
    """A calibrated surface as it is written: `surface.json`."""

    schema_version: Literal[1] = SURFACE_VERSION
    """Version of this document."""
    kinds: Names
    """What was estimated: gains, states, positions."""
    fingerprint: str
    """Of the nominal surface: elements, wavelength and wave model."""
    phase_bits: Annotated[int, Field(ge=1, le=8)]
    """Bits of a code, whose values the states belong to."""
    gain_real: Floats
    """Of each element."""
    gain_imag: Floats
    gain_std: Floats
    """Standard deviation of a real part."""
    dead_probability: Floats
    """That an element reflects nothing."""
    state_real: Floats = (1.0,)
    """Factor of each code value on its nominal phase; one number: none was estimated."""
    state_imag: Floats = (0.0,)
    state_std: Floats = (0.0,)
    displacement_m: Floats = ()
    """x of all elements, then y, then z; empty: none was estimated."""
    displacement_std_m: Floats = ()
    ramp_covariance: Floats
    """Covariance (3 x 3, by rows) of the common shift of all sources in u_y, u_z and 1/r (1/m)."""
    noise_before_db: float
    """Mean fitted noise of a scene in the first round, dB."""
    noise_after_db: float
    scenes: Annotated[int, Field(ge=1)]
    anchors: Annotated[int, Field(ge=0)]
    """Scenes of known positions among them."""
    held_out_scenes: Annotated[int, Field(ge=0)]
    held_out_gain: float | None
    """Nats a scene by which scenes that were held out are more likely than with the nominal surface."""
    spread_over_error: float
    """Mean square deviation from nominal over the mean variance; up to 1: nominal within its error bars."""
    direction_bound_deg: Annotated[float | None, Field(ge=0)] = None
    """Hybrid Cramer-Rao bound of the direction of a source like those found, degrees (median over them)."""
    direction_bound_known_deg: Annotated[float | None, Field(ge=0)] = None
    """The same with the response known."""
    files: Annotated[tuple[str, ...], as_tuple] = ()
    """SHA-256 of the measurement files."""


@dataclass(frozen=True)
class CalibratedSurface:
    """A calibrated surface: correct measurements by it, or hand it to `locate`.

    Attributes:
        document: what was found.
        advice: what one scene of known positions would do: scene, its SNR (dB), tilt (rad); None: not asked.

    Example:
        >>> import risctl
        >>> scenes = risctl.simulate("quick", 4, seed=3)
        >>> surface = risctl.calibrate_surface(scenes.y, scenes.H, scenes.codes, held_out=0.0)
        >>> surface.gains.shape, surface.tilt_std_deg > 0
        (torch.Size([144]), True)
    """

    document: SurfaceDocument
    advice: tuple[int, float, float] | None = None

    @property
    def digest(self) -> str:
        """16 hexadecimal digits of all that was found."""
        return digest16(self.document.model_dump_json())

    @property
    def gains(self) -> Tensor:
        """Complex gain of every element, complex128 [N]."""
        return _complex(self.document.gain_real, self.document.gain_imag)

    @property
    def response(self) -> SurfaceResponse:
        """Gains, states and displacements."""
        d, moved = self.document, torch.zeros(len(self.gains), 3, dtype=torch.float64)
        if d.displacement_m:
            moved = torch.tensor(d.displacement_m, dtype=torch.float64).view(3, -1).T.contiguous()
        return SurfaceResponse(self.gains, _complex(d.state_real, d.state_imag), moved)

    @property
    def ramps(self) -> Tensor:
        """Covariance [3, 3] of the common shift of all sources in (u_y, u_z, 1/r)."""
        return torch.tensor(self.document.ramp_covariance, dtype=torch.float64).view(3, 3)

    @property
    def tilt_std_deg(self) -> float:
        """Deviation of the tilt, degrees."""
        return math.degrees(tilt_std(self.ramps))

    @property
    def dead(self) -> list[int]:
        """Elements that reflect nothing, most likely."""
        return [n for n, p in enumerate(self.document.dead_probability) if p > DEAD_LEVEL]

    @property
    def accepted(self) -> bool:
        """Whether held-out scenes became more likely, or the surface is nominal within its error bars."""
        d = self.document
        return d.held_out_gain is None or d.held_out_gain > 0 or d.spread_over_error <= 1.0

    def check(self, physics: PhysicsConfig, where: str | Path) -> None:
        """Refuse a surface that this is not the calibration of."""
        found = surface_fingerprint(physics)
        if found != self.document.fingerprint:
            expected = f"a calibration of this surface ({found})"
            raise InputError(where, "fingerprint", expected, self.document.fingerprint)

    def corrected(self, data: Measurements, where: str | Path = "measurements") -> Measurements:
        """The measurements with their codes, or measurement matrices, multiplied by gains and states."""
        response, state = self.response, None
        if data.codes is None:
            if len(response.states) > 1 or data.Phi is None:
                raise InputError(where, "codes", "codes, which a calibration of states needs", "Phi")
            return replace(data, Phi=response.applied(data.Phi, None))
        if len(response.states) > 1:
            state = code_values(data.codes, self.document.phase_bits, where)
        return replace(data, codes=response.applied(data.codes, state))

    def whitened(self, data: Measurements, found: Estimates, physics: PhysicsConfig) -> Measurements:
        """Corrected measurements in which the noise by the gains' errors is white, given their sources.

        Unchanged are scenes with constant symbols, for which the errors are no noise but the same in all
        snapshots.
        """
        std = torch.tensor(self.document.gain_std, dtype=torch.float64, device=data.y.device)
        if physics.symbols == "constant" or not bool(std.any()):
            return data
        front = data.Phi if data.H is None else data.H.unsqueeze(1)
        assert front is not None
        geometry = self.geometry(ArrayGeometry.from_config(physics, std.device, torch.float64))
        excess = excess_noise(front, 2.0 * std.square(), found, geometry)
        if data.codes is not None:
            excess = excess * data.codes.abs().square().mean((1, 2))[:, None, None, None]
        W = whitener(excess, found.noise_var).to(data.y.dtype)
        y, front = (W @ data.y.unsqueeze(-1)).squeeze(-1), W @ front
        return replace(data, y=y, Phi=front) if data.H is None else replace(data, y=y, H=front.squeeze(1))

    def moved(self, estimator: AnyEstimator, physics: PhysicsConfig) -> AnyEstimator:
        """The estimator with its elements displaced."""
        return at_geometry(estimator, self.geometry(ArrayGeometry.from_config(physics, dtype=torch.float64)))

    def geometry(self, nominal: ArrayGeometry) -> ArrayGeometry:
        """The nominal geometry with the elements displaced."""
        return self.response.geometry(nominal)

    def widened(self, found: Estimates) -> Estimates:
        """The estimates with the variance of the common shift added to theirs."""
        points = to_polar(found.azimuth, found.elevation, found.range)
        T = angle_jacobian(points)
        extra = (T @ self.ramps.to(T) @ T.mT).diagonal(dim1=-2, dim2=-1).unbind(-1)
        names = ("std_azimuth", "std_elevation", "std_range")
        std = {name: (getattr(found, name).square() + v).sqrt() for name, v in zip(names, extra, strict=True)}
        return replace(found, **std)

    def seen_by(self, estimator: Estimator, physics: PhysicsConfig) -> SeenThrough:
        """The estimator on this surface, for scenes whose codes are the nominal ones."""
        return SeenThrough(self.moved(estimator, physics), self, physics)

    def words(self) -> list[str]:
        """What was found, a sentence each."""
        d = self.document
        how = f"{counted(d.anchors, 'scene')} of known positions" if d.anchors else "blind"
        tilt = f"tilt known to {self.tilt_std_deg:.2g} deg, {how}"
        if self.advice is not None:
            scene, snr_db, with_it = self.advice
            tilt += f"; scene {scene} ({snr_db:.0f} dB) with known positions would bring it to"
            tilt += f" {math.degrees(with_it):.2g}"
        dead = ", ".join(map(str, self.dead)) or "none"
        noise = f"fitted noise {d.noise_before_db:.1f} -> {d.noise_after_db:.1f} dB; dead elements: {dead}"
        lines = [tilt, noise]
        if d.direction_bound_deg is not None and d.direction_bound_known_deg is not None:
            known = f"with the response known {d.direction_bound_known_deg:.2g}"
            bound = f"{d.direction_bound_deg:.2g} deg, {known}"
            lines.append(f"directions of sources like these (hybrid bound, median): {bound}")
        if d.held_out_gain is None:
            lines.append("not judged: no scene was held out")
        else:
            held = counted(d.held_out_scenes, "held-out scene")
            lines.append(f"{held}: {d.held_out_gain:+.3g} nats a scene over the nominal surface")
        if d.spread_over_error <= 1.0:
            lines.append("the surface is nominal within its error bars")
        return lines


@dataclass(frozen=True)
class SeenThrough:
    """An estimator that is given codes as a calibrated surface carries them out."""

    estimator: Estimator
    surface: CalibratedSurface
    physics: PhysicsConfig

    @property
    def name(self) -> str:
        """Of the estimator."""
        return self.estimator.name

    def __call__(self, y: Tensor, H: Tensor, codes: Tensor, num_sources: Tensor | None = None) -> Estimates:
        """Locate the sources of B scenes."""
        data = self.surface.corrected(Measurements(y, H, codes))
        assert data.codes is not None
        first = self.estimator(y, H, data.codes, num_sources)
        seen = self.surface.whitened(data, first, self.physics)
        if seen is data:
            return self.surface.widened(first)
        assert seen.H is not None
        return self.surface.widened(self.estimator(seen.y, seen.H, data.codes, num_sources))


def _complex(real: Sequence[float], imag: Sequence[float]) -> Tensor:
    return torch.complex(*(torch.tensor(x, dtype=torch.float64) for x in (real, imag)))


def surface_fingerprint(physics: PhysicsConfig) -> str:
    """16 hexadecimal digits that two surfaces share only if their nominal steering vectors are the same."""
    geometry = ArrayGeometry.from_config(physics, dtype=torch.float64)
    positions = [[round(x, 9) + 0.0 for x in p] for p in geometry.positions.tolist()]
    return digest16(
        json.dumps([positions, geometry.wavelength, geometry.wavefront, geometry.amplitude_taper])
    )


def code_values(codes: Tensor, phase_bits: int, where: str | Path) -> Tensor:
    """Values q of codes ``exp(j 2 pi q / 2^bits)`` [S, L, N], as int64 [S, L, 1, N]; others are refused."""
    turns = codes.to(torch.complex128).angle() * (2**phase_bits / (2.0 * math.pi))
    values = turns.round()
    if float((turns - values).abs().max()) * 2.0 * math.pi / 2**phase_bits > CODE_TOLERANCE:
        raise InputError(where, "codes", f"phases of {phase_bits} bits, which states belong to", "others")
    return (values.long() % 2**phase_bits).unsqueeze(2)


def load_surface(path: str | Path) -> CalibratedSurface:
    """Read a calibrated surface.

    Raises:
        InputError: no file, written by another version, or no such document.
        DamagedFileError: it is no JSON.
        StorageError: it cannot be read.
    """
    path = Path(path)
    require_file(path)
    with storage_errors(path):
        content = path.read_bytes()
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(path, "a JSON document of a surface", type(error).__name__) from None
    if not isinstance(values, dict):
        raise InputError(path, "", "an object of calibrate-surface", type(values).__name__)
    if values.get("schema_version") != SURFACE_VERSION:
        raise InputError(path, "schema_version", str(SURFACE_VERSION), repr(values.get("schema_version")))
    document = parse_section(SurfaceDocument, values, path)
    _check_lengths(document, path)
    return CalibratedSurface(document)


def _check_lengths(d: SurfaceDocument, path: Path) -> None:
    """Refuse lists whose lengths do not agree."""
    N, Q = len(d.gain_real), len(d.state_real)
    wanted = {
        "gain_imag": N,
        "gain_std": N,
        "dead_probability": N,
        "state_real": 1 if Q == 1 else 2**d.phase_bits,
        "state_imag": Q,
        "state_std": Q,
        "displacement_m": 3 * N if d.displacement_m else 0,
        "displacement_std_m": len(d.displacement_m),
        "ramp_covariance": 9,
    }
    for name, length in wanted.items():
        if len(getattr(d, name)) != length:
            raise InputError(path, name, f"{length} numbers", len(getattr(d, name)))


def at_geometry(estimator: AnyEstimator, geometry: ArrayGeometry) -> AnyEstimator:
    """The estimator with its elements displaced; detection grids and networks stay the nominal surface's."""
    return cast(AnyEstimator, _displaced(estimator, geometry))


def _displaced(owner: Any, geometry: ArrayGeometry) -> Any:
    """`owner` with the elements of the search that it holds, or its own, displaced."""
    if isinstance(owner, Search):
        positions = geometry.positions.to(owner.geometry.positions)
        return replace(owner, geometry=replace(owner.geometry, positions=positions))
    for name in ("peaks", "search"):
        if hasattr(owner, name):
            return replace(owner, **{name: _displaced(getattr(owner, name), geometry)})
    return owner
