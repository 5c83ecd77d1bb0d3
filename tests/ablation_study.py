"""What each part of the training pays: short trainings of equal cost, each with one thing changed.

    python tests/ablation_study.py --out ablations.jsonl [--part 0/2] [--only no-ortho,...]
    python tests/ablation_study.py --table --out ablations.jsonl

A job is a variant and a seed, which is that of weights and training scenes; jobs that OUT already holds are
passed over, and `--part I/N` does every N-th, so that N processes share them. Everything is judged on the
same 600 scenes of the validation split of another seed, 150 for each SNR. The table gives the
difference to the unchanged training of the same seed, with the 95 % interval of its mean over the seeds
(Student's t).
"""

import argparse
import json
import shutil
import time
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from scipy.stats import t as student
from torch import Tensor

import risctl
from risctl.config import Config, InferenceConfig
from risctl.config.toml import toml_value
from risctl.data import SceneStream
from risctl.inference import Estimates, build_estimator
from risctl.physics import Scenes
from tests.inference.test_nomp import angle_errors

BASE = "full"
SHORT = ("training.epochs=10", "training.batch=128", "data.train_scenes=8192", "data.val_scenes=1024")
STORED = ("data.repeat=true", "data.train_scenes=8192")
BEST = Path(__file__).resolve().parents[1] / "runs/reference/search/best.toml"
TERMS = ("ortho", "cross", "gap", "margin", "align", "subspace_align", "peak_contrast")
SCHEDULED = ("subspace_align", "peak_contrast")
JUDGED_SEED, JUDGED = 1_000_003, 600
LEVELS = (-5.0, 0.0, 5.0, 10.0)
HIT_DEG = 5.0
SEEDS = 3


def without(*terms: str) -> tuple[str, ...]:
    """The settings that switch loss terms off."""
    phases = [f"{term}_{phase}" for term in terms if term in SCHEDULED for phase in ("start", "final")]
    return tuple(f"loss.{name}=0" for name in (*terms, *phases))


def words_of(file: Path, *sections: str) -> tuple[str, ...]:
    """Sections of a TOML file as words."""
    tables = tomllib.loads(file.read_text(encoding="utf-8"))
    pairs = [(f"{name}.{key}", value) for name in sections for key, value in tables[name].items()]
    return tuple(f"{key}={toml_value(value)}" for key, value in pairs)


VARIANTS = {
    BASE: (),
    "no-curriculum": ("training.curriculum=false",),
    "no-averaging": ("training.ema_decay=0", "training.swa_fraction=0"),
    "no-jitter": ("training.beta_jitter=0",),
    "stored": STORED,
    "published": (*STORED, "training.batch=64", "training.lr=2e-4"),
    **{f"no-{term}": without(term) for term in TERMS},
    "no-structure": without(*TERMS),
    "loss-on-R_pred": ("loss.cov=0", "loss.cov_pred=1"),
    "beta-0": ("covariance.beta=0", "training.beta_jitter=0"),
    "beta-1": ("covariance.beta=1", "training.beta_jitter=0"),
    "factors": ("model.head=factors",),
    "best of the search": words_of(BEST, "model", "training"),
}
FIGURES = {  # of a row: heading, decimals
    "nmse_blend": ("NMSE of R_blend", 3),
    "head": ("K right, head", 3),
    "network": ("recall, network, K given", 3),
    **{f"recall {level:g}": (f"recall at {level:g} dB", 3) for level in LEVELS},
    "recall": ("recall", 3),
    "precision": ("precision", 3),
    "count": ("K right", 3),
}


def settings(variant: str, seed: int, words: Iterable[str] = ()) -> Config:
    """The configuration of a job."""
    seeds = (f"training.seed={seed}", f"data.seed={seed}")
    return risctl.load_config(BASE, overrides=[*SHORT, *VARIANTS[variant], *seeds, *words])


def judged_scenes(config: Config, count: int) -> Scenes:
    """The scenes that every variant is judged on."""
    physics = config.physics.model_copy(update={"stratified": True, "snr_values_db": LEVELS})
    return SceneStream(physics, JUDGED_SEED, "val").scenes(0, count)


def judge(model: Path, config: Config, scenes: Scenes) -> dict[str, float]:
    """Figures of a trained model."""
    loaded, known = risctl.load_model(model), scenes.num_sources.long()

    def found(counts: Tensor | None, **changes: object) -> Estimates:
        inference = InferenceConfig(decision="count", **changes)
        estimator = build_estimator("learned", config.physics, loaded.covariance, inference, model=loaded)
        return estimator(scenes.y, scenes.H, scenes.codes, counts)

    network = {"moves": False, "start": "network", "nf_mle_iters": 0}
    alone, head, blind = found(known, **network), found(None, **network), found(None)
    hits = angle_errors(scenes, blind) < HIT_DEG
    row = {
        "head": share(head.num_sources == known),
        "network": share((angle_errors(scenes, alone) < HIT_DEG)[scenes.source_mask]),
        "recall": share(hits[scenes.source_mask]),
        "precision": int(hits.sum()) / max(int(blind.num_sources.sum()), 1),
        "count": share(blind.num_sources == known),
    }
    for level in LEVELS:
        here = scenes.source_mask & (scenes.snr_db == level).unsqueeze(1)
        row[f"recall {level:g}"] = share(hits[here])
    return row


def share(mask: Tensor) -> float:
    """Share of true values."""
    return float(mask.double().mean())


def job(variant: str, seed: int, count: int = JUDGED, words: Iterable[str] = ()) -> dict[str, object]:
    """Train and judge a variant, in a run directory that is removed again."""
    config, begin = settings(variant, seed, words), time.process_time()
    trained = risctl.train(config)
    seconds, outcome = time.process_time() - begin, trained.outcome
    assert outcome.last_path is not None
    figures = judge(outcome.last_path, config, judged_scenes(config, count))
    shutil.rmtree(trained.run)
    rest = {"nmse_blend": outcome.metrics["nmse_blend"], "cpu_seconds": seconds, "terms": outcome.last}
    return {"variant": variant, "seed": seed, **figures, **rest}


def rows_of(path: Path) -> list[dict[str, object]]:
    """The jobs that a file holds."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def table(rows: list[dict[str, object]]) -> Iterator[str]:
    """Lines of the table in Markdown."""
    values = {(row["variant"], row["seed"]): row for row in rows}
    yield "| | " + " | ".join(heading for heading, _ in FIGURES.values()) + " |"
    yield "|---" * (len(FIGURES) + 1) + "|"
    for variant in VARIANTS:
        seeds = [s for s in range(SEEDS) if (variant, s) in values and (BASE, s) in values]
        if not seeds:
            continue
        cells = []
        for name, (_, decimals) in FIGURES.items():
            own = np.array([values[variant, s][name] for s in seeds])
            if variant == BASE:
                cells.append(f"{own.mean():.{decimals}f}")
                continue
            difference = own - np.array([values[BASE, s][name] for s in seeds])
            cells.append(f"{difference.mean():+.{decimals}f}{half_width(difference, decimals)}")
        yield f"| {variant} | {' | '.join(cells)} |"


def half_width(values: np.ndarray, decimals: int) -> str:
    """Half of the 95 % interval of a mean, in brackets; nothing for a single value."""
    n = len(values)
    if n < 2:
        return ""
    return f" ({student.ppf(0.975, n - 1) * values.std(ddof=1) / n**0.5:.{decimals}f})"


def main() -> None:
    """Do the jobs that are missing, or print the table."""
    parser = argparse.ArgumentParser(description="Short trainings with one thing changed.")
    parser.add_argument("--out", type=Path, required=True, help="one JSON line a job")
    parser.add_argument("--part", default="0/1", metavar="I/N", help="every N-th job from I on")
    parser.add_argument("--only", default=",".join(VARIANTS), help="variants, separated by commas")
    parser.add_argument("--table", action="store_true", help="print the table of what OUT holds")
    options = parser.parse_args()
    if options.table:
        print("\n".join(table(rows_of(options.out))))
        return
    torch.set_num_threads(1)
    part, parts = (int(x) for x in options.part.split("/"))
    jobs = [(variant, seed) for seed in range(SEEDS) for variant in options.only.split(",")]
    for variant, seed in jobs[part::parts]:
        if any((row["variant"], row["seed"]) == (variant, seed) for row in rows_of(options.out)):
            continue
        row = job(variant, seed)
        with options.out.open("a") as stream:
            stream.write(json.dumps(row) + "\n")
        print(json.dumps({key: row[key] for key in ("variant", "seed", "recall", "count")}), flush=True)


if __name__ == "__main__":
    main()
