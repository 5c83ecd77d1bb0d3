"""What the tests of several packages share: a surface of few elements, and a listener that remembers."""

from typing import Any

from risctl.config import PhysicsConfig

PHYSICS = PhysicsConfig(
    ris_columns=4,
    ris_rows=3,
    num_antennas=6,
    num_snapshots=8,
    max_sources=3,
    max_coherence=1.0,
    codebook="random",
)


class Recorder:
    """A listener that remembers, as the log file of a run does."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def __call__(self, event: Any) -> None:
        self.events.append(event)

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]
