"""JSON documents of run directories, written whole or not at all."""

import json
from pathlib import Path

from risctl.config.parse import parse_json
from risctl.data.atomic import storage_errors, write_atomically
from risctl.errors import DamagedFileError
from risctl.runs.schemas import FILES
from risctl.text import Document, json_text


def write_json(path: Path, document: object) -> None:
    """Write a JSON document; `StorageError` if the disk refuses, and what was there before stays."""
    write_atomically(path, json_text(document).encode())


def read_document(path: Path) -> Document:
    """Read a JSON object of a run, checked by its schema in `FILES` where its name has one.

    Raises:
        DamagedFileError: nothing there, or anything else; naming the key where it is one value.
        StorageError: it cannot be read.
    """
    if not path.is_file():
        raise DamagedFileError(path, "a JSON document of a run", "nothing there")
    with storage_errors(path):
        content = path.read_bytes()
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(path, "a JSON document of a run", type(error).__name__) from None
    if not isinstance(document, dict):
        raise DamagedFileError(path, "a JSON object", type(document).__name__)
    if path.name in FILES:
        parse_json(FILES[path.name], content, path)
    return document
