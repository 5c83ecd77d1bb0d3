"""`config list|show|diff`."""

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from risctl.cli.app import main
from risctl.config import fingerprint, load_config, preset_names, preset_path
from risctl.config.explain import all_settings
from risctl.config.parse import read_table
from tests.cli.command import Capture, ask
from tests.processes import ROOT


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


def test_every_shown_setting_says_what_it_is_and_where_it_came_from(capsys: Capture, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("[covariance]\nbeta = 0.25\n")
    words = ("--preset", "search", "--config", str(tmp_path / "a.toml"), "physics.phase_bits=2")
    assert main(["config", "show", *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    comments = {after.partition(" = ")[0]: line for line, after in pairwise(lines) if line.startswith("# ")}
    assert comments["phase_bits"] == "# Bits of a RIS phase; whole numbers 1 to 8; from the command line"
    assert comments["beta"].endswith(f"; 0 to 1; from {tmp_path / 'a.toml'}")
    assert comments["batch"].endswith("; from preset search")
    assert comments["wavelength"] == "# Carrier wavelength, metres; 1e-09 to 1e+09; from the defaults"
    before_spaces = lines[: lines.index("[search.spaces.wide]")]
    pairs = list(pairwise(before_spaces))
    assert all(a.startswith("# ") for a, b in pairs if " = " in b and not b.startswith("#"))


def test_every_setting_can_be_explained(capsys: Capture) -> None:
    for entry in all_settings().values():
        assert len(entry.meaning) > 10, entry.key
    document = ask(capsys, "config", "explain", "physics.wavefront")
    assert document["allowed"] == "one of spherical, fresnel, planar"
    assert document["presets"]["full"] == '"spherical"'
    assert main(["config", "explain", "covariance.beta"]) == 0
    assert "preset full       0.3" in capsys.readouterr().out


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_states_the_covariance_in_a_table_of_its_own(name: str) -> None:
    table = read_table(preset_path(name))["covariance"]
    assert table == {"beta": 0.3, "tikhonov_alpha": 1e-3, "eps_cov": 1e-3, "range_weight": 0.3}


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("risctl che", ["check-alignment"]),
        ("risctl train --preset q", ["quick"]),
        ("risctl train covariance.bet", ["covariance.beta="]),
        ("risctl train physics.wavefront=s", ["physics.wavefront=spherical"]),
        ("risctl train physics.wavefront = pl", ["planar"]),  # as bash splits it
        ("risctl eval runs/ev", ["runs/eval/a"]),
        ("risctl train --resume runs/tr", ["runs/train/b"]),
    ],
)
def test_words_are_completed(
    words: str, offered: list[str], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for run in ("runs/eval/a", "runs/train/b"):
        Path(run).mkdir(parents=True)
    environment = {"_RISCTL_COMPLETE": "complete_bash", "COMP_WORDS": words}
    environment["COMP_CWORD"] = str(len(words.split()) - 1)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    code = (
        "import sys; from risctl.cli.app import main; status = main(['-']); assert 'torch' not in sys.modules"
    )
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert done.stdout.split() == offered


def test_diff(capsys: Capture, tmp_path: Path) -> None:
    document = ask(capsys, "config", "diff", "quick", "quick", "physics.num_snapshots=8")
    assert document["differences"] == [{"key": "physics.num_snapshots", "a": 16, "b": 8}]
    assert main(["config", "diff", "full", "full"]) == 0
    assert "do not differ" in capsys.readouterr().out
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text(json.dumps(load_config("full").model_dump(mode="json")))
    assert ask(capsys, "config", "diff", "full", str(run))["differences"] == []
