"""`calibrate-surface`, and `locate` and `eval` with what it wrote."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from risctl.cli.app import main
from risctl.config import Config, load_config
from risctl.data import SceneStream, write_measurements
from risctl.data.stream import shared_surface
from risctl.inference.surface.calibrate import Calibrator
from tests.cli.command import Capture, ask, refused

SMALL = (
    "physics.ris_columns=5",
    "physics.ris_rows=5",
    "physics.num_antennas=6",
    "physics.num_snapshots=6",
    "physics.max_sources=2",
)
FAULTS = ("physics.impairments.shared=true", "physics.impairments.phase_error_deg=40.0")
ASK = ("calibrate-surface", "m.npz", *SMALL, "--estimator", "nomp")
SCENES = 12


@pytest.fixture(autouse=True)
def _file(own_directory: None) -> None:
    write("m.npz", FAULTS)


def write(path: str, faults: tuple[str, ...]) -> Config:
    config = load_config("quick", None, [*SMALL, *faults, "physics.snr_values_db=[25]"])
    scenes = SceneStream(config.physics, 1, "test", SCENES).scenes(0, SCENES)
    write_measurements(path, scenes.y, scenes.H, scenes.codes)
    truth = [
        {
            "index": i,
            "sources": [
                {
                    "azimuth_deg": math.degrees(scenes.azimuth[i, k]),
                    "elevation_deg": math.degrees(scenes.elevation[i, k]),
                    "range_m": float(scenes.range[i, k]),
                }
                for k in range(int(scenes.num_sources[i]))
            ],
        }
        for i in range(3)
    ]
    Path("anchors.json").write_text(json.dumps({"schema_version": 2, "scenes": truth}))
    return config


def test_a_worn_surface_is_found_and_used(capsys: Capture) -> None:
    document = ask(capsys, *ASK)
    assert document["surface"]["held_out_gain"] > 1.0
    assert document["words"][0].startswith("tilt known to")
    assert document["surface"]["noise_after_db"] < document["surface"]["noise_before_db"] - 1.0
    stored = json.loads(Path("surface.json").read_bytes())
    assert stored == document["surface"]
    locate = ("locate", "m.npz", *SMALL, "--estimator", "nomp")
    before = ask(capsys, *locate)
    after = ask(capsys, *locate, "--surface", "surface.json")
    assert before["misfit_p"] < 0.01 < after["misfit_p"]
    deviations = [
        [s["std_azimuth_deg"] for scene in d["scenes"] for s in scene["sources"]] for d in (before, after)
    ]
    assert all(std is None for std in deviations[0])
    assert sum(std is not None for std in deviations[1]) > 0.7 * len(deviations[1])
    assert main([*locate]) == 0
    assert "risctl calibrate-surface m.npz" in capsys.readouterr().out
    evaluated = (
        "eval",
        *SMALL,
        *FAULTS,
        "--seed",
        "1",
        "--scenes",
        "20",
        "--estimators",
        "nomp",
        "--no-plots",
    )
    nominal, calibrated = (
        next(
            cell
            for cell in ask(capsys, *evaluated, *words)["results"]["cells"]
            if cell["num_sources"] is None
        )
        for words in ((), ("--surface", "surface.json"))
    )
    assert calibrated["gospa"]["mean"] < nominal["gospa"]["mean"] - 0.2
    assert calibrated["recall"]["value"] > nominal["recall"]["value"] + 0.1


def test_a_calibration_that_explains_nothing_better_is_status_3(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Held-out scenes no likelier, the surface outside its error bars: written, said, and not called good."""
    monkeypatch.setattr("risctl.runs.surface.spread_over_error", lambda *_: 2.0)
    fitted = Calibrator.fitted_likelihood
    monkeypatch.setattr(Calibrator, "fitted_likelihood", lambda *given: -fitted(*given))
    assert ask(capsys, *ASK, status=3)["surface"]["held_out_gain"] < 0
    assert Path("surface.json").is_file()
    assert ask(capsys, *ASK, "--held-out", "0")["words"][-1] == "not judged: no scene was held out"


def test_anchors_narrow_the_tilt(capsys: Capture) -> None:
    blind = ask(capsys, *ASK, "--held-out", "0")["surface"]
    known = ask(capsys, *ASK, "--held-out", "0", "--anchors", "anchors.json")["surface"]
    assert (blind["anchors"], known["anchors"]) == (0, 3)
    assert known["ramp_covariance"][0] < 0.8 * blind["ramp_covariance"][0]


@pytest.mark.slow
def test_phases_of_which_nothing_is_known_start_from_anchors(capsys: Capture) -> None:
    config = write("m.npz", (FAULTS[0], "physics.impairments.phase_error_deg=180.0"))
    gain = shared_surface(config.physics, 1).gain
    assert gain is not None
    true = gain.flatten().numpy()
    overlaps = []
    for words in ((), ("--start", "anchors", "--anchors", "anchors.json")):
        document = ask(capsys, *ASK, "--held-out", "0", *words)["surface"]
        found = np.array(document["gain_real"]) + 1j * np.array(document["gain_imag"])
        overlaps.append(abs(np.vdot(found, true)) / np.linalg.norm(found) / np.linalg.norm(true))
    assert overlaps[0] < 0.7
    assert overlaps[1] > 0.999


def test_another_surface_is_refused(capsys: Capture) -> None:
    ask(capsys, *ASK, "--held-out", "0")
    other = ("locate", "m.npz", *SMALL, "physics.wavelength=0.31", "--surface", "surface.json")
    assert "fingerprint: expected a calibration of this surface" in refused(capsys, *other)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--estimate", "colours"), "--estimate: expected gains, states, positions"),
        (("--start", "random"), "--start: expected nominal or anchors"),
        (("--start", "anchors"), "anchors: expected scenes of known positions"),
        (("--held-out", "0.9"), "--held-out: expected 0 to 0.5"),
        (("--anchors", "m.npz"), "m.npz"),
        (("--out", "s.txt"), "--out: expected a file named *.json"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(capsys: Capture, words: tuple[str, ...], said: str) -> None:
    line = refused_after_the_surface(capsys, *ASK, *words)
    assert said in line
    assert not Path("surface.json").exists()


def refused_after_the_surface(capsys: Capture, *arguments: str) -> str:
    """The one line on stderr of a command that may have named the surface before."""
    assert main([*arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    return captured.err


def test_files_that_are_not_there_are_named(capsys: Capture) -> None:
    said = "none.json: expected an existing file, got nothing"
    assert said in refused_after_the_surface(capsys, *ASK, "--anchors", "none.json")
    assert said in refused(capsys, "locate", "m.npz", *SMALL, "--surface", "none.json")
    assert said in refused(capsys, "eval", *SMALL, "--surface", "none.json")
    assert said in refused(capsys, "eval", "--data", "d", "--answers", "mine=none.json")
    assert "none.npz: expected an existing file" in refused(capsys, "locate", "none.npz", "--dry-run")
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[]", "expected an object"),
        ('{"schema_version": 9}', "schema_version: expected 1"),
        ('{"schema_version": 1}', "expected"),
    ],
)
def test_a_wrong_surface_file_is_refused(capsys: Capture, content: str, said: str) -> None:
    Path("s.json").write_text(content)
    assert said in refused(capsys, "locate", "m.npz", *SMALL, "--surface", "s.json")


def test_lists_of_other_lengths_are_refused(capsys: Capture) -> None:
    ask(capsys, *ASK, "--held-out", "0")
    document = json.loads(Path("surface.json").read_bytes())
    document["gain_imag"] = document["gain_imag"][:-1]
    Path("s.json").write_text(json.dumps(document))
    line = refused(capsys, "locate", "m.npz", *SMALL, "--surface", "s.json")
    assert "gain_imag: expected 25 numbers, got 24" in line


def test_states_of_codes_that_are_no_states_are_refused(capsys: Capture) -> None:
    line = refused_after_the_surface(capsys, *ASK, "--estimate", "states", "physics.phase_bits=1")
    assert "codes: expected phases of 1 bits" in line
