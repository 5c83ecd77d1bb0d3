"""What the JSON files of a run hold, checked when they are read: a value of another kind is a damaged file.

Keys that later versions added have a default, since older files lack them; keys that this version does not
know are passed over. Figures are null where they were not finite.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from datetime import datetime
from functools import reduce
from operator import or_
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, create_model
from pydantic_core import CoreSchema

from risctl.evaluation.alignment import Finding
from risctl.evaluation.results import Results
from risctl.hpo import TrialRecord
from risctl.hpo import verdict as search
from risctl.hpo.importance import Importance
from risctl.runs.names import ALIGNMENT_FILE, PROVENANCE, RESULTS_FILE, SEARCH_FILE, STATUS, VERDICT_FILE

AnyRecord = TypeVar("AnyRecord")


class Stored(BaseModel):
    """A part of a JSON file: no value is converted."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


def stored(kind: type[Any]) -> type[Stored]:
    """The schema of a dataclass in a file."""
    hints = get_type_hints(kind)
    given: dict[str, Any] = {}
    for field in fields(kind):
        optional = field.default is not MISSING or field.default_factory is not MISSING
        given[field.name] = (_as_written(hints[field.name]), None if optional else ...)
    return create_model(kind.__name__, __base__=Stored, **given)


def _as_written(hint: Any) -> Any:
    """A type as it is in a file: any float in it may be null."""
    if hint is float:
        return float | None
    parts = tuple(map(_as_written, get_args(hint)))
    origin = get_origin(hint)
    if not parts or origin is Literal:
        return hint
    return reduce(or_, parts) if origin in (Union, UnionType) else origin[parts]


class _AsWritten:
    def __get_pydantic_core_schema__(self, source: type[Any], handler: GetCoreSchemaHandler) -> CoreSchema:
        return handler.generate_schema(stored(source))


Written = Annotated[AnyRecord, _AsWritten()]
"""A dataclass, as `Written[TrialRecord]`, where a schema has one."""


def record_of(kind: type[AnyRecord], values: Mapping[str, Any]) -> AnyRecord:
    """A dataclass from its part of a checked document; what this version does not know is left out."""
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in values.items() if name in names})


class Status(Stored):
    """`status.json`."""

    command: str
    state: str
    started: datetime | None = None
    updated: datetime | None = None
    exit_status: int | None = None
    message: str | None = None
    epochs: int | None = None
    steps: int | None = None
    finished: int | None = None
    trials: int | None = None
    best_value: float | None = None


class Git(Stored):
    """The code of a run."""

    commit: str | None
    dirty: bool | None


class Hardware(Stored):
    """The machine of a run."""

    device: str


class Scenes(Stored):
    """A dataset, or where it would be."""

    path: str | None = None
    hash: str | None = None


class Dataset(Scenes):
    """The scenes of a run: one set, or two of a training."""

    train: Scenes | None = None
    validation: Scenes | None = None


class Database(Stored):
    """The study of a search."""

    name: str
    storage: str | None = None


class Provenance(Stored):
    """`provenance.json`."""

    preset: str | None = None
    argv: tuple[str, ...] = ()
    git: Git | None = None
    versions: Mapping[str, str | None] = {}
    seeds: Mapping[str, int] = {}
    threads: int | None = None
    processes: int = 1
    hardware: Hardware | None = None
    dataset: Dataset | None = None
    resumed: tuple[Provenance, ...] = ()
    forked_from: str | None = None
    forked_state: str | None = None
    study: Database | None = None


class GateCheck(Stored):
    """A figure of the overfit gate."""

    name: str
    value: float | None
    wanted: str
    met: bool


class GateFile(Stored):
    """`overfit.json`."""

    verdict: Literal["ready", "debug", "broken"]
    is_gate: bool
    fingerprints: Mapping[str, str]
    reason: str | None = None
    departures: tuple[str, ...] = ()
    ready_below: float | None = None
    checks: tuple[GateCheck, ...] = ()
    scenes: int | None = None
    epochs: int | None = None


class SearchVerdict(Stored):
    """The verdict on a search."""

    go: bool
    findings: tuple[Written[search.Finding], ...]


class SearchFile(Stored):
    """`search.json`."""

    asked: int
    finished: int
    spread: float | None
    best: Written[TrialRecord] | None
    preset: Written[TrialRecord] | None = None
    importance: tuple[Written[Importance], ...]
    verdict: SearchVerdict
    trials: tuple[Written[TrialRecord], ...]


class Alteration(Stored):
    """An alteration of the alignment check."""

    mutant: str
    side: str
    caught: bool


class AlignmentFile(Stored):
    """`alignment.json`."""

    model: str
    passed: bool
    findings: tuple[Written[Finding], ...]
    mutants: tuple[Alteration, ...] = ()


FILES: dict[str, type[BaseModel]] = {
    STATUS: Status,
    PROVENANCE: Provenance,
    VERDICT_FILE: GateFile,
    SEARCH_FILE: SearchFile,
    ALIGNMENT_FILE: AlignmentFile,
    RESULTS_FILE: Results,
}
