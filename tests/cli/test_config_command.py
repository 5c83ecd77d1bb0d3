"""`config list|show|diff`."""

import json
from pathlib import Path

from risctl.cli.app import main
from risctl.config import fingerprint, load_config
from tests.cli.command import Capture, ask


def test_list(capsys: Capture) -> None:
    names = {preset["name"] for preset in ask(capsys, "config", "list")["presets"]}
    assert names >= {"full", "quick", "overfit", "search"}
    assert main(["config", "list"]) == 0
    assert "overfit" in capsys.readouterr().out


def test_show_resolves_everything(capsys: Capture, tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("[physics]\nnum_snapshots = 8\nphase_bits = 2\n")
    arguments = ["--preset", "full", "--config", str(file), "--seed", "9", "physics.phase_bits=1"]
    document = ask(capsys, "config", "show", *arguments)
    assert document["config"]["physics"]["num_snapshots"] == 8
    assert document["config"]["physics"]["phase_bits"] == 1
    assert document["config"]["data"]["seed"] == document["config"]["training"]["seed"] == 9
    overrides = ["physics.phase_bits=1", "data.seed=9", "training.seed=9"]
    assert document["fingerprint"] == fingerprint(load_config("full", file, overrides))


def test_shown_toml_is_a_configuration_file(capsys: Capture, tmp_path: Path) -> None:
    main(["config", "show", "--preset", "search", "physics.snr_values_db=[0, 5]"])
    file = tmp_path / "shown.toml"
    file.write_text(capsys.readouterr().out)
    assert load_config(None, file) == load_config("search", None, ["physics.snr_values_db=[0, 5]"])


def test_diff(capsys: Capture, tmp_path: Path) -> None:
    document = ask(capsys, "config", "diff", "quick", "quick", "physics.num_snapshots=8")
    assert document["differences"] == [{"key": "physics.num_snapshots", "a": 16, "b": 8}]
    assert main(["config", "diff", "full", "full"]) == 0
    assert "do not differ" in capsys.readouterr().out
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text(json.dumps(load_config("full").model_dump(mode="json")))
    assert ask(capsys, "config", "diff", "full", str(run))["differences"] == []
