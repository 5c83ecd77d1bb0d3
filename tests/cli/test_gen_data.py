"""`gen-data`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from risctl.cli.app import main
from risctl.cli.gen_data import parse_shard
from risctl.data import open_dataset
from risctl.errors import InputError
from risctl.physics import signals

SMALL = ("physics.num_snapshots=4", "data.shard_scenes=64")


def test_it_writes_a_dataset_and_ends_with_the_next_command(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "d"
    assert (
        main(["gen-data", "--split", "test", "--scenes", "100", "--seed", "3", "--out", str(out), *SMALL])
        == 0
    )
    shown = capsys.readouterr().out
    assert f"risctl eval --data {out}" in shown
    assert "100 scenes" in shown
    store = open_dataset(out)
    assert (len(store), store.seed, store.split, store.physics.num_snapshots) == (100, 3, "test", 4)


def test_parts_make_the_whole_whichever_way_they_are_counted(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    manifests = []
    for name, parts in (("all", ["1/1"]), ("from0", ["0/2", "1/2"]), ("from1", ["2/2", "1/2"])):
        out = tmp_path / name
        for part in parts:
            assert (
                main(["gen-data", "--scenes", "200", "--out", str(out), "--shard", part, "--json", *SMALL])
                == 0
            )
            document = json.loads(capsys.readouterr().out)
        assert document["complete"]
        assert document["num_scenes"] == 200
        manifests.append((out / "dataset.json").read_bytes())
    assert len(set(manifests)) == 1


def test_the_preset_gives_the_number_of_scenes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "d"
    assert (
        main(["gen-data", "--split", "val", "--out", str(out), "--dry-run", "--json", "--preset", "full"])
        == 0
    )
    document = json.loads(capsys.readouterr().out)
    assert document["writes"].startswith("16000 scenes")
    assert 16_000 * 20_000 < document["needs"]["disk_bytes"] < 16_000 * 25_000
    assert not out.exists()


def test_another_dataset_in_the_way_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = ["gen-data", "--scenes", "64", "--out", str(tmp_path / "d"), *SMALL]
    assert main(arguments) == 0
    assert main([*arguments, "--seed", "1"]) == 2
    assert "seed" in capsys.readouterr().err


def test_a_cap_that_no_scene_can_meet_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals, "MAX_REDRAWS", 20)
    out = tmp_path / "d"
    cap = ("physics.max_coherence=1e-6", "physics.min_sources=5")
    assert main(["gen-data", "--scenes", "64", "--out", str(out), *SMALL, *cap]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert "physics.max_coherence" in captured.err
    assert not (out / "dataset.json").exists()


@pytest.mark.parametrize("text", ["", "1", "2/1", "-1/2", "1/0", "0/0", "a/b", "1/2/3", "1/99999999"])
def test_bad_parts(text: str) -> None:
    with pytest.raises(InputError, match="--shard"):
        parse_shard(text)
