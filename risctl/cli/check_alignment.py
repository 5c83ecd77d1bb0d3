"""`risctl check-alignment`: proof that training and inference compute the same covariances."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from risctl.cli.alignment import alignment_subject
from risctl.cli.console import closing, progress, say, show_table
from risctl.cli.documents import Document, Ending
from risctl.cli.eval_command import split_target
from risctl.cli.machine import resolve_device, use_threads
from risctl.cli.models import config_over_model, load_model
from risctl.cli.options import Common, common_options, require_range
from risctl.errors import CheckFailedError, DamagedFileError

if TYPE_CHECKING:
    from risctl.config import Config
    from risctl.evaluation.alignment import Finding, MutantResult, Report, TwoSides
    from risctl.model import RisNetwork
    from risctl.model.load import LoadedModel
    from risctl.physics import Scenes

COLUMNS = ("part", "what", "training", "inference", "expected", "")
MUTANT_COLUMNS = ("altered on one side", "side", "", "noticed by")
RESULTS = "results.json"


@common_options
def check_alignment_command(
    common: Common,
    target: Annotated[
        str | None,
        typer.Argument(metavar="RUN|CHECKPOINT", help="Trained model; absent: a fresh network."),
    ] = None,
    self_test: Annotated[
        bool, typer.Option("--self-test", help="Alter one thing at a time: is every alteration noticed?")
    ] = False,
    scenes: Annotated[int, typer.Option(help="Scenes of the batch that both sides are given.")] = 8,
) -> Document | Ending:
    """Prove that training and inference compute the same covariances; exit status 3 if they do not."""
    require_range("--scenes", scenes, 2, 1024)
    common, target = split_target(common, target)
    use_threads(common.threads)
    device = resolve_device(common.device)
    loaded = None if target is None else load_model(target, device)
    config = common.resolve() if loaded is None else config_over_model(common, loaded)
    if common.dry_run:
        return _dry_run(config, scenes)
    network = fresh_network(config, device) if loaded is None else loaded.network
    names = fingerprints(config, loaded, target)
    subject, batch = alignment_subject(network, config, device), _batch(config, scenes, device)
    report = _check(subject, batch, network)
    verdicts = _self_test(subject, batch, network) if self_test else []
    return _conclude(target or f"fresh network of {common.preset_name}", names, report, verdicts)


def fresh_network(config: Config, device: str) -> RisNetwork:
    """Return an untrained network in evaluation mode."""
    from risctl.model.network import build_network

    return build_network(config.model, config.physics, config.training.seed).to(device).eval()


def fingerprints(config: Config, loaded: LoadedModel | None, target: str | None) -> dict[str, str]:
    """Return the covariance fingerprints of configuration, checkpoint and results, which must be one.

    Raises:
        CheckFailedError: if one of them differs, naming both.
    """
    from risctl.covariance import covariance_fingerprint

    found = {"configuration": covariance_fingerprint(config.covariance)}
    if loaded is not None and target is not None:
        found["checkpoint"] = loaded.covariance_fingerprint
        found |= {f"result {path}": name for path, name in _results_of(Path(target))}
    for name, value in found.items():
        if value != found["configuration"]:
            expected = f"{found['configuration']} of the configuration"
            raise CheckFailedError(f"{name}: covariance fingerprint: expected {expected}, got {value}")
    return found


def _results_of(run: Path) -> list[tuple[Path, str]]:
    """Fingerprints in the result files of a run directory."""
    found = []
    for path in sorted(run.rglob(RESULTS)) if run.is_dir() else ():
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DamagedFileError(path, "a JSON document", error) from None
        name = document.get("covariance_fingerprint") if isinstance(document, dict) else None
        if isinstance(name, str):
            found.append((path, name))
    return found


def _batch(config: Config, count: int, device: str) -> Scenes:
    from risctl.data import SceneStream

    return SceneStream(config.physics, config.data.seed, "val", count).scenes(0, count).to(device)


def _check(subject: TwoSides, scenes: Scenes, network: RisNetwork) -> Report:
    from risctl.evaluation.alignment import check_alignment

    return check_alignment(subject, scenes, list(network.parameters()))


def _self_test(subject: TwoSides, scenes: Scenes, network: RisNetwork) -> list[MutantResult]:
    from risctl.evaluation.alignment import count_mutants, self_test

    verdicts = []
    with progress("alterations") as update:
        for verdict in self_test(subject, scenes, list(network.parameters())):
            verdicts.append(verdict)
            update(len(verdicts), count_mutants(subject, scenes))
    return verdicts


def _conclude(
    name: str, names: dict[str, str], report: Report, verdicts: list[MutantResult]
) -> Document | Ending:
    _show(name, names, report, verdicts)
    survivors = [f"{v.mutant} ({v.side})" for v in verdicts if not v.caught]
    document: dict[str, Any] = {
        "command": "check-alignment",
        "model": name,
        "fingerprints": names,
        **report.document(),
        "mutants": [asdict(v) | {"caught": v.caught} for v in verdicts],
    }
    if not report.passed:
        worst = report.failures[0]
        message = f"not aligned: {worst.label}: expected {worst.expected}, got {worst.got}"
        return Ending(document, CheckFailedError.exit_status, message)
    if survivors:
        message = f"{len(survivors)} alterations went unnoticed: {', '.join(survivors)}"
        return Ending(document, CheckFailedError.exit_status, message)
    return document


def _show(name: str, names: dict[str, str], report: Report, verdicts: list[MutantResult]) -> None:
    show_table(f"Alignment of training and inference: {name}", COLUMNS, _rows(report))
    for what, value in names.items():
        say(f"  covariance fingerprint {value}  {what}")
    if verdicts:
        say()
        noticed = [(v.mutant, v.side, "noticed" if v.caught else "SURVIVED", _first(v)) for v in verdicts]
        show_table("Alterations of one side", MUTANT_COLUMNS, noticed)
    good = sum(f.passed for f in report.findings)
    headline = f"{good} of {len(report.findings)} lines as they should be"
    if verdicts:
        headline += f"; {sum(v.caught for v in verdicts)} of {len(verdicts)} alterations noticed"
    again = "risctl eval" if verdicts else "risctl check-alignment --self-test"
    closing("nothing is written (--json prints the document)", headline, again)


def _rows(report: Report) -> list[tuple[object, ...]]:
    """One row a line; a line that was looked at on both sides has both figures in one row."""
    rows: dict[tuple[str, str], dict[str, Finding]] = {}
    for f in report.findings:
        rows.setdefault((f.group, f.name), {})[f.side or "training"] = f
    marks = {True: "ok", False: "FAILED"}
    shown: list[tuple[object, ...]] = []
    for (group, name), sides in rows.items():
        good = marks[all(f.passed for f in sides.values())]
        got = [sides[side].got if side in sides else "" for side in ("training", "inference")]
        shown.append((group, name, *got, sides["training"].expected, good))
    return shown


def _first(verdict: MutantResult) -> str:
    more = len(verdict.caught_by) - 1
    return verdict.caught_by[0].label + (f" and {more} more" if more > 0 else "") if verdict.caught else "–"


def _dry_run(config: Config, scenes: int) -> Document:
    from risctl.cli.needs import PROCESS_BYTES, Needs, dry_run

    matrices = 40 * scenes * config.physics.num_elements**2 * 8
    needs = Needs(memory_bytes=2 * PROCESS_BYTES + matrices)
    return dry_run("check-alignment", config, needs, None)
