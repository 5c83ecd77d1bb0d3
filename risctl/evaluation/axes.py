"""The axes of a sweep: settings and their values, from words `section.key=v1,v2,...`."""

from collections.abc import Sequence
from dataclasses import dataclass

from risctl.config import Config
from risctl.config.parse import check_keys, known_keys, parse_override
from risctl.config.toml import toml_value
from risctl.errors import InputError

SWEEP = "sweep"
SECTIONS = ("physics", "inference", "covariance")
# What an evaluation sets itself, cells of equal size at the SNR values of the `evaluation` section.
SNR = "physics.snr_db"
SNR_KEYS = ("physics.snr_min_db", "physics.snr_max_db", "physics.snr_values_db", "physics.stratified")
MAX_VALUES = 64


@dataclass(frozen=True)
class Axis:
    """One setting and its values; `word` is the word it was parsed from."""

    key: str
    values: tuple[bool | int | float | str, ...]
    word: str

    def override(self, index: int) -> str:
        """The override word of one value."""
        text = toml_value(self.values[index])
        return f"evaluation.snr_values_db=[{text}]" if self.key == SNR else f"{self.key}={text}"


def parse_sweeps(words: Sequence[str]) -> tuple[Axis, ...]:
    """The axes that the words describe.

    Raises:
        InputError: no `key=v1,v2`, an unknown key (the nearest known one is named), one that a sweep cannot
            vary, a value that is no scalar or there twice, a setting that is swept twice.
    """
    axes = tuple(_parse(word) for word in words)
    keys = [axis.key for axis in axes]
    for key in keys:
        if keys.count(key) > 1:
            raise InputError(SWEEP, key, "every setting once", f"{keys.count(key)} sweeps")
    return axes


def _parse(word: str) -> Axis:
    key, equals, text = (part.strip() for part in word.partition("="))
    if not equals or "." not in key:
        raise InputError(SWEEP, "", "section.key=v1,v2,...", repr(word))
    if key != SNR:
        _check_key(key)
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    texts = [part.strip() for part in text.split(",")]
    try:
        values = tuple(parse_override(f"{key}={part}")[1] for part in texts)
    except InputError as error:
        raise InputError(SWEEP, key, "values like 4,8,16", error.got) from None
    if not all(isinstance(value, bool | int | float | str) for value in values):
        raise InputError(SWEEP, key, "scalar values", ", ".join(texts))
    if not 2 <= len(values) <= MAX_VALUES:
        raise InputError(SWEEP, key, f"2 to {MAX_VALUES} values", len(values))
    for value, part in zip(values, texts, strict=True):
        if values.count(value) > 1:
            raise InputError(SWEEP, key, "every value once", f"{part} twice")
    return Axis(key, values, word)


def _check_key(key: str) -> None:
    if key in known_keys(Config)[1]:
        raise InputError(SWEEP, key, "one setting", "a table of settings")
    check_keys({key: None}, Config, SWEEP)
    if key in SNR_KEYS:
        raise InputError(SWEEP, key, f"{SNR} (an evaluation has cells of equal size)", "this key")
    if key.partition(".")[0] not in SECTIONS:
        raise InputError(SWEEP, key, f"a key of {', '.join(SECTIONS)}", "this section")
