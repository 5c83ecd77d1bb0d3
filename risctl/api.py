"""The public functions of `import risctl`: NumPy arrays or torch tensors in, frozen dataclasses out.

They make the same checks and refusals as the commands of the same names.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

from numpy.typing import ArrayLike

from risctl import runs
from risctl.config import Config
from risctl.config.layers import Layers, Machine
from risctl.data import Measurements, SceneStream, given_measurements
from risctl.data.arrays import real_array
from risctl.data.description import DescriptionKeys
from risctl.errors import InputError
from risctl.evaluation.alignment import Report
from risctl.model.load import LoadedModel
from risctl.physics import Scenes
from risctl.runs.described import Described
from risctl.runs.located import Located
from risctl.runs.progress import Progress, silent
from risctl.training import Listener


def simulate(config: Config | str | None = None, num_scenes: int = 100, seed: int = 0) -> Scenes:
    """Simulate scenes of the test split.

    Args:
        config: a configuration, or the name of a preset; None: `quick`.
        num_scenes: how many.
        seed: scenes of different seeds have nothing in common.

    Returns:
        Measurements (`y` [n, L, M], `H` [n, M, N], `codes` [n, L, N]) and the truth behind them.

    Example:
        >>> import risctl
        >>> scenes = risctl.simulate("quick", 3)
        >>> scenes.y.shape, scenes.H.shape, scenes.codes.shape
        (torch.Size([3, 16, 16]), torch.Size([3, 16, 144]), torch.Size([3, 16, 144]))
    """
    return SceneStream(_layers(config).resolve().physics, seed, "test", num_scenes).scenes(0, num_scenes)


def locate(
    y: ArrayLike | Measurements,
    H: ArrayLike | None = None,
    codes: ArrayLike | None = None,
    *,
    Phi: ArrayLike | None = None,
    num_sources: int | None = None,
    estimator: str | None = None,
    model: str | Path | None = None,
    config: Config | str | None = None,
    surface: runs.CalibratedSurface | None = None,
    device: str = "cpu",
    batch: int | None = None,
    **description: Unpack[DescriptionKeys],
) -> Located:
    """Locate the sources of S scenes.

    Snapshot l is ``y_l = Phi_l A x_l + noise``, with steering vectors as in `risctl.physics.steering_vector`.
    Behind a surface ``Phi_l = H diag(codes_l)``; with nothing but y it is an ordinary array, M = N.

    Args:
        y: snapshots, complex [S, L, M], or [L, M] of one scene; or all there is, from `read_measurements`.
        H: channel base station <- surface, complex [S, M, N], or [M, N] for all scenes.
        codes: what the surface applied, complex [S, L, N], or [L, N] for all scenes.
        Phi: measurement matrices in place of H and codes, complex [S, L, M, N], [L, M, N] or [M, N].
        num_sources: K of every scene; None: counted.
        estimator: a name of the registry; None: the shipped model, NOMP on a surface that it is not for.
        model: run or checkpoint of a trained model; None: the shipped one.
        config: geometry of the surface and settings of the estimator, or a preset; None: the defaults, or
            the model's own.
        surface: calibration of the surface (`calibrate_surface`, `load_surface`); None: it is nominal.
        device: `cpu`, `cuda` or `cuda:i`.
        batch: scenes estimated at once; 256 if absent, 2048 on an accelerator.
        description: `wavelength` (m), `elements` [N, 3] (m) or `ris_rows`, `ris_columns`, `element_spacing`
            (wavelengths), `symbols`, `static_path`, `known_elevation_deg`, `known_range_m`; stronger than
            `config`.

    Raises:
        InputError: arrays or settings that do not fit; another surface than the model's or the calibration's.
        CheckFailedError: the model does not compute what it computed in its training.

    Example:
        >>> import risctl
        >>> scenes = risctl.simulate("quick", 2, seed=7)
        >>> located = risctl.locate(scenes.y, scenes.H, scenes.codes, num_sources=2)
        >>> located.azimuth.shape, located.estimator
        ((2, 5), 'learned')
    """
    layers = Layers() if model is not None and config is None else _layers(config)
    data = given_measurements(y, {"H": H, "codes": codes, "Phi": Phi, **description})
    chosen = runs.choose_estimator(layers, estimator, model, runs.resolve_device(device), Described.of(data))
    chosen = runs.with_surface(chosen, surface)
    found = runs.locate_measurements(chosen, data, num_sources, batch)
    return Located.from_found(chosen, found)


def calibrate_surface(
    y: ArrayLike | Measurements,
    H: ArrayLike | None = None,
    codes: ArrayLike | None = None,
    *,
    Phi: ArrayLike | None = None,
    anchors: Mapping[int, ArrayLike] | None = None,
    estimate: str = "gains",
    start: str = "nominal",
    held_out: float = 0.2,
    num_sources: int | None = None,
    estimator: str | None = None,
    model: str | Path | None = None,
    config: Config | str | None = None,
    out: str | Path | None = None,
    **description: Unpack[DescriptionKeys],
) -> runs.CalibratedSurface:
    """Find what a real surface differs in from its nominal model, from measurements of unknown sources.

    Args:
        y, H, codes, Phi, num_sources, estimator, model, config, description: as in `locate`.
        anchors: known positions of all sources by scene, [K, 3]: azimuth, elevation (rad), range (m).
        estimate: `gains` of the elements, `states` (responses of the code values), `positions` of the
            elements, or some of them joined by `+`.
        start: `nominal`, or `anchors` where nothing is known of the phases.
        held_out: share of the scenes that judge a calibration by the others; 0: none.
        out: file to write.

    Raises:
        InputError: arrays or settings that do not fit.

    Example:
        >>> import risctl
        >>> scenes = risctl.simulate("quick", 4, seed=3)
        >>> surface = risctl.calibrate_surface(scenes.y, scenes.H, scenes.codes, held_out=0.0)
        >>> located = risctl.locate(scenes.y, scenes.H, scenes.codes, surface=surface)
        >>> surface.gains.shape, len(located)
        (torch.Size([144]), 4)
    """
    runs.check_destination("out", _path(out), (".json",))
    request = runs.CalibrationRequest(tuple(estimate.split("+")), start, held_out, num_sources)
    layers = Layers() if model is not None and config is None else _layers(config)
    data = given_measurements(y, {"H": H, "codes": codes, "Phi": Phi, **description})
    chosen = runs.choose_estimator(layers, estimator, model, described=Described.of(data))
    known = {
        index: real_array(at, (-1, 3), "azimuth, elevation, range", "anchors", str(index)).tolist()
        for index, at in (anchors or {}).items()
    }
    surface = runs.calibrate_surface(chosen, [data], request, known)
    if out is not None:
        runs.write_surface(Path(out), surface)
    return surface


def load_surface(path: str | Path) -> runs.CalibratedSurface:
    """Read what `calibrate_surface` wrote.

    Raises:
        InputError: it is no such document.
        DamagedFileError: it is no JSON.

    Example:
        >>> import risctl
        >>> scenes = risctl.simulate("quick", 4, seed=3)
        >>> found = risctl.calibrate_surface(scenes.y, scenes.H, scenes.codes, held_out=0.0, out="s.json")
        >>> risctl.load_surface("s.json").tilt_std_deg == found.tilt_std_deg
        True
    """
    return runs.load_surface(path)


def load_model(path: str | Path | None = None, device: str = "cpu") -> LoadedModel:
    """Load a trained model: its network, settings and count fusion.

    Args:
        path: run or checkpoint; None: the shipped model.
        device: where the network is to be.

    Raises:
        InputError: there is no model.
        DamagedFileError: it is not what was written.

    Example:
        >>> import risctl
        >>> model = risctl.load_model()
        >>> model.physics.num_elements
        144
    """
    return runs.load_model(path, runs.resolve_device(device))


def train(
    config: Config | str | None = None,
    *,
    data: str | Path | None = None,
    val_data: str | Path | None = None,
    resume: str | Path | None = None,
    fork: bool = False,
    listeners: Sequence[Listener] = (),
    device: str = "auto",
    threads: int | None = None,
) -> runs.Trained:
    """Train a network in a new directory below `runs/train`.

    Sets the number of torch's threads in this process.

    Args:
        config: a configuration, or the name of a preset; None: `quick`, or the settings of `resume`.
        data: dataset to train on; None: scenes are simulated.
        val_data: dataset to validate on, beside `data`.
        resume: a run to go on with, in its own directory.
        fork: copy the state of `resume` into a new run, whose settings may differ.
        listeners: called with every event of the training (`risctl.training.Event`).
        device: `auto`, `cpu`, `cuda` or `cuda:i`.
        threads: CPU threads; None: one, or those of `resume`.

    Raises:
        InputError: settings that do not fit together.
        CheckFailedError: inference would not compute what is trained, or too many steps failed.
        DivergedError: the validation loss is not finite.

    Example:
        >>> import risctl
        >>> short = ["training.epochs=1", "data.train_scenes=128", "data.val_scenes=64"]
        >>> trained = risctl.train(risctl.load_config("quick", overrides=short))
        >>> trained.outcome.epochs, (trained.run / "curves.png").exists()
        (1, True)
    """
    layers = Layers() if resume is not None and config is None else _layers(config)
    prepared = runs.prepare_training(
        layers,
        data=_path(data),
        val_data=_path(val_data),
        resume=_path(resume),
        fork=fork,
        machine=Machine(device, threads),
    )
    return runs.train(prepared, listeners)


def overfit(
    config: Config | str | None = None, *, listeners: Sequence[Listener] = (), device: str = "auto"
) -> runs.Judged:
    """Train on 512 scenes again and again, and judge whether the network can learn them.

    Args:
        config: a configuration, or the name of a preset; None: `overfit`.
        listeners: called with every event of the training.
        device: `auto`, `cpu`, `cuda` or `cuda:i`.

    Example:
        >>> import risctl
        >>> short = ["training.epochs=1", "data.train_scenes=64", "data.val_scenes=64"]
        >>> risctl.overfit(risctl.load_config("overfit", overrides=short)).gate.verdict
        'broken'
    """
    prepared = runs.prepare_overfit(_layers(config, "overfit"), machine=Machine(device))
    judged = runs.overfit(prepared, listeners)
    assert isinstance(judged, runs.Judged)  # nothing can have stopped it
    return judged


def evaluate(
    config: Config | str | None = None,
    estimators: Sequence[str] | Mapping[str, Callable[..., Any] | str | Path | None] | None = None,
    *,
    model: str | Path | None = None,
    data: str | Path | None = None,
    answers: Mapping[str, str | Path] | None = None,
    scenes: int | None = None,
    num_sources_known: bool = False,
    workers: int = 1,
    plots: bool = True,
    seed: int | None = None,
    progress: Progress = silent,
) -> runs.Evaluated:
    """Evaluate estimators beside the Cramer-Rao bound, in a new directory below `runs/eval`.

    Args:
        config: a configuration, or the name of a preset; None: `quick`.
        estimators: names of the registry; or a mapping of names to None (the registry's own), to a function
            ``f(y, H, codes)`` of one scene's arrays that returns positions [K, 3] (azimuth and elevation in
            radians, range in metres; see `risctl.evaluation.ExternalEstimator`), or to the run or checkpoint
            of another model. None, or no name of the registry: those of the configuration, too.
        model: run or checkpoint of the learned estimator; None: the shipped model.
        data: dataset (`risctl gen-data`); None: simulated scenes, as many per cell of SNR and source count.
        answers: JSON files with another program's answers for `data`, by name.
        scenes: how many; None: the configured number, or all of `data`.
        num_sources_known: the estimators are given K.
        workers: processes of one thread each.
        plots: draw pictures.
        seed: of scenes and bootstrap.
        progress: opens a progress display (`risctl.runs.progress`).

    Example:
        >>> import risctl
        >>> def boresight(y, H, codes):
        ...     return [[0.0, 0.0, 5.0]]
        >>> mine = {"nomp": None, "boresight": boresight}
        >>> evaluated = risctl.evaluate("quick", mine, scenes=30, plots=False)
        >>> evaluated.evaluation.results.estimators
        ('boresight', 'nomp')
    """
    given = estimators if isinstance(estimators, Mapping) else dict.fromkeys(estimators or ())
    names = tuple(name for name, other in given.items() if other is None)
    request = runs.EvaluationRequest(
        layers=_layers(config, seed=seed),
        data=_path(data),
        estimators=names or None,
        beside={name: other for name, other in given.items() if other is not None},
        answers={name: Path(path) for name, path in (answers or {}).items()},
        scenes=scenes,
        known_num_sources=num_sources_known,
        workers=workers,
        plots=plots,
        model_path=None if model is None else str(model),
    )
    return runs.evaluate(request, progress)


def sweep(
    axes: Mapping[str, Sequence[bool | int | float | str]],
    config: Config | str | None = None,
    estimators: Sequence[str] | None = None,
    *,
    model: str | Path | None = None,
    scenes: int | None = None,
    workers: int = 1,
    plots: bool = True,
    progress: Progress = silent,
) -> runs.Swept:
    """Evaluate at every value of a setting, in a new directory below `runs/eval`.

    Args:
        axes: settings with their values, each swept on its own: ``{"physics.num_snapshots": (4, 8, 16)}``.
        config: a configuration, or the name of a preset; None: `quick`.
        estimators: names of the registry; None: those of the configuration.
        model: run or checkpoint of the learned estimator; None: the shipped model.
        scenes: per value; None: the configured number.
        workers: processes of one thread each.
        plots: draw pictures.
        progress: opens a progress display.

    Example:
        >>> import risctl
        >>> swept = risctl.sweep({"physics.num_snapshots": (8, 16)}, "quick", ["music"], scenes=30)
        >>> [len(sweep.points) for sweep in swept.sweeps]
        [2]
    """
    words = [f"{key}={','.join(map(runs.toml_value, values))}" for key, values in axes.items()]
    request = runs.EvaluationRequest(
        layers=_layers(config),
        estimators=None if estimators is None else tuple(estimators),
        scenes=scenes,
        workers=workers,
        plots=plots,
        model_path=None if model is None else str(model),
        axes=runs.parse_sweeps(words),
    )
    return runs.sweep(request, progress=progress)


def search(
    config: Config | str | None = None,
    *,
    trials: int | None = None,
    workers: int = 1,
    storage: str | None = None,
    resume: str | Path | None = None,
    need_gate: bool = True,
    device: str = "auto",
) -> runs.Searched:
    """Search the hyper-parameters, in a new directory below `runs/hpo`.

    Workers are processes: call it from a script's ``if __name__ == "__main__":``.

    Args:
        config: a configuration with a search space, or the name of a preset; None: `search`.
        trials: how many are to end; None: the configured number.
        workers: trials at a time, a process each.
        storage: PostgreSQL database that several machines share; None: a file in the run.
        resume: a run to go on with.
        need_gate: refuse a network that no overfit gate found ready.
        device: `auto`, `cpu`, `cuda` or `cuda:i`.

    Example:
        >>> import risctl
        >>> short = ["search.epochs=1", "data.train_scenes=128", "data.val_scenes=64"]
        >>> small = risctl.load_config("search", overrides=short)
        >>> found = risctl.search(small, trials=1, need_gate=False)
        >>> found.outcome.finished
        1
    """
    layers = Layers() if resume is not None and config is None else _layers(config, "search")
    prepared = runs.prepare_search(
        layers,
        trials,
        workers,
        storage,
        resume=_path(resume),
        need_gate=need_gate,
        machine=Machine(device),
    )
    return runs.search(prepared)


def check_alignment(
    model: str | Path | None = None, config: Config | str | None = None, *, self_test: bool = False
) -> Report:
    """Compare what training and inference compute on the same scenes.

    Args:
        model: run or checkpoint; None: a fresh network.
        config: a configuration, or the name of a preset; None: `quick`, or the model's own.
        self_test: alter one thing at a time on one side, too; every alteration must be noticed.

    Raises:
        CheckFailedError: an alteration went unnoticed, or fingerprints differ.

    Example:
        >>> import risctl
        >>> risctl.check_alignment().passed
        True
    """
    layers = Layers() if model is not None and config is None else _layers(config)
    prepared = runs.prepare_check(layers, None if model is None else str(model))
    return runs.check_alignment(prepared, mutants=self_test).checked


def _layers(config: Config | str | None, default: str = "quick", seed: int | None = None) -> Layers:
    if isinstance(config, Config):
        return Layers(whole=config, seed=seed)
    if config is not None and not isinstance(config, str):
        raise InputError("config", "", "a configuration, or the name of a preset", repr(config))
    return Layers(config or default, seed=seed)


def _path(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path)
