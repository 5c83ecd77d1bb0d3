"""Calibration of a surface from measurement files, and what was found as a document."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, TypeAlias

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from risctl.config import PhysicsConfig
from risctl.data import Measurements, read_measurements
from risctl.data.atomic import storage_errors
from risctl.errors import InputError, require_file, require_range
from risctl.inference import Estimates, GeneralEstimator
from risctl.inference.estimates import Explaining
from risctl.inference.observation import Observation
from risctl.inference.stacked import SymbolModel
from risctl.inference.surface.calibrate import ROUNDS, CalibrationScenes, Calibrator, Locator, Round
from risctl.inference.surface.response import GAINS, KINDS, POSITIONS, STATES, SurfaceResponse
from risctl.inference.surface.start import phases_from_anchors
from risctl.inference.surface.summary import (
    dead_probability,
    direction_bounds,
    ramp_covariance,
    spread_over_error,
    with_anchor,
)
from risctl.physics.geometry import ArrayGeometry, FieldOfView
from risctl.physics.polar import to_polar
from risctl.runs.answer import file_hash
from risctl.runs.calibrated import (
    CalibratedSurface,
    SurfaceDocument,
    at_geometry,
    code_values,
    surface_fingerprint,
)
from risctl.runs.documents import write_json
from risctl.runs.locate import Chosen, normalised, snapshot_step, thinned
from risctl.text import Document

STARTS = ("nominal", "anchors")


class _Lenient(BaseModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class _AnchorSource(_Lenient):
    azimuth_deg: Annotated[float, Field(ge=-360, le=360)]
    elevation_deg: Annotated[float, Field(ge=-90, le=90)]
    range_m: Annotated[float, Field(gt=0)]


class _AnchorScene(_Lenient):
    index: Annotated[int, Field(ge=0)]
    sources: Annotated[list[_AnchorSource], Field(min_length=1)]


class _Anchors(_Lenient):
    scenes: list[_AnchorScene]


def read_anchors(path: Path, num_scenes: int) -> dict[int, list[tuple[float, float, float]]]:
    """Known positions by scene, counted through all files: azimuth, elevation (rad), range (m).

    The document is that of an answer (`scenes` with `index` and `sources`), of some scenes or all.
    """
    require_file(path)
    with storage_errors(path):
        content = path.read_bytes()
    try:
        found = _Anchors.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(path, ".".join(map(str, first["loc"])), "known positions", first["msg"]) from None
    anchors: dict[int, list[tuple[float, float, float]]] = {}
    for scene in found.scenes:
        if scene.index >= num_scenes or scene.index in anchors:
            raise InputError(
                path, "scenes.index", f"every index once, from 0 to {num_scenes - 1}", scene.index
            )
        anchors[scene.index] = [
            (math.radians(s.azimuth_deg), math.radians(s.elevation_deg), s.range_m) for s in scene.sources
        ]
    return anchors


@dataclass(frozen=True)
class CalibrationRequest:
    """A calibration before it starts.

    Attributes:
        kinds: gains, states, positions. start: nominal, or anchors (phases unknown altogether).
        held_out: share of the scenes that judge the calibration of the others.
        num_sources: of every scene whose positions are not known; None: counted.
    """

    kinds: tuple[str, ...] = (GAINS,)
    start: str = "nominal"
    held_out: float = 0.2
    num_sources: int | None = None

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in KINDS or self.kinds.count(kind) > 1:
                raise InputError(
                    "estimate", "", f"{', '.join(KINDS)}, or some joined by +", "+".join(self.kinds)
                )
        if self.start not in STARTS:
            raise InputError("start", "", " or ".join(STARTS), self.start)
        if not 0.0 <= self.held_out <= 0.5:
            raise InputError("held_out", "", "0 to 0.5", self.held_out)


RoundListener: TypeAlias = Callable[[Round], None]


def calibrate_surface(
    chosen: Chosen,
    parts: Sequence[Measurements],
    request: CalibrationRequest,
    anchors: dict[int, list[tuple[float, float, float]]] | None = None,
    files: Sequence[Path] = (),
    listen: RoundListener = lambda _: None,
) -> CalibratedSurface:
    """Calibrate a surface from measurements of unknown sources.

    Args:
        chosen: who locates the sources on the way.
        parts: measurements of one surface.
        request: what is estimated, and how.
        anchors: known positions by scene, counted through all parts.
        files: the measurement files, for the document.
        listen: called after each round.

    Raises:
        InputError: no scenes, anchors of none of them or missing where the start needs them.
    """
    physics = chosen.config.physics
    require_range("num_sources", request.num_sources, 1, physics.max_sources)
    num_scenes = sum(map(len, parts))
    for index, at in (anchors or {}).items():
        if not 0 <= index < num_scenes:
            raise InputError("anchors", "", f"scenes from 0 to {num_scenes - 1}", index)
        if not at or any(len(position) != 3 or not all(map(math.isfinite, position)) for position in at):
            raise InputError("anchors", str(index), "azimuth, elevation (rad), range (m) of each source", at)
    scenes = _scenes(parts, physics, request.kinds, anchors or {})
    calibrator = Calibrator(
        geometry=ArrayGeometry.from_config(physics, dtype=torch.float64),
        view=FieldOfView.from_config(physics),
        locate=locator(chosen.build(), request.num_sources),
        kinds=request.kinds,
        num_states=2**physics.phase_bits if STATES in request.kinds else 1,
        mean=0.0 if request.start == "anchors" else 1.0,
    )
    kept, held = _split(scenes, request.held_out)
    with torch.no_grad():
        start = None
        if request.start == "anchors":
            start = phases_from_anchors(calibrator, scenes)
        first, last = _last(calibrator, scenes[kept], start, listen)
        gain = None
        if len(held):
            nominal = calibrator.fitted_likelihood(scenes[held], calibrator.nominal())
            gain = float((calibrator.fitted_likelihood(scenes[held], last.response) - nominal).mean())
            _, last = _last(calibrator, scenes, last.response, listen)
        document = _document(calibrator, last, first, scenes, physics, gain, len(held), files)
        blind = bool((~scenes.anchored).any())
        advice = with_anchor(last, calibrator.geometry) if blind and STATES not in request.kinds else None
    return CalibratedSurface(document, advice)


def most_rounds(request: CalibrationRequest) -> int:
    """Rounds of a calibration at most: with scenes held out it goes on with all of them."""
    return (ROUNDS + 1) * (1 + (request.held_out > 0.0))


def _last(
    calibrator: Calibrator, scenes: CalibrationScenes, start: SurfaceResponse | None, listen: RoundListener
) -> tuple[Round, Round]:
    rounds = []
    for round_ in calibrator.rounds(scenes, start):
        listen(round_)
        rounds.append(round_)
    return rounds[0], rounds[-1]


def _split(scenes: CalibrationScenes, share: float) -> tuple[Tensor, Tensor]:
    """Scenes to calibrate with, and every so-maniest blind one to judge by."""
    blind = (~scenes.anchored).nonzero().squeeze(-1)
    count = int(share * len(blind))
    if count == 0 or len(blind) - count < 2:
        return torch.arange(len(scenes)), blind[:0]
    held = blind[torch.linspace(0, len(blind) - 1, count).round().long()]
    kept = torch.ones(len(scenes), dtype=torch.bool)
    kept[held] = False
    return kept.nonzero().squeeze(-1), held


def _scenes(
    parts: Sequence[Measurements],
    physics: PhysicsConfig,
    kinds: tuple[str, ...],
    anchors: dict[int, list[tuple[float, float, float]]],
) -> CalibrationScenes:
    """All scenes in double precision, near unit scale."""
    scaled = [normalised(part)[0] for part in parts]
    observed = [thinned(d).double() for d in scaled]
    state = None
    if STATES in kinds:
        state = torch.cat([_code_values(d, physics)[:, :: snapshot_step(d)] for d in parts])
    obs = observed[0]
    if len(observed) > 1:
        L = max(o.Phi.shape[1] for o in observed)
        Phi = torch.cat([o.Phi.expand(-1, L, -1, -1) for o in observed])
        y, weight = (torch.cat([getattr(o, name) for o in observed]) for name in ("y", "weight"))
        fronts = [(o.H, o.codes) for o in observed]
        H, codes = (_joined(front) for front in zip(*fronts, strict=True))
        obs = Observation(y, H, codes, Phi, weight)
    width = max([physics.max_sources, *map(len, anchors.values())])
    known = torch.full((len(obs), width, 3), torch.nan, dtype=torch.float64)
    for index, positions in anchors.items():
        at = torch.tensor(positions, dtype=torch.float64)
        known[index, : len(positions)] = to_polar(at[:, 0], at[:, 1], at[:, 2])
    return CalibrationScenes(obs, state, known, SymbolModel.from_config(physics))


def locator(estimator: GeneralEstimator, num_sources: int | None = None) -> Locator:
    """The estimator as a calibration calls it: on observations in double precision and displaced elements."""

    def locate(obs: Observation, geometry: ArrayGeometry) -> Estimates:
        here = at_geometry(estimator, geometry)
        y, Phi = obs.y.to(torch.complex64), obs.Phi.to(torch.complex64)
        H, codes = (None if x is None else x.to(torch.complex64) for x in (obs.H, obs.codes))
        seen = Phi if H is None else None
        known = None if num_sources is None else torch.full((len(y),), num_sources)
        if isinstance(here, Explaining):
            return here.explained(y, H, codes, known, seen)[1]
        return here(y, H, codes, known, seen)

    return locate


def _code_values(data: Measurements, physics: PhysicsConfig) -> Tensor:
    if data.codes is None:
        raise InputError("measurements", "codes", "codes, which a calibration of states needs", "Phi")
    return code_values(data.codes, physics.phase_bits, "measurements")


def _joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    """All scenes' H or codes; None where one file gives Phi instead."""
    there = [part for part in parts if part is not None]
    return torch.cat(there) if len(there) == len(parts) else None


def _document(
    calibrator: Calibrator,
    last: Round,
    first: Round,
    scenes: CalibrationScenes,
    physics: PhysicsConfig,
    gain: float | None,
    held: int,
    files: Sequence[Path],
) -> SurfaceDocument:
    covariance, response = last.covariance(), last.response
    std = {kind: torch.zeros_like(x) for kind, x in response.parameters().items()}
    std |= last.prior.split(covariance.diagonal().clamp_min(0.0).sqrt())
    gain_std, state_std = (std[kind].view(2, -1).square().mean(0).sqrt().tolist() for kind in (GAINS, STATES))
    moved = POSITIONS in last.prior.kinds
    known, estimated = map(math.degrees, direction_bounds(last, covariance, calibrator.view))
    return SurfaceDocument(
        kinds=last.prior.kinds,
        fingerprint=surface_fingerprint(physics),
        phase_bits=physics.phase_bits,
        gain_real=tuple(response.gains.real.tolist()),
        gain_imag=tuple(response.gains.imag.tolist()),
        gain_std=tuple(gain_std),
        dead_probability=tuple(dead_probability(last, covariance).tolist()),
        state_real=tuple(response.states.real.tolist()),
        state_imag=tuple(response.states.imag.tolist()),
        state_std=tuple(state_std),
        displacement_m=tuple(response.parameters()[POSITIONS].tolist()) if moved else (),
        displacement_std_m=tuple(std[POSITIONS].tolist()) if moved else (),
        ramp_covariance=tuple(ramp_covariance(last, calibrator.geometry, covariance).flatten().tolist()),
        noise_before_db=first.noise_db[0],
        noise_after_db=last.noise_db[1],
        scenes=len(scenes),
        anchors=int(scenes.anchored.sum()),
        held_out_scenes=held,
        held_out_gain=gain,
        spread_over_error=spread_over_error(last, covariance, replace(calibrator, mean=1.0).prior()),
        direction_bound_deg=estimated,
        direction_bound_known_deg=known,
        files=tuple(map(file_hash, files)),
    )


def round_words(round_: Round) -> str:
    """A round in a line."""
    widths = ", ".join(f"{kind} {v**0.5:.3g}" for kind, v in round_.prior.variance.items())
    return (
        f"round {round_.index}: log L {round_.log_likelihood:.1f}, noise {round_.noise_db[1]:.1f} dB, "
        f"{round_.sources:.1f} sources a scene, spread of {widths}"
    )


def write_surface(path: Path, surface: CalibratedSurface) -> Document:
    """Write `surface.json`; returns the document."""
    document: Document = surface.document.model_dump(mode="json")
    write_json(path, document)
    return document


def read_parts(chosen: Chosen, files: Sequence[Path]) -> list[Measurements]:
    """The measurements of several files, of one description and as many antennas and snapshots."""
    parts = [read_measurements(file, chosen.config.physics.num_elements) for file in files]
    for file, part in zip(files[1:], parts[1:], strict=True):
        if part.description != parts[0].description:
            raise InputError(file, "description", f"that of {files[0]}", "another")
        if part.y.shape[1:] != parts[0].y.shape[1:]:
            wanted = f"{list(parts[0].y.shape[1:])} snapshots and antennas, as in {files[0]}"
            raise InputError(file, "y", wanted, list(part.y.shape[1:]))
    return parts
