"""A measurement file to look at, with the truth beside it in the form of an answer."""

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch

from risctl.config import Config, PhysicsConfig
from risctl.config.layers import Layers
from risctl.data import SceneStream, write_measurements
from risctl.data.description import KEYS, DescriptionKeys
from risctl.data.formats import FORMATS
from risctl.errors import InputError
from risctl.evaluation import Positions
from risctl.physics import Scenes
from risctl.runs.answer import SCHEMA_VERSION, check_destination, file_hash, surface_record
from risctl.runs.documents import write_json
from risctl.text import Document

# Beneath the settings of the caller: 1, 2, ... sources in turn, all of them well seen.
EASY = ("physics.stratified=true", "physics.snr_values_db=[20]")


@dataclass(frozen=True)
class Example:
    """A measurement file that was written, the file with its truth, and that truth."""

    file: Path
    truth_file: Path
    truth: Document


def example_config(layers: Layers) -> Config:
    """Resolve the settings of an example over `EASY`."""
    return layers.with_overrides(*EASY, first=True).resolve()


def write_example(file: Path, config: Config, num_scenes: int = 3) -> Example:
    """Write simulated measurements of the test split, and `<stem>.truth.json` beside them.

    Args:
        file: new `.npz`, `.mat` or `.safetensors` file.
        config: physics and seed of the scenes.
        num_scenes: how many.

    Raises:
        InputError: another suffix, no such directory, or a file that exists.
        StorageError: disk full, permission denied, and the like.
    """
    check_destination("file", file, tuple(FORMATS))
    truth_file = file.with_name(f"{file.stem}.truth.json")
    for path in (file, truth_file):
        if path.exists():
            raise InputError(path, "", "a new file", "one that exists")
    scenes = SceneStream(config.physics, config.data.seed, "test", num_scenes).scenes(0, num_scenes)
    write_measurements(file, scenes.y, scenes.H, scenes.codes, **description_of(config.physics))
    truth = truth_document(scenes, config, file)
    write_json(truth_file, truth)
    return Example(file, truth_file, truth)


def description_of(physics: PhysicsConfig) -> DescriptionKeys:
    """What a file has to say of scenes that are not of the default surface, view and symbols."""
    values, usual = physics.model_dump(), PhysicsConfig().model_dump()
    panel = ("ris_rows", "ris_columns", "element_spacing")
    said = {key: values[key] for key in KEYS if key in values and values[key] != usual[key]}
    if physics.elements.positions:
        said = {key: value for key, value in said.items() if key not in panel}
        said["elements"] = physics.elements.in_surface_frame()
    elif said.keys() & set(panel):
        said |= {key: values[key] for key in panel}
    return cast(DescriptionKeys, said)


def truth_document(scenes: Scenes, config: Config, file: Path) -> Document:
    """The true sources in the words of an answer, which `eval` can score."""
    parts = (scenes.azimuth, scenes.elevation, scenes.range)
    positions = Positions(*(part.double().numpy() for part in parts))
    values = np.concatenate([positions.table(), positions.cartesian()], axis=-1)
    power_db = 10 * torch.log10(scenes.power.double())
    names = ("azimuth_deg", "elevation_deg", "range_m", "x_m", "y_m", "z_m")
    return {
        "schema_version": SCHEMA_VERSION,
        "surface": surface_record(config.physics),
        "file": file.name,
        "file_hash": file_hash(file),
        "scenes": [
            {
                "index": index,
                "num_sources": count,
                "snr_db": float(scenes.snr_db[index]),
                "noise_var": float(scenes.noise_var[index]),
                "sources": [
                    dict(zip(names, values[index, k].tolist(), strict=True))
                    | {"power_db": float(power_db[index, k])}
                    for k in range(count)
                ],
            }
            for index, count in enumerate(scenes.num_sources.tolist())
        ],
    }
