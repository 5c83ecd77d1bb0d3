"""The alignment check of a model or a fresh network: fingerprints, both sides on one batch, self-test."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

from risctl.config import Config
from risctl.config.layers import Layers, Machine
from risctl.covariance import covariance_fingerprint, is_covariance_fingerprint
from risctl.data import SceneStream
from risctl.errors import CheckFailedError
from risctl.evaluation.alignment import MutantResult, Report, count_mutants, self_test
from risctl.evaluation.alignment import check_alignment as check_subject
from risctl.model.load import LoadedModel, load_checkpoint
from risctl.model.network import build_network
from risctl.runs.directory import RunDirectory
from risctl.runs.documents import read_document, write_json
from risctl.runs.machine import start
from risctl.runs.models import alignment_subject, config_over_model
from risctl.runs.names import ALIGNMENT_FILE, RESULTS_FILE
from risctl.runs.needs import PROCESS_BYTES, Needs, count_parameters
from risctl.runs.progress import Progress, silent
from risctl.runs.provenance import provenance
from risctl.runs.report import reported
from risctl.text import Document, versioned
from risctl.training import TrainingPlan


@dataclass(frozen=True)
class PreparedCheck:
    """An alignment check before it runs.

    Attributes:
        name: of the model.
        config: settings, over the model's own where there is one.
        device: where both sides compute.
        loaded: the trained model, None for a fresh network.
        target: its run or checkpoint.
    """

    name: str
    config: Config
    device: str
    loaded: LoadedModel | None = None
    target: Path | None = None

    def needs(self, scenes: int) -> Needs:
        """Estimate the memory that both sides take."""
        matrices = 40 * scenes * self.config.physics.num_elements**2 * 8
        parameters = count_parameters(TrainingPlan.from_config(self.config, device=self.device))
        return Needs(memory_bytes=2 * PROCESS_BYTES + matrices, parameters=parameters)


@dataclass(frozen=True)
class Alignment:
    """Result of the check: fingerprints by name, findings, and the verdicts of the self-test."""

    name: str
    fingerprints: dict[str, str]
    report: Report
    verdicts: list[MutantResult] = field(default_factory=list)

    @property
    def failure(self) -> str | None:
        """The first failure, on one line; None if there is none."""
        if not self.report.passed:
            worst = self.report.failures[0]
            return f"not aligned: {worst.label}: expected {worst.expected}, got {worst.got}"
        survivors = [f"{v.mutant} ({v.side})" for v in self.verdicts if not v.caught]
        if survivors:
            return f"{len(survivors)} alterations went unnoticed: {', '.join(survivors)}"
        return None

    @property
    def checked(self) -> Report:
        """What was compared; `CheckFailedError` where an alteration went unnoticed."""
        if self.report.passed and self.failure is not None:
            raise CheckFailedError(self.failure)
        return self.report

    def document(self) -> Document:
        """The document of the run, ready for JSON."""
        return {
            "model": self.name,
            "fingerprints": self.fingerprints,
            **self.report.document(),
            "mutants": [asdict(v) | {"caught": v.caught} for v in self.verdicts],
        }


def prepare_check(layers: Layers, target: str | None = None, machine: Machine | None = None) -> PreparedCheck:
    """Read the model and resolve the settings; without a model a fresh network is checked."""
    device = start(machine or Machine())
    if target is None:
        return PreparedCheck(f"fresh network of {layers.name}", layers.resolve(), device)
    loaded = load_checkpoint(target, device)
    return PreparedCheck(target, config_over_model(layers, loaded), device, loaded, Path(target))


def check_alignment(
    prepared: PreparedCheck, scenes: int = 8, mutants: bool = False, progress: Progress = silent
) -> Alignment:
    """Run both sides on one batch of validation scenes and compare.

    Args:
        prepared: model and settings.
        scenes: scenes of the batch.
        mutants: alter one thing at a time on one side, too: every alteration must be noticed.
        progress: opens a display for the alterations.

    Raises:
        CheckFailedError: the covariance fingerprints of configuration, checkpoint and results differ.
    """
    config, device = prepared.config, prepared.device
    if prepared.loaded is None:
        network = build_network(config.physics, config.model, config.training.seed).to(device).eval()
    else:
        network = prepared.loaded.network
    names = fingerprints(prepared)
    subject = alignment_subject(network, config, device)
    physics = config.physics.model_copy(update={"min_sources": max(config.physics.min_sources, 1)})
    batch = SceneStream(physics, config.data.seed, "val", scenes).scenes(0, scenes).to(device)
    parameters = list(network.parameters())
    report = check_subject(subject, batch, parameters)
    verdicts: list[MutantResult] = []
    if mutants:
        with progress("alterations") as update:
            update(0, count_mutants(subject, batch))
            for verdict in self_test(subject, batch, parameters):
                verdicts.append(verdict)
                update(len(verdicts), count_mutants(subject, batch))
    return Alignment(prepared.name, names, report, verdicts)


def check_in_run(
    prepared: PreparedCheck, scenes: int = 8, mutants: bool = False, progress: Progress = silent
) -> tuple[Path, Alignment]:
    """Make the check in a new run directory, with `alignment.json` and a report; see `check_alignment`."""
    config = prepared.config
    record = provenance(prepared.device, 1, {"data.seed": config.data.seed}, None)
    with reported(
        RunDirectory.create("check-alignment", "model" if prepared.loaded else "fresh", config, record)
    ) as run:
        found = check_alignment(prepared, scenes, mutants, progress)
        write_json(run.path / ALIGNMENT_FILE, versioned(found.document()))
        if found.failure is not None:
            run.end("failed", CheckFailedError.exit_status, found.failure)
    return run.path, found


def fingerprints(prepared: PreparedCheck) -> dict[str, str]:
    """The covariance fingerprints of configuration, checkpoint and results, which must be one.

    Raises:
        CheckFailedError: if one of them differs, naming both.
    """
    found = {"configuration": covariance_fingerprint(prepared.config.covariance)}
    if prepared.loaded is not None and prepared.target is not None:
        found["checkpoint"] = prepared.loaded.covariance_fingerprint
        found |= {f"result {path}": name for path, name in _results_of(prepared.target)}
    for name, value in found.items():
        if not is_covariance_fingerprint(value, prepared.config.covariance):
            expected = f"{found['configuration']} of the configuration"
            raise CheckFailedError(f"{name}: covariance fingerprint: expected {expected}, got {value}")
    return found


def _results_of(run: Path) -> list[tuple[Path, str]]:
    """Fingerprints in the result files of a run directory."""
    found = []
    for path in sorted(run.rglob(RESULTS_FILE)) if run.is_dir() else ():
        name = read_document(path).get("covariance_fingerprint")
        if name is not None:
            found.append((path, name))
    return found
