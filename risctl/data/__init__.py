"""Scenes as a stream or as a dataset on disk, and measurement files."""

from risctl.data.atomic import exclusive_lock, write_atomically
from risctl.data.description import Description
from risctl.data.layout import dataset_bytes
from risctl.data.measurements import (
    Measurements,
    given_measurements,
    read_description,
    read_measurements,
    write_measurements,
)
from risctl.data.store import SceneStore, open_dataset
from risctl.data.stream import SceneSource, SceneStream
from risctl.data.writer import DatasetSummary, write_dataset

__all__ = [
    "DatasetSummary",
    "Description",
    "Measurements",
    "SceneSource",
    "SceneStore",
    "SceneStream",
    "dataset_bytes",
    "exclusive_lock",
    "given_measurements",
    "open_dataset",
    "read_description",
    "read_measurements",
    "write_atomically",
    "write_dataset",
    "write_measurements",
]
