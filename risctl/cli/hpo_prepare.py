"""From the command line of `risctl hpo` to a search that can start, or a refusal in one line."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from risctl.cli.machine import resolve_device, use_threads
from risctl.cli.options import Common
from risctl.cli.runs import CONFIG, PROVENANCE, STATUS, read_document
from risctl.errors import CheckFailedError, DamagedFileError, InputError

if TYPE_CHECKING:
    from risctl.cli.documents import Document
    from risctl.config import Config
    from risctl.search import SearchPlan

COMMAND, PRESET = "hpo", "search"
STUDY = "study"  # in the provenance: name, database
MAY_CHANGE = frozenset({"search.trials"})  # of a search that goes on
NETWORK_SECTIONS = ("physics", "covariance", "model", "loss")
WITHOUT_PART_IN_THE_GATE = frozenset({"model.dropout"})


@dataclass(frozen=True)
class SearchRequest:
    """What the command line asked for."""

    common: Common
    trials: int | None = None
    workers: int = 1
    storage: str | None = None
    study: str | None = None
    resume: Path | None = None
    force: bool = False


@dataclass(frozen=True)
class PreparedSearch:
    """A search before it starts: the plan, and the run it goes on from."""

    plan: SearchPlan
    earlier: Path | None = None

    @property
    def config(self) -> Config:
        """The settings of the search, and of its first trial."""
        return self.plan.config


def prepare_search(request: SearchRequest) -> PreparedSearch:
    """Resolve settings, space and machine; refuse what does not fit together.

    Raises:
        InputError: settings that no search, or not this one, can have.
        CheckFailedError: no passed overfit gate of this network is known.
    """
    from risctl.search import SearchPlan, shown_url

    if request.storage is not None:
        shown_url(request.storage)  # refuses what is none
    use_threads(request.common.threads)
    devices = worker_devices(request.common.device, request.workers)
    config = _settings(request)
    check_search_settings(config)
    if not (request.force or request.resume or request.common.dry_run):
        check_gate_passed(config)
    plan = SearchPlan(
        config=config,
        trials=config.search.trials,
        workers=request.workers,
        devices=devices,
        threads=request.common.threads,
        storage_url=request.storage,
        study_name=_study_name(request, config),
        seed=config.training.seed,
    )
    return PreparedSearch(plan, request.resume)


def _settings(request: SearchRequest) -> Config:
    common = request.common if request.resume is not None else request.common.with_preset(PRESET)
    _refuse_fixed(common)
    if request.trials is not None:
        common = replace(common, overrides=(*common.overrides, f"search.trials={request.trials}"))
    if request.resume is None:
        return common.resolve()
    return _settings_of_run(common, request, request.resume)


def _refuse_fixed(common: Common) -> None:
    """Refuse a word that would have no effect: trials take these settings from elsewhere."""
    from risctl.config.search import FIXED_BY_SEARCH

    for word in common.overrides:
        key = word.partition("=")[0].strip()
        if key in FIXED_BY_SEARCH:
            raise InputError("override", key, f"{FIXED_BY_SEARCH[key]} (trials take it from there)", word)


def _settings_of_run(common: Common, request: SearchRequest, run: Path) -> Config:
    """Return the settings to go on with: the run's own, but for the number of trials."""
    from risctl.config import diff_configs, load_config

    if not (run / CONFIG).is_file():
        raise InputError(run, "", f"a run directory of a search ({CONFIG})", "none")
    command = read_document(run / STATUS).get("command")
    if command != COMMAND:
        raise InputError(run, "command", f"a run of {COMMAND}", repr(command))
    own = load_config(None, run / CONFIG)
    config = common.resolve_over(own)
    for key, (stored, wanted) in diff_configs(own, config).items():
        if key not in MAY_CHANGE:
            raise InputError(run, key, f"{stored}, which the search began with", wanted)
    _refuse_other_study(request, run, stored_study(run))
    return config


def stored_study(run: Path) -> Document:
    """Return the name and the database of a run's study."""
    found: Any = read_document(run / PROVENANCE).get(STUDY)
    if not isinstance(found, dict) or not isinstance(found.get("name"), str):
        expected = f"the name of a study in {STUDY!r}"
        raise DamagedFileError(run / PROVENANCE, expected, type(found).__name__)
    return found


def _refuse_other_study(request: SearchRequest, run: Path, stored: Document) -> None:
    from risctl.search import same_database, shown_url

    own, asked = stored.get("storage"), request.storage
    if (own is None) != (asked is None) or (own and asked and not same_database(own, asked)):
        found = "none" if asked is None else shown_url(asked)
        expected = own or "none (the study is in the run)"
        raise InputError("--storage", "", f"{expected}, with --resume {run}", found)
    if request.study not in (None, stored.get("name")):
        raise InputError("--study", "", f"{stored.get('name')}, as the run began", request.study)


def _study_name(request: SearchRequest, config: Config) -> str:
    """Return the name that every machine with the same settings comes to."""
    from risctl.config import fingerprint

    if request.resume is not None:
        return str(stored_study(request.resume)["name"])
    if request.study is not None:
        return request.study
    search = config.search.model_copy(update={"trials": 1})  # more may be asked for later
    return f"risctl-{config.search.space}-{fingerprint(config.model_copy(update={'search': search}))}"


def worker_devices(device: str, workers: int) -> tuple[str, ...]:
    """Return the devices that the workers take in turn: the one named, or all accelerators there are."""
    first = resolve_device(device)
    if device not in ("auto", "cuda") or first == "cpu":
        return (first,)
    import torch

    return tuple(f"cuda:{i}" for i in range(min(torch.cuda.device_count(), workers)))


def check_search_settings(config: Config) -> None:
    """Refuse a search that could not run, or whose first trial could not be the preset's own values.

    Raises:
        InputError: naming the setting.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("torchrun", "", "risctl hpo --workers W (a trial is one process)", "torchrun")
    if config.data.source == "store":
        raise InputError("data", "source", '"stream" (a search makes its scenes)', '"store"')
    if not config.search.parameters:
        raise InputError("search", "spaces", f"a search space (start from --preset {PRESET})", "none")
    _check_holds_preset(config)
    _check_each_value(config)


def _check_holds_preset(config: Config) -> None:
    from risctl.config.search import setting

    for key, parameter in config.search.parameters.items():
        own = setting(config, key)
        if not parameter.holds(own):
            place = f"search.spaces.{config.search.space}.{key}"
            expected = f"values that include {own}, which {key} has itself (the first trial tries it)"
            raise InputError("search", place.removeprefix("search."), expected, parameter)


def _check_each_value(config: Config) -> None:
    """Make the training of every extreme value: what a trial could not start with is refused now."""
    from risctl.model.network import build_network
    from risctl.search import trial_config, trial_plan

    for changes in _extremes(config):
        plan = trial_plan(trial_config(config, changes), "cpu")
        _ = plan.steps_per_epoch
        if any(key.startswith("model.") for key in changes):
            build_network(plan.physics, plan.model, plan.training.seed)


def _extremes(config: Config) -> Iterator[dict[str, bool | int | float | str]]:
    for key, parameter in config.search.parameters.items():
        for value in parameter.probes:
            yield {key: value}


def check_gate_passed(config: Config) -> None:
    """Refuse to search with a network that is not known to learn anything.

    Raises:
        CheckFailedError: with the command that finds out.
    """
    from risctl.cli.gate import passed_gate

    if passed_gate(config) is None:
        known = "no run under runs/overfit found this network, losses and surface ready"
        raise CheckFailedError(f"hpo: {known}; type: {overfit_command(config)} (or --force)")


def overfit_command(config: Config) -> str:
    """Return the command whose pass would let a search of these settings start."""
    from risctl.config import diff_configs, load_config
    from risctl.config.toml import toml_value

    words = ["risctl", "overfit"]
    for key, (_, wanted) in diff_configs(load_config("overfit"), config).items():
        if key.partition(".")[0] in NETWORK_SECTIONS and key not in WITHOUT_PART_IN_THE_GATE:
            value = wanted if isinstance(wanted, str) else toml_value(wanted)
            words.append(shlex.quote(f"{key}={value}"))
    return " ".join(words)
