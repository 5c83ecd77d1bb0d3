"""The `search` section: length and pruning of a study, and the search spaces, which are data.

A space is a table of parameters under the names of the settings they vary::

    [search.spaces.mine]
    training.lr = { low = 1e-4, high = 4e-4, log = true }
    training.batch = { choices = [64, 80] }
    model.width = { low = 16, high = 48, step = 8 }
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Self, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from risctl.config.base import Section, as_tuple, cross_field_error
from risctl.config.parse import known_keys, nearest_key


def _check_number(value: object) -> object:
    """Give one error where a union of types would give one for each."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise PydanticCustomError("number", "a finite number")
    return value


def _check_choice(value: object) -> object:
    return value if isinstance(value, bool | str) else _check_number(value)


Number: TypeAlias = int | float
CheckedNumber = Annotated[Number, BeforeValidator(_check_number)]
Choice: TypeAlias = bool | int | float | str
Choices = Annotated[
    tuple[Annotated[Choice, BeforeValidator(_check_choice)], ...],
    as_tuple,
    Field(min_length=1, max_length=1000),
]

SEARCHED = ("covariance", "model", "training", "inference")
"""Sections that a space may vary. Data and loss weights are fixed: losses would not be comparable."""

FIXED_BY_SEARCH = {
    "training.epochs": "search.epochs",
    "training.early_stop_patience": "search.patience",
    "training.beta_jitter": "search.beta_jitter",
    "training.curriculum": "nothing: it is off in trials",
    "training.swa_fraction": "nothing: it is off in trials",
    "training.seed": "the seed of the search: it is the same in all trials",
}
"""Settings of a trial that have another source."""


class Parameter(Section):
    """Domain of one setting: a range, or a list of choices."""

    low: CheckedNumber | None = None
    """Lowest value."""
    high: CheckedNumber | None = None
    """Highest value, included."""
    log: bool = False
    """Uniform in the logarithm."""
    step: Annotated[CheckedNumber, Field(gt=0)] | None = None
    """Step of the grid of values; absent: 1 for integers, continuous for others."""
    choices: Choices | None = None
    """The values, without an order."""

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        if self.choices is not None:
            for key in ("low", "high", "log", "step"):
                if key in self.model_fields_set:
                    raise cross_field_error(key, "a range or choices", "both")
            if len({(type(value), value) for value in self.choices}) != len(self.choices):
                raise cross_field_error("choices", "distinct values", ", ".join(map(str, self.choices)))
            return self
        if self.low is None or self.high is None:
            missing = "low" if self.low is None else "high"
            raise cross_field_error(missing, "low and high, or choices", "nothing")
        if self.low >= self.high:
            raise cross_field_error("high", f"more than low = {self.low}", str(self.high))
        if self.log and self.low <= 0:
            raise cross_field_error("low", "above 0 with log = true", str(self.low))
        if self.log and self.step is not None:
            raise cross_field_error("step", "none with log = true", str(self.step))
        if self.step is not None and not _is_whole((self.high - self.low) / self.step):
            expected = f"low = {self.low} and a whole number of steps of {self.step}"
            raise cross_field_error("high", expected, str(self.high))
        return self

    @model_serializer(mode="wrap")
    def _only_stated(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is absent (TOML has no null) and every other default."""
        fields = type(self).model_fields
        return {key: value for key, value in serialise(self).items() if value != fields[key].default}

    def holds(self, value: object) -> bool:
        """Whether `value` is in the domain."""
        if self.choices is not None:
            return any(type(value) is type(choice) and value == choice for choice in self.choices)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        low, high = self.bounds
        return low <= value <= high and (self.step is None or _is_whole((value - low) / self.step))

    @property
    def bounds(self) -> tuple[Number, Number]:
        """Lowest and highest value of a range."""
        assert self.low is not None
        assert self.high is not None
        return self.low, self.high

    @property
    def probes(self) -> tuple[Choice, ...]:
        """Representative values: if the schema accepts these, it accepts all."""
        if self.choices is not None:
            return self.choices
        low, high = self.bounds
        return (low, high) if self.step is None else (low, low + self.step, high)

    def __str__(self) -> str:
        if self.choices is not None:
            return f"one of {', '.join(map(str, self.choices))}"
        stepped = "" if self.step is None else f" in steps of {self.step:g}"
        return f"{self.low:g} to {self.high:g}{stepped}{', log' if self.log else ''}"


class SearchConfig(Section):
    """The hyper-parameter search."""

    trials: Annotated[int, Field(ge=1, le=100_000)] = 24
    """Trials of the study."""
    epochs: Annotated[int, Field(ge=1, le=100_000)] = 24
    """Epochs of a trial."""
    patience: Annotated[int, Field(ge=1, le=100_000)] = 8
    """Epochs without a better validation loss before a trial stops."""
    space: str = "wide"
    """Name of the search space, one of `spaces`."""
    spaces: dict[str, dict[str, dict[str, Parameter]]] = Field(default_factory=dict)
    """The search spaces by name: the domain of each of their settings."""
    startup_trials: Annotated[int, Field(ge=0, le=100_000)] = 8
    """Random trials before the sampler uses its model."""
    pruner_warmup_epochs: Annotated[int, Field(ge=0, le=100_000)] = 6
    """Epochs of a trial before it can be pruned."""
    pruner_min_trials: Annotated[int, Field(ge=1, le=100_000)] = 8
    """Trials that must have finished an epoch before pruning by its median."""
    beta_jitter: Annotated[float, Field(ge=0, le=0.5)] = 0.02
    """Half width of the jitter of `covariance.beta` in trials."""

    @model_validator(mode="after")
    def _check_space(self) -> Self:
        if self.spaces and self.space not in self.spaces:
            raise cross_field_error("space", f"one of {', '.join(sorted(self.spaces))}", repr(self.space))
        return self

    @property
    def parameters(self) -> dict[str, Parameter]:
        """The parameters of the chosen space as `{"section.key": parameter}`, sorted by name."""
        return dict(sorted(_flat_space(self.spaces.get(self.space, {})).items()))


def _flat_space(space: Mapping[str, Mapping[str, Parameter]]) -> dict[str, Parameter]:
    """The parameters of a space by dotted key."""
    return {
        f"{section}.{key}": parameter for section, table in space.items() for key, parameter in table.items()
    }


def check_spaces(config: BaseModel, search: SearchConfig) -> None:
    """Raise pydantic's error for a parameter that `config` does not have, or whose values it refuses."""
    leaves = {leaf for leaf in known_keys(type(config))[0] if leaf.partition(".")[0] in SEARCHED}
    for space_name, space in search.spaces.items():
        for key, parameter in _flat_space(space).items():
            where = f"search.spaces.{space_name}.{key}"
            if key in FIXED_BY_SEARCH:
                found = f"{key} (see {FIXED_BY_SEARCH[key]})"
                raise cross_field_error(where, "a setting that trials may vary", found)
            if key not in leaves:
                nearest = nearest_key(key, leaves - FIXED_BY_SEARCH.keys())
                expected = f"a setting of {', '.join(SEARCHED)} (nearest: {nearest})"
                raise cross_field_error(where, expected, repr(key))
            section, _, name = key.partition(".")
            part = dict(config)[section]
            for value in parameter.probes:
                try:
                    type(part).model_validate(part.model_dump() | {name: value})
                except ValidationError as error:
                    reason = error.errors(include_url=False)[0]["msg"].removeprefix("Input should be ")
                    expected = f"values that {key} takes ({reason})"
                    raise cross_field_error(where, expected, repr(value)) from None


def _is_whole(steps: float) -> bool:
    return math.isclose(steps, round(steps), rel_tol=0, abs_tol=1e-9 * max(1.0, abs(steps)))


def setting(config: BaseModel, key: str) -> Any:
    """Value of the setting `section.key`."""
    section, _, name = key.partition(".")
    return dict(dict(config)[section])[name]
