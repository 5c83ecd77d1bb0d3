"""Opens every kind of file that risctl reads, as a user would who has updated it since they were written.

Run as ``python -m tests.older_files`` in a directory that `write_files` filled.
"""

import json
from pathlib import Path

from risctl.cli.app import main
from risctl.config import Config, CovarianceConfig, load_config, parse_section, reference_directory
from risctl.covariance import is_covariance_fingerprint
from risctl.data import open_dataset
from risctl.evaluation import Sweep, read_results
from risctl.model import load_checkpoint
from risctl.runs.gate import GATE_SCENES, fingerprints, passed_gate
from risctl.search.settings import check_settings, settings_of
from tests.runs.tiny import TINY
from tests.search.small import small_plan

SHIPPED = Path(__file__).resolve().parents[1] / "runs" / "reference"
STUDY, GATE, DATASET_HASH = Path("study.json"), Path("runs/overfit/now/overfit.json"), Path("hash.txt")
GENERATE = ("gen-data", "--scenes", "40", "data.shard_scenes=30", "physics.max_sources=2", "--out")
TRAIN = ("train", "--device", "cpu", "--threads", "1", *TINY)
SWEEP = ("eval", "--estimators", "music", "--device", "cpu", "--scenes", "2", "--no-plots")
VALUES = ("physics.num_antennas=4", "evaluation.bootstrap=10", "--sweep", "physics.num_snapshots=3,5")


def write_files() -> None:
    """Write a dataset, half of another, a run, a sweep that was interrupted, a passed gate and a study."""
    assert main([*GENERATE, "whole"]) == 0
    assert main([*GENERATE, "half", "--shard", "1/2"]) == 0
    assert main([*TRAIN]) == 0
    assert main([*SWEEP, *VALUES, "physics.max_sources=2"]) == 0
    next(Path("runs").glob("eval/*/eval/*_points/01.json")).unlink()
    GATE.parent.mkdir(parents=True)
    found = fingerprints(load_config("overfit"), GATE_SCENES)
    GATE.write_text(json.dumps({"verdict": "ready", "is_gate": True, "fingerprints": found}))
    STUDY.write_text(json.dumps(settings_of(small_plan())))
    DATASET_HASH.write_text(open_dataset("whole").fingerprint)


def open_shipped() -> None:
    """Open the reference model, its count fusion, results, sweeps and configurations."""
    loaded = load_checkpoint(reference_directory())
    assert loaded.fusion is not None
    assert parse_section(Config, loaded.config, loaded.path).physics == loaded.physics
    results = read_results(SHIPPED / "eval" / "results.json")
    assert is_covariance_fingerprint(results.covariance_fingerprint, CovarianceConfig())
    for path in SHIPPED.glob("sweeps/*.json"):
        assert Sweep.model_validate_json(path.read_text()).points
    for path in SHIPPED.rglob("config.json"):
        assert load_config(None, path).covariance == loaded.covariance


def open_written() -> None:
    """Verify, continue and resume what `write_files` wrote."""
    assert open_dataset("whole").fingerprint == DATASET_HASH.read_text()
    for name in ("whole", "half"):
        assert main([*GENERATE, name]) == 0
    open_dataset("half").verify()
    (run,) = Path("runs/train").iterdir()
    assert main(["train", "--resume", str(run)]) == 0
    assert main(["train", "--resume", str(run), "--fork", "training.epochs=3"]) == 0
    assert main(["check-alignment", str(run), "--scenes", "2"]) == 0
    (sweep,) = Path("runs/eval").iterdir()
    assert main(["eval", "--resume", str(sweep)]) == 0
    assert passed_gate(load_config("overfit")) == GATE
    check_settings(json.loads(STUDY.read_text()), settings_of(small_plan()), "study")


if __name__ == "__main__":
    if vars(CovarianceConfig()).get("added_since") != 3:
        raise SystemExit("the schema has no added field")
    open_shipped()
    open_written()
