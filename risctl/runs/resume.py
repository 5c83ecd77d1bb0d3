"""Resuming a run: in its own directory with its own settings, or as a fork with others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import xxhash

from risctl.config import Config, load_config, parse_section
from risctl.config.layers import Layers
from risctl.config.toml import toml_value
from risctl.data import SceneSource
from risctl.errors import DamagedFileError, InputError
from risctl.model.checkpoint import BEST, CHECKPOINTS, LAST, read_checkpoint
from risctl.runs.documents import read_document
from risctl.runs.names import CONFIG, PROVENANCE, STATUS
from risctl.runs.scenes import Sources
from risctl.text import Document
from risctl.training import changed_keys

COMMANDS = ("train", "overfit")
FORKED_FROM, FORKED_STATE = "forked_from", "forked_state"
# What the stored weights were made for, in a fork as well.
FORK_KEEPS = ("model", "physics.max_sources", "physics.ris_columns", "physics.ris_rows", "training.ema_decay")
PARTS = ("train", "validation")


@dataclass(frozen=True)
class Earlier:
    """A run that was started before.

    Attributes:
        path: its directory.
        command: `train` or `overfit`.
        config: its settings.
        provenance: its `provenance.json`.
        fresh_fork: its last state is still the copy that it was forked from, with that run's settings.
        done: epochs finished in its last saved state, None if nothing was saved.
        exported: it has weights alone, with which a fork can begin.
    """

    path: Path
    command: str
    config: Config
    provenance: Document
    fresh_fork: bool = False
    done: int | None = None
    exported: bool = False

    @classmethod
    def read(cls, path: Path, fork: bool = False) -> Earlier:
        """Read a run's directory; the settings are those of its last saved state, if there is one.

        Weights alone, those of an exported model, are something to `fork` from only.

        Raises:
            InputError: there is no run, or not one of a training.
            DamagedFileError: its files are not what was written.
        """
        if not (path / CONFIG).is_file():
            there = (
                "a directory without one" if path.is_dir() else "a file" if path.exists() else "nothing there"
            )
            raise InputError(path, "", f"a run directory of a training ({CONFIG})", there)
        command = read_document(path / STATUS).get("command")
        if command not in COMMANDS:
            raise InputError(path, "command", f"a run of {' or '.join(COMMANDS)}", repr(command))
        last = path / CHECKPOINTS / LAST
        stated = load_config(None, path / CONFIG)
        state = read_checkpoint(last).state if last.exists() else None
        provenance = read_document(path / PROVENANCE)
        if state is None and (path / CHECKPOINTS / BEST).exists():
            if fork:
                return cls(path, command, stated, provenance, done=0, exported=True)
            expected = f"a run with a saved state ({CHECKPOINTS}/{LAST}) to go on from"
            raise InputError(path, "", expected, "weights alone, an exported model (a fork begins with them)")
        if state is None:  # it ended before anything was saved, and begins anew
            return cls(path, command, stated, provenance)
        copied = provenance.get(FORKED_STATE)
        if copied is not None and copied == state_hash(last.read_bytes()):
            return cls(path, command, stated, provenance, True, 0 if state.exported else state.epoch)
        stored = parse_section(Config, state.config, last)
        return cls(path, command, stored, provenance, False, state.epoch)

    @property
    def last(self) -> Path:
        """The file of its last saved state; of an exported model its weights."""
        return self.path / CHECKPOINTS / (BEST if self.exported else LAST)

    def machine(self) -> tuple[int, str]:
        """Threads and device that it was last trained with.

        Raises:
            DamagedFileError: its provenance does not say.
        """
        try:
            latest = (self.provenance.get("resumed") or [self.provenance])[-1]
            return int(latest["threads"]), str(latest["hardware"]["device"])
        except (KeyError, TypeError, ValueError) as error:
            found = f"{type(error).__name__}: {error}"
            raise DamagedFileError(self.path / PROVENANCE, "threads and hardware.device", found) from None

    def processes(self) -> int:
        """Processes that it was last trained with; one where its provenance does not say."""
        latest = (self.provenance.get("resumed") or [self.provenance])[-1]
        return int(latest.get("processes", 1))

    def data_paths(self) -> tuple[Path | None, Path | None]:
        """The datasets it trains and validates on; None for simulated scenes."""
        train, validation = (self._data(part).get("path") for part in PARTS)
        return train and Path(train), None if validation in (None, train) else Path(validation)

    def data_hashes(self) -> dict[str, str | None]:
        """The hashes of its scenes."""
        return {part: self._data(part).get("hash") for part in PARTS}

    def _data(self, part: str) -> Document:
        found: Document = (self.provenance.get("dataset") or {}).get(part) or {}
        return found


def state_hash(content: bytes) -> str:
    """The hash by which a fork knows the state that was copied into it."""
    return xxhash.xxh3_128_hexdigest(content)


def refuse_empty_fork(earlier: Earlier, config: Config) -> None:
    """Refuse a fork that has nothing to begin with, or nothing left to train."""
    if earlier.done is None:
        raise InputError(earlier.path, "", "a run with a saved state to fork from", "none saved yet")
    if config.training.epochs <= earlier.done:
        expected = f"more than {earlier.done} (already done)"
        raise InputError(earlier.path, "training.epochs", expected, config.training.epochs)


def config_over_run(layers: Layers, earlier: Earlier, fork: bool) -> Config:
    """Resolve the settings of a resumed run; other science than its own is refused unless it is a fork.

    Raises:
        InputError: naming the first key that differs and both values.
    """
    config = layers.resolve_over(earlier.config)
    refuse_changes(earlier, config, fork)
    return config


def refuse_changes(earlier: Earlier, config: Config, fork: bool) -> None:
    """Refuse settings that would make a run's second half another experiment than its first.

    A fork is another experiment, but of the same network.
    """
    changed = changed_keys(earlier.config.model_dump(mode="json"), config.model_dump(mode="json"))
    for key, (stored, wanted) in changed.items():
        if fork and key not in FORK_KEEPS and key.partition(".")[0] not in FORK_KEEPS:
            continue
        began = "which the run began with (a fork begins another)"
        why = "which its weights were made for" if fork else began
        raise InputError(earlier.path, key, f"{toml_value(stored)}, {why}", toml_value(wanted))


def refuse_other_data(earlier: Earlier, sources: Sources) -> None:
    """Refuse scenes other than those the run began with."""
    for part, stored in earlier.data_hashes().items():
        source: SceneSource = getattr(sources, part)
        if stored is not None and stored not in source.known_fingerprints:
            expected = f"the {part} scenes the run began with (hash {stored[:12]})"
            raise InputError(earlier.path, "data", expected, f"hash {source.fingerprint[:12]}")
