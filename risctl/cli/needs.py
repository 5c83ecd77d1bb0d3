"""What a command would need: the answer to `--dry-run`."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from risctl.cli.console import say
from risctl.cli.documents import Document
from risctl.config import Config, fingerprint
from risctl.config.toml import to_toml

# Resident size of a Python process that has imported torch and SciPy, measured, rounded up.
PROCESS_BYTES = 400_000_000


@dataclass(frozen=True)
class Needs:
    """Estimates: bytes on disk, resident bytes of all processes, trainable parameters."""

    disk_bytes: int = 0
    memory_bytes: int = PROCESS_BYTES
    parameters: int = 0


def dry_run(command: str, config: Config, needs: Needs, writes: str | None) -> Document:
    """Show the resolved configuration and the needs; `writes` is what the command would write."""
    say(to_toml(config))
    say(f"# {command}: nothing was written")
    say(f"# would write  {writes or 'nothing'}")
    say(f"# parameters   {needs.parameters or '0 (classical estimators have none)'}")
    say(f"# disk         {readable_bytes(needs.disk_bytes)}")
    say(f"# memory       about {readable_bytes(needs.memory_bytes)}")
    return {
        "command": command,
        "dry_run": True,
        "config": config.model_dump(mode="json"),
        "fingerprint": fingerprint(config),
        "writes": writes,
        "needs": asdict(needs),
    }


def readable_bytes(count: float) -> str:
    """Return a byte count in decimal units."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
