"""Positions from measurements: the choice of an estimator, units, the batches."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from risctl.config import Config, PhysicsConfig
from risctl.config.layers import Layers
from risctl.data import Description, Measurements, read_measurements
from risctl.errors import InputError, MeasurementError, require_file, require_range
from risctl.evaluation.alignment.sides import MeasuredArrays
from risctl.inference import Estimates, GeneralEstimator, build_estimator
from risctl.inference.estimates import Explaining
from risctl.inference.goodness import Fit, at_edge, combine, goodness_of_fit, stated
from risctl.inference.learned import ACCELERATOR_BATCH, BATCH
from risctl.inference.observation import Observation
from risctl.inference.stacked import SymbolModel
from risctl.model.load import LoadedModel, load_checkpoint
from risctl.physics.geometry import ArrayGeometry, FieldOfView
from risctl.registry import estimator_names
from risctl.runs.calibrated import CalibratedSurface
from risctl.runs.conventions import OtherConventions
from risctl.runs.described import Described
from risctl.runs.models import (
    LEARNED,
    SURFACE,
    config_over_model,
    load_reference,
    model_record,
    own_config,
    refuse_conflicts,
    spot_check_estimator,
    with_model,
)
from risctl.runs.needs import PROCESS_BYTES, Needs
from risctl.runs.progress import Progress, silent

MAX_BATCH = 2**20
FIT_SNAPSHOTS = 512  # most snapshots of a scene that the test of the fit reads
FALLBACK = "nomp"  # on a surface that the shipped model was not trained for


@dataclass(frozen=True)
class Chosen:
    """An estimator before it is built.

    Attributes:
        name: of the estimator.
        config: its settings.
        model: the trained model, None for a classical estimator.
        device: where it computes.
        reason: why the shipped model is not used although nobody named another estimator; else None.
        surface: calibration of the surface; None: taken as nominal.
        notes: which settings the measurements themselves replace, a sentence for each.
    """

    name: str
    config: Config
    model: LoadedModel | None = None
    device: str = "cpu"
    reason: str | None = None
    surface: CalibratedSurface | None = None
    notes: tuple[str, ...] = ()

    def build(self, converged: bool = True) -> GeneralEstimator:
        """The estimator itself; `converged`: its moves are taken to the maximum of the likelihood."""
        config, inference = self.config, self.config.inference
        if self.name == LEARNED and inference.moves and not converged:
            inference = inference.model_copy(update={"nf_mle_iters": 0})
        estimator = build_estimator(
            self.name, config.physics, config.covariance, inference, self.device, self.model
        )
        return estimator if self.surface is None else self.surface.moved(estimator, config.physics)

    def geometry(self) -> ArrayGeometry:
        """The surface as it is taken to be."""
        nominal = ArrayGeometry.from_config(self.config.physics, self.device)
        return nominal if self.surface is None else self.surface.geometry(nominal)

    def needs(self, file: Path) -> Needs:
        """Estimate what locating the sources of a measurement file takes; `InputError` if there is none."""
        require_file(file)
        parameters = 0 if self.model is None else model_record(self.model)["parameters"]
        return Needs(memory_bytes=PROCESS_BYTES + 8 * file.stat().st_size, parameters=parameters)


@dataclass(frozen=True)
class Found:
    """The sources of all scenes, and how well they explain the measurements."""

    estimates: Estimates
    fit: Fit


def choose_estimator(
    layers: Layers,
    estimator: str | None = None,
    model: str | Path | None = None,
    device: str = "cpu",
    described: Described | None = None,
) -> Chosen:
    """Choose an estimator with its settings.

    Args:
        layers: settings; over the model's own where one is named.
        estimator: its name; None: `learned`, or NOMP on a surface that the shipped model is not for.
        model: run or checkpoint of the learned estimator; None: the shipped model.
        device: where it computes.
        described: what the measurements say about themselves, which is stronger than the settings.

    Raises:
        InputError: an unknown name, an oracle, settings or measurements that contradict the model.
    """
    check_estimator(estimator or LEARNED)
    described = described or Described("", Description(), frozenset({"H", "codes"}))
    if model is not None:
        loaded = load_checkpoint(model, device)
        config, notes = described.over(config_over_model(layers, loaded))
        refuse_conflicts(own_config(loaded), config, loaded.path)
        if (estimator or LEARNED) in estimator_names("learned"):
            described.refuse_network(config.physics)
        return Chosen(estimator or LEARNED, config, loaded, device, notes=notes)
    config, notes = described.over(layers.resolve())
    if estimator is not None and estimator not in estimator_names("learned"):
        return Chosen(estimator, config, None, device, notes=notes)
    try:
        described.refuse_network(config.physics)
        loaded = load_reference(config, device)
    except InputError as error:
        if estimator is not None:
            raise
        return Chosen(FALLBACK, config, None, device, str(error), notes=notes)
    return Chosen(estimator or LEARNED, with_model(config, loaded), loaded, device, notes=notes)


def with_surface(chosen: Chosen, surface: CalibratedSurface | None, where: str | Path = "surface") -> Chosen:
    """The estimator on a calibrated surface; `InputError` for another surface's calibration."""
    if surface is not None:
        surface.check(chosen.config.physics, where)
    return replace(chosen, surface=surface)


def check_estimator(name: str) -> None:
    """Refuse a name that is no estimator of measurements; an oracle needs the truth of simulated scenes."""
    names = estimator_names("learned", "classical")
    if name in estimator_names("oracle"):
        got = f"{name!r}, an oracle that needs the true positions (an evaluation has them)"
        raise InputError("estimator", "", f"one of {', '.join(names)}", got)
    if name not in names:
        raise InputError("estimator", "", f"one of {', '.join(names)}", repr(name))


def locate_file(
    chosen: Chosen,
    file: Path,
    num_sources: int | None = None,
    batch: int | None = None,
    progress: Progress = silent,
) -> Found:
    """Estimate the sources of every scene of a measurement file (`risctl.data.read_measurements`)."""
    data = read_measurements(file, num_elements=chosen.config.physics.num_elements)
    return locate_measurements(chosen, data, num_sources, batch, progress, file)


def locate_measurements(
    chosen: Chosen,
    data: Measurements,
    num_sources: int | None = None,
    batch: int | None = None,
    progress: Progress = silent,
    where: str | Path = "measurements",
) -> Found:
    """Estimate the sources of every scene, and test whether they explain it.

    Units of y, H and codes cancel: every scene is normalised, and powers are given back in its unit. With a
    trained model the first batch must come out as in its training.

    Args:
        chosen: the estimator.
        data: snapshots, channel and codes.
        num_sources: K of every scene; None: counted.
        batch: scenes estimated at once; 256 if absent, 2048 on an accelerator.
        progress: opens a display.
        where: what error messages call the measurements.

    Raises:
        InputError: K out of range, or scenes that have no answer.
        CheckFailedError: the learned estimator does not compute what its training computed.
    """
    _check_elements(chosen, data, where)
    _check_request(num_sources, batch, chosen, data, where)
    if chosen.surface is not None:
        data = chosen.surface.corrected(data, where)
    data, power_unit, noise_unit = normalised(data)
    estimator, total, device, physics = chosen.build(), len(data), chosen.device, chosen.config.physics
    surface, view = chosen.geometry(), FieldOfView.from_config(physics)
    batch = batch or (BATCH if torch.device(device).type == "cpu" else ACCELERATOR_BATCH)
    parts, scores = [], []
    others = OtherConventions(partial(_asked, chosen.build(converged=False)), physics, surface, view)
    with progress("scenes") as update:
        update(0, total)
        for start in range(0, total, batch):
            part = data.part(slice(start, start + batch), device)
            known = None if num_sources is None else torch.full((len(part),), num_sources, device=device)
            with _naming(where, start, start + len(part) - 1):
                if start == 0 and chosen.model is not None and part.H is not None and part.codes is not None:
                    measured = MeasuredArrays(part.y, part.H, part.codes)
                    spot_check_estimator(estimator, chosen.model.network, chosen.config, measured)
                part, answered, best = _answered(chosen, estimator, part, known)
                parts.append(answered)
                score = goodness_of_fit(observation_of(part, physics), best, surface, view)
                scores.append(replace(score, at_edge=at_edge(answered, view)))
                if chosen.surface is None:
                    others.keep(start, part, known, best, score)
            update(min(start + batch, total), total)
    found = Estimates.concatenate(parts)
    if chosen.surface is not None:
        found = chosen.surface.widened(found)
    power, noise_var = found.power.cpu() * power_unit[:, None], found.noise_var.cpu() * noise_unit
    fit = others.into(combine(scores))
    found = replace(found, power=power.to(device), noise_var=noise_var.to(device))
    if num_sources is not None:  # as many as were asked for, however many there are
        fit = replace(fit, count_at_maximum=torch.zeros_like(fit.count_at_maximum))
    return Found(stated(found, fit, view, chosen.surface is not None), fit)


def _answered(
    chosen: Chosen, estimator: GeneralEstimator, part: Measurements, known: Tensor | None
) -> tuple[Measurements, Estimates, Estimates]:
    """The scenes as they were located, by a calibrated surface whitened, and both answers of `_asked`."""
    answered, best = _asked(estimator, part, known)
    if chosen.surface is None:
        return part, answered, best
    whitened = chosen.surface.whitened(part, best, chosen.config.physics)
    return whitened, *((answered, best) if whitened is part else _asked(estimator, whitened, known))


def _asked(
    estimator: GeneralEstimator, part: Measurements, known: Tensor | None
) -> tuple[Estimates, Estimates]:
    """The answer, and the sources that explain the scenes best."""
    matrices = {} if part.Phi is None else {"Phi": part.Phi}  # not every estimator takes them
    if isinstance(estimator, Explaining):
        return estimator.explained(part.y, part.H, part.codes, known, **matrices)
    answered = estimator(part.y, part.H, part.codes, known, **matrices)
    return answered, answered


def normalised(data: Measurements) -> tuple[Measurements, Tensor, Tensor]:
    """The measurements with y and their front end at unit mean square per scene, whatever their unit.

    Returns:
        The measurements, the unit of a source's power, ``(y / (H c))^2``, and that of the noise variance,
        ``y^2``: factors, float64 [S].
    """
    y, of_y = _of_unit(data.y)
    if data.H is None or data.codes is None:
        assert data.Phi is not None
        Phi, of_Phi = _of_unit(data.Phi)
        return replace(data, y=y, Phi=Phi), of_y / of_Phi, of_y
    (H, of_H), (codes, of_codes) = _of_unit(data.H), _of_unit(data.codes)
    return replace(data, y=y, H=H, codes=codes), of_y / (of_H * of_codes), of_y


def _of_unit(x: Tensor) -> tuple[Tensor, Tensor]:
    """An array of unit mean square per scene, and the square of the unit taken out [S]."""
    wide = x.to(torch.complex128)
    scale = wide.abs().square().flatten(1).mean(dim=1).sqrt()
    return (wide / scale.view(-1, *[1] * (x.dim() - 1))).to(torch.complex64), scale.square()


def observation_of(part: Measurements, physics: PhysicsConfig) -> Observation:
    """The scenes as the likelihood takes them: of many snapshots some, evenly spaced; pilots stacked."""
    return SymbolModel.from_config(physics).seen(thinned(part))


def thinned(part: Measurements) -> Observation:
    """The scenes, of many snapshots some, evenly spaced."""
    step = snapshot_step(part)
    y = part.y[:, ::step]
    if part.H is not None and part.codes is not None:
        return Observation.build(y, part.H, part.codes[:, ::step])
    assert part.Phi is not None
    return Observation.of_matrices(y, part.Phi[:, ::step])


def snapshot_step(part: Measurements) -> int:
    """Every so-maniest snapshot is one that the likelihood reads."""
    return -(-part.y.shape[1] // FIT_SNAPSHOTS)


def _check_elements(chosen: Chosen, data: Measurements, where: str | Path) -> None:
    """Refuse measurements of another number of elements."""
    if data.num_elements != chosen.config.physics.num_elements:
        expected = (
            f"N = {chosen.config.physics.num_elements} elements, which the configured surface has "
            "(physics.ris_rows, physics.ris_columns, or what the file says)"
        )
        raise InputError(where, "H" if data.Phi is None else "Phi", expected, data.num_elements)


def _check_request(
    num_sources: int | None, batch: int | None, chosen: Chosen, data: Measurements, where: str | Path
) -> None:
    """Refuse a batch or a K out of range; as many sources as values that tell them apart."""
    require_range("batch", batch, 1, MAX_BATCH)
    if num_sources is None:
        return
    top, (L, M) = chosen.config.physics.max_sources, data.y.shape[1:]
    require_range("num_sources", num_sources, 1, top)
    if num_sources >= M and data.Phi is not None and data.Phi.shape[1] == 1:
        raise InputError("num_sources", "", f"fewer than the {M} antennas of {where}", num_sources)
    if num_sources >= L * M:
        expected = f"fewer than the {M} antennas x {L} snapshots of {where}"
        raise InputError("num_sources", "", expected, num_sources)


@contextmanager
def _naming(where: str | Path, first: int, last: int) -> Iterator[None]:
    """Name file and scenes in the error of measurements without an answer (constant snapshots, say)."""
    try:
        yield
    except MeasurementError as error:
        expected = "measurements that have an answer"
        scenes = f"scenes {first} to {last}"
        raise InputError(where, scenes, expected, f"(counted from {first}) {error}") from None


def describe_surface(physics: PhysicsConfig) -> str:
    """The surface that is assumed, in a sentence."""
    if physics.elements.positions:
        number = len(physics.elements.positions)
        return f"surface: {number} elements at given positions, wavelength {physics.wavelength:.4g} m"
    spacing = physics.element_spacing * physics.wavelength
    default = all(getattr(physics, name) == getattr(PhysicsConfig(), name) for name in SURFACE)
    size = f"{physics.ris_rows} x {physics.ris_columns} elements, {spacing:.4g} m apart"
    return f"surface: {size}, wavelength {physics.wavelength:.4g} m" + (" (the defaults)" if default else "")
