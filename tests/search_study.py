"""Whether a search ranks its trials as longer trainings do.

    python tests/search_study.py RUN --out longer.jsonl [--times 3] [--trials 6] [--part 0/2]
    python tests/search_study.py RUN --out longer.jsonl --table

Complete trials of the search RUN, evenly spaced in its ranking, are trained again on `--times` as many scenes
an epoch. The table gives both losses of each and Spearman's rank correlation between them.
"""

import argparse
import csv
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

import risctl
from risctl.config import Config
from risctl.hpo.trial import trial_config
from tests.ablation_study import rows_of


def chosen(run: Path, count: int) -> list[dict[str, str]]:
    """`count` complete trials, evenly spaced from the best to the worst."""
    with (run / "trials.csv").open(newline="") as stream:
        trials = [row for row in csv.DictReader(stream) if row["state"] == "complete"]
    trials.sort(key=lambda row: float(row["loss"]))
    places = np.linspace(0, len(trials) - 1, min(count, len(trials))).round().astype(int)
    return [trials[i] for i in places]


def longer(config: Config, trial: Mapping[str, str], times: int) -> Config:
    """The configuration of a trial, on `times` as many scenes."""
    params = {key: json.loads(value) for key, value in trial.items() if "." in key}
    data = config.data.model_copy(update={"train_scenes": times * config.data.train_scenes})
    return trial_config(config.model_copy(update={"data": data}), params)


def table(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Lines of the table in Markdown, and the rank correlation."""
    yield "| trial | in the search | longer |"
    yield "|---|---|---|"
    for row in sorted(rows, key=lambda row: row["loss"]):
        yield f"| {row['trial']:.0f} | {row['loss']:.3f} | {row['longer']:.3f} |"
    found = spearmanr([row["loss"] for row in rows], [row["longer"] for row in rows])
    yield f"rank correlation {found.statistic:.2f} of {len(rows)} trials"


def main() -> None:
    """Train the trials that are missing, or print the table."""
    parser = argparse.ArgumentParser(description="Longer trainings of a search's trials.")
    parser.add_argument("run", type=Path, help="directory of the search")
    parser.add_argument("--out", type=Path, required=True, help="one JSON line a trial")
    parser.add_argument("--times", type=int, default=3, help="scenes an epoch, times those of the search")
    parser.add_argument("--trials", type=int, default=6, help="how many")
    parser.add_argument("--part", default="0/1", metavar="I/N", help="every N-th trial from I on")
    parser.add_argument("--table", action="store_true", help="print the table of what OUT holds")
    options = parser.parse_args()
    if options.table:
        print("\n".join(table(rows_of(options.out))))
        return
    torch.set_num_threads(1)
    config = risctl.load_config(None, options.run / "config.json")
    part, parts = (int(x) for x in options.part.split("/"))
    for trial in chosen(options.run, options.trials)[part::parts]:
        number = int(trial["trial"])
        if any(row["trial"] == number for row in rows_of(options.out)):
            continue
        trained = risctl.train(longer(config, trial, options.times))
        row = {"trial": number, "loss": float(trial["loss"]), "longer": trained.outcome.best_value}
        with options.out.open("a") as stream:
            stream.write(json.dumps(row) + "\n")
        shutil.rmtree(trained.run)
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
