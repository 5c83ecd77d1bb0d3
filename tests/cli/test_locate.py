"""`locate`: the document on stdout and in a file, the table, a dry run, flags in what is refused."""

import re
import shlex
from pathlib import Path

import pytest

from risctl import runs
from risctl.cli.app import main
from risctl.config import PhysicsConfig, load_config
from risctl.data import SceneStream, read_measurements, write_measurements
from tests.cli.command import Capture, ask, refused
from tests.runs.tiny import SURFACE

ROOT = Path(__file__).resolve().parents[2]
LOCATE = ("locate", "m.npz", "--device", "cpu")


@pytest.fixture(autouse=True)
def _file(own_directory: None) -> None:
    physics = PhysicsConfig(min_sources=2, max_sources=2, snr_min_db=30, snr_max_db=30, range_max=4.0)
    scenes = SceneStream(physics, 1, "test", 3).scenes(0, 3)
    write_measurements("m.npz", scenes.y, scenes.H, scenes.codes)


def test_the_file_holds_the_same_document_whatever_the_batch(capsys: Capture) -> None:
    document = ask(capsys, *LOCATE, "--estimator", "music", "--batch", "2", "--out", "positions.json")
    assert (document["schema_version"], document["estimator"], len(document["scenes"])) == (2, "music", 3)
    assert document["model"] is None
    assert runs.read_document(Path("positions.json")) == document
    assert {path.name for path in Path().iterdir()} == {"m.npz", "positions.json"}


def test_csv_and_a_picture_of_the_scene_that_was_asked_for(capsys: Capture) -> None:
    picture = ("--picture", "p.svg", "--scene", "2")
    assert main([*LOCATE, "--estimator", "music", "--out", "p.csv", *picture]) == 0
    assert "result:   p.csv, p.svg (scene 2)" in capsys.readouterr().out
    assert Path("p.csv").read_text().startswith("scene,source,azimuth_deg,")
    assert Path("p.svg").read_text().startswith("<?xml")
    assert refused(capsys, *LOCATE, "--scene", "2").startswith(
        "risctl: --scene: expected a picture beside it"
    )


def test_an_example_is_located_by_the_command_that_it_names(capsys: Capture) -> None:
    assert main(["example", "an example.npz", "--scenes", "2", "--seed", "4"]) == 0
    shown = capsys.readouterr().out
    assert "y [2, 16, 16], H [2, 16, 144], codes [2, 16, 144]" in shown
    assert "surface: 12 x 12 elements" in shown
    again = shlex.split(shown.splitlines()[-1].removeprefix("next:"))
    found = ask(capsys, *again[1:], "--num-sources", "1")
    truth = runs.read_document(Path("an example.truth.json"))
    assert found["file_hash"] == truth["file_hash"]
    source, true = (document["scenes"][0]["sources"][0] for document in (found, truth))
    assert source["azimuth_deg"] == pytest.approx(true["azimuth_deg"], abs=0.5)
    assert source["elevation_deg"] == pytest.approx(true["elevation_deg"], abs=0.5)


def test_an_example_says_what_is_not_the_default(capsys: Capture) -> None:
    words = ("physics.ris_rows=6", "physics.static_path=false", "physics.wavelength=0.1")
    assert main(["example", "e.npz", "--scenes", "1", *words]) == 0
    description = read_measurements(Path("e.npz")).description
    assert description.values() == {
        "wavelength": 0.1,
        "ris_rows": 6,
        "ris_columns": 12,
        "element_spacing": 0.5,
    }
    capsys.readouterr()
    alone = ask(capsys, "locate", "e.npz")
    assert alone["scenes"] == ask(capsys, "locate", "e.npz", *words)["scenes"]


def test_the_lines_of_the_documentation_write_a_file_that_is_answered(capsys: Capture) -> None:
    page = (ROOT / "docs" / "your-file.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    exec(compile(lines, "your-file.md", "exec"), {})
    ((source,),) = (scene["sources"] for scene in ask(capsys, "locate", "measured.npz")["scenes"])
    found = [source[key] for key in ("azimuth_deg", "elevation_deg", "range_m")]
    assert found == pytest.approx([20.0, -5.0, 3.0], abs=0.2)


def test_a_dry_example_writes_nothing(capsys: Capture) -> None:
    document = ask(capsys, "example", "e.npz", "--dry-run")
    assert (document["dry_run"], document["writes"]) == (True, "e.npz")
    assert not Path("e.npz").exists()


def test_on_the_screen_it_is_a_table(capsys: Capture) -> None:
    assert main([*LOCATE, "--estimator", "music"]) == 0
    shown = capsys.readouterr().out
    for part in (
        "surface: 12 x 12 elements, 0.15 m apart, wavelength 0.3 m (the defaults)",
        "azimuth deg",
        "headline:",
        "standard deviation",
        "next:",
    ):
        assert part in shown


def test_a_trained_model_is_the_learned_estimator(run: Path, capsys: Capture) -> None:
    physics = load_config(None, run / "config.json").physics
    scenes = SceneStream(physics, 1, "test", 3).scenes(0, 3)
    write_measurements("m.npz", scenes.y, scenes.H, scenes.codes)
    assert ask(capsys, *LOCATE, "--model", str(run))["estimator"] == "learned"
    assert ask(capsys, *LOCATE, "--model", str(run), "--estimator", "music")["estimator"] == "music"


def test_dry_run_writes_nothing_and_says_which_estimator(capsys: Capture) -> None:
    dry = ask(capsys, *LOCATE, "--out", "positions.json", "--dry-run")
    assert dry["dry_run"]
    assert dry["seconds"] > 0
    assert not Path("positions.json").exists()
    physics = load_config(None, overrides=SURFACE).physics
    scenes = SceneStream(physics, 1, "test", 3).scenes(0, 3)
    write_measurements("own.npz", scenes.y, scenes.H, scenes.codes)
    assert main(["locate", "own.npz", "--device", "cpu", "--dry-run", *SURFACE]) == 0
    assert "answered by nomp; the shipped model: physics.ris_" in capsys.readouterr().out


def test_a_dry_run_refuses_what_the_run_would(capsys: Capture) -> None:
    assert main([*LOCATE, "--dry-run", *SURFACE]) == 2
    assert capsys.readouterr().err.startswith("risctl: m.npz: H: expected shape [S=3, M=16, N=")


def test_the_next_command_repeats_every_word_and_gives_the_same_answer(capsys: Capture) -> None:
    Path("own file.npz").write_bytes(Path("m.npz").read_bytes())
    words = ["physics.wavelength=0.1", "--estimator", "nomp", "--num-sources", "2", "--device", "cpu"]
    before = ask(capsys, "locate", "own file.npz", *words)
    assert main(["locate", "own file.npz", *words]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("next:"))
    again = shlex.split(line.removeprefix("next:"))
    assert again[0] == "risctl"
    assert ask(capsys, *again[1:]) == before
