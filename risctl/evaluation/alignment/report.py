"""Results of the alignment check."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        group: part of the check.
        name: quantity.
        got: its value.
        expected: what it has to be, in words.
        passed: whether it is.
        side: side that the value belongs to; None if it is about both.
    """

    group: str
    name: str
    got: str | float | int | bool | None
    expected: str
    passed: bool
    side: str | None = None

    @property
    def label(self) -> str:
        """Name with the side."""
        return self.name if self.side is None else f"{self.side}: {self.name}"


@dataclass(frozen=True)
class Report:
    """All lines of the check of one network on one batch."""

    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether every line passed."""
        return not self.failures

    @property
    def failures(self) -> tuple[Finding, ...]:
        """The lines that did not pass."""
        return tuple(finding for finding in self.findings if not finding.passed)

    def document(self) -> dict[str, Any]:
        """The report as JSON-ready tables."""
        return {"passed": self.passed, "findings": [asdict(finding) for finding in self.findings]}


def finding(
    group: str,
    name: str,
    got: str | float | bool | None,
    expected: str,
    passed: bool,
    side: str | None = None,
) -> Finding:
    """A line of the report, a figure rounded to five digits."""
    shown = float(number(got)) if isinstance(got, float) else got
    return Finding(group, name, shown, expected, passed, side)


def number(value: float) -> str:
    """A figure with as many digits as a comparison to one part in ten thousand needs."""
    return f"{value:.5g}"
