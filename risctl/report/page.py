"""The content of a report, without any layout."""

from dataclasses import dataclass
from typing import Any

from risctl.evaluation.tables import TextTable


@dataclass(frozen=True)
class Check:
    """A line of a verdict: what was asked, what was found, what was wanted; `met` None: not judged."""

    name: str
    found: str
    wanted: str
    met: bool | None


@dataclass(frozen=True)
class Picture:
    """A figure with one sentence on what it shows; `image` is SVG, or a PNG as a data address."""

    title: str
    caption: str
    image: str

    @property
    def inline(self) -> bool:
        """Whether the image is SVG text."""
        return self.image.startswith("<svg")


@dataclass(frozen=True)
class Setting:
    """A setting that differs from the preset's."""

    key: str
    preset: Any
    value: Any


@dataclass(frozen=True)
class Fact:
    """A line of the provenance."""

    name: str
    text: str


@dataclass(frozen=True)
class Page:
    """Everything that the report says of a run.

    Attributes:
        name: of the run's directory.
        command: of risctl that made it.
        state: done, failed, interrupted or running.
        headline: the result, in a sentence.
        checks: the lines of its verdict, if it has one.
        pictures: few, the most telling first.
        tables: the shortest first.
        preset: that its settings are compared with.
        settings: what differs from the preset.
        facts: commit, versions, seeds, machine, times.
        again: the command that reproduces it.
    """

    name: str
    command: str
    state: str
    headline: str
    checks: tuple[Check, ...] = ()
    pictures: tuple[Picture, ...] = ()
    tables: tuple[TextTable, ...] = ()
    preset: str | None = None
    settings: tuple[Setting, ...] = ()
    facts: tuple[Fact, ...] = ()
    again: str = ""
