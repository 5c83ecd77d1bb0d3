"""The answer to a measurement file as a document (schema 2), as CSV, and as a picture of one scene."""

import csv
import hashlib
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from risctl import __version__
from risctl.config import PhysicsConfig, fingerprint
from risctl.data import read_measurements, write_atomically
from risctl.data.atomic import storage_errors
from risctl.errors import InputError, StorageError
from risctl.evaluation import Positions
from risctl.plots.located import located_figure
from risctl.plots.style import PICTURES, save_figure
from risctl.runs.documents import write_json
from risctl.runs.locate import Chosen, normalised
from risctl.runs.located import DOUBTS, ROW, Located
from risctl.runs.models import model_record
from risctl.text import Document, counted, finite

SCHEMA_VERSION = 2  # of the answer; schema 1 had the coordinates, their deviations and the powers
ANSWERS = (".json", ".csv")


def answer_document(located: Located, chosen: Chosen, file: Path, num_sources: int | None = None) -> Document:
    """The answer to a measurement file; what is unknown is null.

    Args:
        located: the sources.
        chosen: who located them.
        file: the measurements.
        num_sources: K, where it was given.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "version": __version__,
        "settings": fingerprint(chosen.config),
        "estimator": located.estimator,
        "model": None if chosen.model is None else model_record(chosen.model),
        "surface": surface_record(chosen.config.physics),
        "calibration": None if chosen.surface is None else chosen.surface.digest,
        "file": str(file),
        "file_hash": file_hash(file),
        "given": {"num_sources": num_sources},
        "misfit_p": located.misfit_p_of_all,
        "likelier_convention": located.likelier_convention or None,
        "scenes": located.scenes(),
    }


def surface_record(physics: PhysicsConfig) -> Document:
    """The surface that was assumed: lengths in metres, the spacing in wavelengths; or positions in metres."""
    if physics.elements.positions:
        return {"wavelength": physics.wavelength, "elements": physics.elements.in_surface_frame()}
    names = ("wavelength", "ris_rows", "ris_columns", "element_spacing")
    return {name: getattr(physics, name) for name in names}


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hexadecimal digits; `StorageError` if it cannot be read."""
    with storage_errors(path), path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_answer(path: Path, document: Document, located: Located) -> None:
    """Write the answer, as JSON or, by the suffix `.csv`, one row per source; whole or not at all.

    Raises:
        StorageError: disk full, permission denied, and the like.
    """
    if path.suffix.lower() == ".csv":
        write_atomically(path, csv_text(located.rows()).encode())
    else:
        write_json(path, document)


def csv_text(rows: Sequence[Mapping[str, object]]) -> str:
    """The rows of `Located.rows` under the names of their columns; an unknown number is an empty cell."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, ROW, lineterminator="\n")
    writer.writeheader()
    writer.writerows(finite(row) for row in rows)
    return stream.getvalue()


def check_destination(name: str, path: Path | None, suffixes: Sequence[str]) -> None:
    """Refuse a place that cannot be written, before any work is done.

    Args:
        name: of the argument, for the message.
        path: the file; None: nothing is to be written.
        suffixes: formats that can be.

    Raises:
        InputError: a directory, no directory to be in, or another suffix.
        StorageError: a directory that cannot be written.
    """
    if path is None:
        return
    if path.is_dir():
        raise InputError(name, "", "a file name", f"the directory {path}")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise InputError(name, "", "a file in an existing directory", path)
    if not os.access(folder, os.W_OK):
        raise StorageError(f"{folder}: cannot be written")
    if path.suffix.lower() not in suffixes:
        raise InputError(name, "", f"a file named {', '.join('*' + x for x in suffixes)}", path.name)


def check_answer_and_picture(out: Path | None, picture: Path | None) -> None:
    """Refuse an answer or a picture that cannot be written."""
    check_destination("out", out, ANSWERS)
    check_destination("picture", picture, PICTURES)


def draw_located(path: Path, chosen: Chosen, file: Path, located: Located, scene: int | None = None) -> int:
    """Draw a scene of the answer in the format of the suffix; return its index.

    Args:
        path: the picture.
        chosen: who located the sources.
        file: the measurements.
        located: the answer.
        scene: index; None: the first scene in doubt, or the first.

    Raises:
        InputError: there is no such scene.
        StorageError: disk full, permission denied, and the like.
    """
    if scene is None:
        scene = next(iter(located.in_doubt), 0)
    if not 0 <= scene < len(located):
        raise InputError("scene", "", f"0 to {len(located) - 1}", scene)
    data, *_ = normalised(read_measurements(file, chosen.config.physics.num_elements))
    found = slice(int(located.num_sources[scene]))
    far = chosen.config.physics.range_max  # where a plane wave is drawn to come from
    at = (located.azimuth, located.elevation, np.where(np.isinf(located.range), far, located.range))
    std = (located.std_azimuth, located.std_elevation, located.std_range)
    estimate, deviation = (Positions(*(x[scene, found] for x in parts)) for parts in (at, std))
    sources = counted(int(located.num_sources[scene]), "source")
    title = f"{file.name}, scene {scene}: {sources} ({located.estimator})"
    measured = data.part(slice(scene, scene + 1), "cpu")
    figure = located_figure(measured, chosen.config, estimate, deviation, title, _fit_text(located, scene))
    save_figure(figure, path)
    return scene


def _fit_text(located: Located, scene: int) -> str:
    """What is known about the fit, and what to check: the flags of the scene in words."""
    p = located.misfit_p[scene]
    tested = "goodness of fit not tested" if np.isnan(p) else f"goodness of fit: p = {p:.2g}"
    return "; ".join([tested, *(DOUBTS[flag][1] for flag in DOUBTS if flag in located.flags_of(scene))])
