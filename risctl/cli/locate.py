"""`risctl locate`: positions from somebody's own measurements."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from risctl.cli.alignment import spot_check_estimator
from risctl.cli.console import closing, progress, say, show_table
from risctl.cli.documents import Document, versioned, write_json
from risctl.cli.estimators import LEARNED, check_estimator, make_estimator
from risctl.cli.machine import resolve_device, use_threads
from risctl.cli.models import config_over_model, load_model, load_reference, with_model
from risctl.cli.options import Common, common_options, require_range
from risctl.errors import InputError, MeasurementError
from risctl.registry import estimator_names

if TYPE_CHECKING:
    from risctl.config import Config
    from risctl.data import Measurements
    from risctl.inference import Estimates, Estimator
    from risctl.model.load import LoadedModel

COLUMNS = ("scene", "azimuth deg", "+-", "elevation deg", "+-", "range m", "+-", "power dB")
LOCATORS = ", ".join(estimator_names("learned", "classical"))
CLASSICAL = "nomp"  # on a surface that the reference model was not trained for
KEYS = (
    "azimuth_deg",
    "std_azimuth_deg",
    "elevation_deg",
    "std_elevation_deg",
    "range_m",
    "std_range_m",
    "power_db",
)


@common_options
def locate(
    common: Common,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Measurements: .npz, .safetensors or .mat.")],
    estimator: Annotated[
        str | None,
        typer.Option(help=f"{LOCATORS}; absent: learned, on another surface nomp."),
    ] = None,
    num_sources: Annotated[
        int | None, typer.Option(help="Sources in every scene; counted if absent.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="RUN|CHECKPOINT", help="Model of the learned estimator; absent: the reference."),
    ] = None,
    batch: Annotated[int, typer.Option(help="Scenes estimated at once.")] = 64,
) -> Document:
    """Estimate source positions from a measurement file with y, H and codes."""
    check_estimator("--estimator", estimator or LEARNED)
    _check_out(out)
    use_threads(common.threads)
    device = resolve_device(common.device)
    name, config, loaded = _chosen(common, estimator, model, device)
    require_range("--num-sources", num_sources, 1, config.physics.max_sources)
    require_range("--batch", batch, 1, 100_000)
    if common.dry_run:
        return _dry_run(config, file, out)
    made = make_estimator(name, config, loaded, device)
    estimates = locate_file(config, file, made, num_sources, device, batch, loaded)
    document = {"estimator": name, "scenes": describe(estimates)}
    again = f"risctl locate {file}" + (f" --model {model}" if model else f" --estimator {name}")
    _report(document, file, out, again)
    return document


def _chosen(
    common: Common, estimator: str | None, model: str | None, device: str
) -> tuple[str, Config, LoadedModel | None]:
    """Return the estimator's name, the configuration, and the model if that is needed."""
    if model is not None:
        loaded = load_model(model, device)
        return estimator or LEARNED, config_over_model(common, loaded), loaded
    config = common.resolve()
    if estimator is not None and estimator != LEARNED:
        return estimator, config, None
    try:
        loaded = load_reference(config, device)
    except InputError as error:
        if estimator is not None:
            raise
        say(f"estimator {CLASSICAL}: {error}")
        return CLASSICAL, config, None
    return LEARNED, with_model(config, loaded), loaded


def describe(estimates: Estimates) -> list[Document]:
    """Return the `scenes` of the answer: degrees, metres, decibels; an unknown deviation is null."""
    import torch

    degrees = {
        "azimuth_deg": torch.rad2deg(estimates.azimuth),
        "elevation_deg": torch.rad2deg(estimates.elevation),
        "range_m": estimates.range,
        "power_db": 10 * torch.log10(estimates.power),
        "std_azimuth_deg": torch.rad2deg(estimates.std_azimuth),
        "std_elevation_deg": torch.rad2deg(estimates.std_elevation),
        "std_range_m": estimates.std_range,
    }
    columns = {key: values.tolist() for key, values in degrees.items()}
    return [
        {
            "index": index,
            "num_sources": count,
            "sources": [{key: rows[index][k] for key, rows in columns.items()} for k in range(count)],
        }
        for index, count in enumerate(estimates.num_sources.tolist())
    ]


def read(config: Config, file: Path, num_sources: int | None) -> Measurements:
    """Read the file for the configured surface; as many sources as antennas cannot be told apart."""
    from risctl.data import read_measurements

    data = read_measurements(file, num_elements=config.physics.num_elements)
    antennas = int(data.y.shape[-1])
    if num_sources is not None and num_sources >= antennas:
        raise InputError("--num-sources", "", f"fewer than the {antennas} antennas of {file}", num_sources)
    return data


def locate_file(
    config: Config,
    file: Path,
    estimator: Estimator,
    num_sources: int | None,
    device: str,
    batch: int,
    loaded: LoadedModel | None = None,
) -> Estimates:
    """Estimate the sources of every scene of a measurement file, showing progress.

    With a trained model the first batch must come out as in its training.
    """
    import torch

    from risctl.data import Measurements
    from risctl.inference import Estimates

    data = read(config, file, num_sources)
    total = len(data)
    parts = []
    with progress("scenes") as update:
        for start in range(0, total, batch):
            rows = slice(start, start + batch)
            part = Measurements(*(tensor[rows].to(device) for tensor in (data.y, data.H, data.codes)))
            known = None if num_sources is None else torch.full((len(part),), num_sources, device=device)
            with _blame(file, start, start + len(part) - 1):
                if start == 0 and loaded is not None:
                    spot_check_estimator(estimator, loaded.network, config, part)
                parts.append(estimator(part.y, part.H, part.codes, known))
            update(min(start + batch, total), total)
    return Estimates.concatenate(parts)


@contextmanager
def _blame(file: Path, first: int, last: int) -> Iterator[None]:
    """Blame the file for scenes without an answer: constant snapshots, a channel that overflows."""
    try:
        yield
    except MeasurementError as error:
        expected = "measurements that have an answer"
        raise InputError(
            file, f"scenes {first} to {last}", expected, f"(counted from {first}) {error}"
        ) from None


def _report(document: Document, file: Path, out: Path | None, command: str) -> None:
    rows = [
        (scene["index"], *(_number(source[key]) for key in KEYS))
        for scene in document["scenes"]
        for source in scene["sources"]
    ]
    show_table(f"{file}: {document['estimator']}", COLUMNS, rows)
    if out is not None:
        write_json(out, versioned(document))
    headline = (
        f"{len(rows)} sources in {len(document['scenes'])} scenes; +- is one standard deviation (Fisher)"
    )
    following = "risctl eval --preset quick" if out else f"{command} --out positions.json"
    closing(out or "not written (--out FILE)", headline, following)


def _number(value: float) -> str:
    return f"{value:.3f}"


def _check_out(out: Path | None) -> None:
    """Refuse a place that cannot be written before any work is done."""
    if out is not None and out.is_dir():
        raise InputError("--out", "", "a file name", f"the directory {out}")
    if out is not None and not out.absolute().parent.is_dir():
        raise InputError("--out", "", "a file in an existing directory", out)


def _dry_run(config: Config, file: Path, out: Path | None) -> Document:
    from risctl.cli.needs import PROCESS_BYTES, Needs, dry_run

    size = file.stat().st_size if file.is_file() else 0
    needs = Needs(disk_bytes=0 if out is None else 4096, memory_bytes=PROCESS_BYTES + 8 * size)
    return dry_run("locate", config, needs, str(out) if out else None)
