"""Resolving a configuration (schema defaults < preset < file < overrides), and the machine of a run."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from risctl.config.compare import flatten
from risctl.config.former import current_names, current_values
from risctl.config.parse import check_keys, parse_override, read_table, validate
from risctl.config.presets import preset_path
from risctl.config.schema import Config
from risctl.errors import InputError, require_range

DEFAULT_PRESET = "quick"

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Machine:
    """What a run uses of the machine; None: as the run that is resumed, else the command's own default.

    Attributes:
        device: `auto`, `cpu`, `cuda` or `cuda:i`.
        threads: CPU threads of a process.
        workers: processes.
    """

    device: str = "auto"
    threads: int | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        require_range("threads", self.threads, 1, 1024)
        require_range("workers", self.workers, 1, 256)
        if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", self.device):
            raise InputError("device", "", "auto, cpu, cuda or cuda:N", repr(self.device))


@dataclass(frozen=True)
class Layers:
    """The layers of a configuration: preset < file < override words < seed.

    Attributes:
        preset: name of a shipped preset; None where none was named, and `default` is meant.
        file: TOML file, or the `config.json` of a run.
        overrides: words `section.key=value`.
        seed: seed of scenes and training.
        whole: a complete configuration instead of preset and file.
        default: preset where none was named.
    """

    preset: str | None = None
    file: Path | None = None
    overrides: tuple[str, ...] = ()
    seed: int | None = None
    whole: Config | None = None
    default: str = DEFAULT_PRESET

    def __post_init__(self) -> None:
        require_range("seed", self.seed, 0, 2**63 - 1)

    @property
    def name(self) -> str:
        """Name of the preset, as it stands in the names of run directories."""
        return self.preset or ("config" if self.whole is not None else self.default)

    @property
    def words(self) -> list[str]:
        """The override words, those of the seed last."""
        seeds = [] if self.seed is None else [f"data.seed={self.seed}", f"training.seed={self.seed}"]
        return [*self.overrides, *seeds]

    @property
    def stated(self) -> frozenset[str]:
        """The settings `section.key` that the file or the override words state."""
        table = {} if self.file is None else flatten(read_table(self.file))
        return frozenset(table) | {word.partition("=")[0].strip() for word in self.words}

    def resolve(self) -> Config:
        """Resolve the layers; `InputError` for an unknown preset or key, or a value out of range."""
        preset = None if self.whole is not None else self.preset or self.default
        return load_config(preset, self.file, self.words, base=self.whole)

    def origins(self) -> dict[str, str]:
        """Where the value of each setting came from: preset, file or command line; the others: defaults."""
        found: dict[str, str] = {}
        preset = None if self.whole is not None else self.preset or self.default
        for place, name in (
            (preset and preset_path(preset), f"preset {preset}"),
            (self.file, str(self.file)),
        ):
            if place is not None:
                found |= dict.fromkeys(flatten(current_names(read_table(Path(place)), Path(place))), name)
        return found | {parse_override(word)[0]: "the command line" for word in self.words}

    def resolve_over(self, base: Config) -> Config:
        """Resolve file and words over `base`, which a named preset or a whole configuration replaces."""
        if self.preset is not None or self.whole is not None:
            return self.resolve()
        return load_config(None, self.file, self.words, base=base)

    def with_overrides(self, *words: str, first: bool = False) -> Self:
        """These layers with further override words, which win over the present ones unless `first`."""
        joined = (*words, *self.overrides) if first else (*self.overrides, *words)
        return replace(self, overrides=joined)

    def with_default(self, preset: str) -> Self:
        """These layers with another preset where none was named."""
        return replace(self, default=preset)


def load_config(
    preset: str | None = "quick",
    file: str | Path | None = None,
    overrides: Sequence[str] = (),
    base: Config | None = None,
) -> Config:
    """Resolve a configuration.

    Args:
        preset: name of a shipped preset, or None for the schema's defaults.
        file: TOML file (or a run's `config.json`) whose values replace the preset's.
        overrides: words `section.key=value`, which replace everything else.
        base: lowest layer, for example the settings of a checkpoint.

    Raises:
        InputError: an unknown preset or key, an unreadable file or a bad value, naming where it came from.

    Example:
        >>> import risctl
        >>> risctl.load_config("quick", overrides=["physics.num_snapshots=8"]).physics.num_snapshots
        8
    """
    layers = [] if base is None else [("base", flatten(base.model_dump(mode="json")))]
    for path in ([preset_path(preset)] if preset else []) + ([Path(file)] if file else []):
        table = current_names(read_table(path), path)
        # Empty sections are kept: a misspelt one is refused too.
        layers.append((str(path), flatten(table) | {key: {} for key in table if table[key] == {}}))
    layers += [("override", current_values(dict([parse_override(word)]))) for word in overrides]
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for where, flat in layers:
        check_keys(flat, Config, where)
        stated = {key: value for key, value in flat.items() if value != {}}
        values |= stated
        origin |= dict.fromkeys(stated, where)
    last = layers[-1][0] if layers else "defaults"
    return validate(Config, _nest(values), lambda key: _origin(key, origin, last))


def _origin(key: str, origin: dict[str, str], last: str) -> str:
    """Layer that set `key`, which may point into an array (`physics.snr_values_db.2`) or name a table."""
    below = [where for name, where in origin.items() if name.startswith(f"{key}.")]
    while key:
        if key in origin:
            return origin[key]
        key = key.rpartition(".")[0]
    return below[-1] if below else last


def _nest(flat: dict[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        *tables, name = key.split(".")
        table = nested
        for part in tables:
            table = table.setdefault(part, {})
        table[name] = value
    return nested
