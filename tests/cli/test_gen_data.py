"""`gen-data`."""

import json
from pathlib import Path

from risctl.cli.app import main
from risctl.data import open_dataset
from risctl.data.stream import shared_surface
from tests.cli.command import Capture, ask

SMALL = ("physics.num_snapshots=4", "data.shard_scenes=64", "--out", "d")


def test_it_writes_a_dataset_and_ends_with_the_next_command(capsys: Capture) -> None:
    assert main(["gen-data", "--split", "test", "--scenes", "100", "--seed", "3", *SMALL]) == 0
    shown = capsys.readouterr().out
    assert "risctl eval --data d" in shown
    assert "100 scenes" in shown
    store = open_dataset("d")
    assert (len(store), store.seed, store.split, store.physics.num_snapshots) == (100, 3, "test", 4)


def test_what_comes_next_is_for_the_split(capsys: Capture) -> None:
    few = ("physics.num_snapshots=4", "data.shard_scenes=64", "--scenes", "128")
    for split, command in (("train", "train --data d-train"), ("val", "train --data TRAIN --val-data d-val")):
        assert main(["gen-data", "--split", split, "--out", f"d-{split}", *few]) == 0
        assert capsys.readouterr().out.splitlines()[-1] == f"next:     risctl {command}"
    assert main(["gen-data", "--split", "test", "--out", "part", "--shard", "1/2", *few]) == 0
    assert "the other parts" in capsys.readouterr().out.splitlines()[-1]
    words = (
        "--data",
        "d-train",
        "--estimators",
        "music",
        "--scenes",
        "4",
        "--no-plots",
        "evaluation.bootstrap=0",
    )
    assert main(["eval", *words]) == 0
    assert "d-train is of the split train: a model may have been fitted" in capsys.readouterr().out


def test_parts_make_the_whole_whichever_way_they_are_counted(capsys: Capture) -> None:
    manifests = []
    for name, parts in (("all", ["1/1"]), ("from0", ["0/2", "1/2"]), ("from1", ["2/2", "1/2"])):
        for part in parts:
            document = ask(capsys, "gen-data", *SMALL, "--scenes", "200", "--out", name, "--shard", part)
        assert document["complete"]
        assert document["num_scenes"] == 200
        manifests.append(Path(name, "dataset.json").read_bytes())
    assert len(set(manifests)) == 1


def test_the_truth_of_a_shared_surface_lies_beside_the_data(capsys: Capture) -> None:
    """Element gains of the seed's one surface; a dataset whose scenes have one each has no such file."""
    ask(capsys, "gen-data", *SMALL, "--scenes", "3", "--out", "own")
    assert not Path("own", "surface-truth.json").exists()
    faults = ("physics.impairments.shared=true", "physics.impairments.phase_error_deg=20.0")
    ask(capsys, "gen-data", *SMALL, *faults, "--scenes", "3", "--out", "d", "--seed", "4")
    truth = json.loads(Path("d", "surface-truth.json").read_bytes())
    gain = shared_surface(open_dataset("d").physics, 4).gain
    assert gain is not None
    assert [complex(*z) for z in truth["gains"]] == gain.flatten().tolist()


def test_the_preset_gives_the_number_of_scenes(capsys: Capture) -> None:
    document = ask(capsys, "gen-data", "--split", "val", "--out", "d", "--dry-run", "--preset", "full")
    assert document["writes"].startswith("16000 scenes")
    assert 16_000 * 20_000 < document["needs"]["disk_bytes"] < 16_000 * 25_000
    assert not Path("d").exists()


def test_plane_waves_are_written_and_read(capsys: Capture) -> None:
    ask(capsys, "gen-data", *SMALL, "--scenes", "3", "physics.known_range_m=inf")
    scenes = open_dataset("d").scenes(0, 3)
    assert scenes.range[scenes.source_mask].isinf().all()
    assert not scenes.range[~scenes.source_mask].any()
