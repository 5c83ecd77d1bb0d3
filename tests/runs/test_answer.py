"""An answer in all its forms: the document of schema 2, CSV, a table, a picture; what is in doubt is said."""

import csv
import hashlib
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import risctl
from risctl import runs
from risctl.config.layers import Layers
from risctl.data import SceneStream, read_measurements
from risctl.errors import InputError
from risctl.evaluation import read_answers
from risctl.runs.answer import file_hash
from risctl.runs.located import DOUBTS, ROW

KEYS = [
    "schema_version",
    "version",
    "settings",
    "estimator",
    "model",
    "surface",
    "calibration",
    "file",
    "file_hash",
    "given",
    "misfit_p",
    "likelier_convention",
    "scenes",
]
SIGNATURES = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}


@pytest.fixture
def made() -> runs.Example:
    return runs.write_example(Path("m.npz"), runs.example_config(Layers()), 3)


@pytest.fixture
def located() -> runs.Located:
    """Scenes with 2, 0 and 1 sources: the first fits, the second is in doubt, and so is a source."""
    scenes = risctl.simulate("quick", 3, seed=5)
    found = risctl.locate(scenes.y, scenes.H, scenes.codes, num_sources=2, estimator="music")
    return replace(
        found,
        num_sources=np.array([2, 0, 1]),
        probability=np.full((3, 5), 0.875),
        count_probability=np.tile([0.5, 0.25, 0.25, 0.0, 0.0, 0.0], (3, 1)),
        misfit_p=np.array([0.5, 1e-7, math.nan]),
        misfit_p_of_all=1e-5,
        flags=((), ("misfit", "count_at_maximum"), ()),
        source_flags=(((), ()), (), (("at_edge",),)),
    )


def test_the_document_is_that_of_the_contract(made: runs.Example) -> None:
    chosen = runs.choose_estimator(Layers())
    located = runs.Located.from_found(chosen, runs.locate_file(chosen, made.file, 2))
    document = runs.answer_document(located, chosen, made.file, 2)
    assert list(document) == KEYS
    assert (document["schema_version"], document["estimator"], document["file"]) == (2, "learned", "m.npz")
    assert document["file_hash"] == hashlib.sha256(made.file.read_bytes()).hexdigest()
    assert document["given"] == {"num_sources": 2}
    assert document["model"]["checkpoint"].endswith("best.safetensors")
    assert document["surface"]["wavelength"] == 0.3
    assert document["likelier_convention"] is None
    named = replace(located, likelier_convention="H conjugated")
    assert runs.answer_document(named, chosen, made.file)["likelier_convention"] == "H conjugated"
    runs.write_answer(Path("a.json"), document, located)
    stored = runs.read_document(Path("a.json"))
    assert sum(stored["scenes"][0]["count_probability"]) == pytest.approx(1.0)
    assert 0.0 < stored["misfit_p"] <= 1.0
    assert len(read_answers(Path("a.json"), "x").tables) == 3


def test_positions_are_those_of_angles_and_range(located: runs.Located) -> None:
    for source in located.scenes()[0]["sources"]:
        r = math.hypot(source["x_m"], source["y_m"], source["z_m"])
        assert source["range_m"] == pytest.approx(r)
        assert source["azimuth_deg"] == pytest.approx(math.degrees(math.atan2(source["y_m"], source["x_m"])))
        assert source["elevation_deg"] == pytest.approx(math.degrees(math.asin(source["z_m"] / r)))


def test_probabilities_flags_and_misfit_are_in_every_form(located: runs.Located) -> None:
    first, second, third = located.scenes()
    assert (second["flags"], second["sources"], second["misfit_p"]) == (
        ["misfit", "count_at_maximum"],
        [],
        1e-7,
    )
    assert first["count_probability"] == [0.5, 0.25, 0.25, 0.0, 0.0, 0.0]
    assert third["sources"][0]["flags"] == ["at_edge"]
    runs.write_answer(Path("a.csv"), {}, located)
    with Path("a.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["scene"], row["source"]) for row in rows] == [("0", "0"), ("0", "1"), ("2", "0")]
    assert tuple(rows[0]) == ROW
    assert float(rows[0]["azimuth_deg"]) == first["sources"][0]["azimuth_deg"]
    assert (rows[2]["flags"], rows[2]["scene_misfit_p"]) == ("at_edge", "")
    assert [row["probability"] for row in rows] == ["0.875"] * 3


def test_an_answer_without_sources_is_a_header(located: runs.Located) -> None:
    none = replace(located, num_sources=np.zeros(3, int), source_flags=((),) * 3)
    runs.write_answer(Path("a.csv"), {}, none)
    assert Path("a.csv").read_text() == ",".join(ROW) + "\n"


def test_the_table_marks_what_is_in_doubt_and_fits_80_columns(located: runs.Located) -> None:
    lines = str(located).splitlines()
    assert max(map(len, lines[:5])) <= 78
    assert [line.split()[0] for line in lines[1:5]] == ["0", "0", "1", "2"]
    assert "no source" in lines[3]
    assert lines[3].endswith("misfit count")
    assert lines[4].endswith("0.88  untested edge")
    assert lines[5].startswith("misfit (scene 1): the model does not explain the measurements; check signs")
    words = [word for name, (word, _) in DOUBTS.items() if name != "one_path"]  # no scene has that flag
    assert [line.split()[0] for line in lines[5:]] == words
    assert located.in_doubt == [1, 2]


def test_a_file_may_be_in_doubt_where_no_scene_is(located: runs.Located) -> None:
    tested = replace(located, misfit_p=np.full(3, 0.5))
    fits = replace(tested, flags=((),) * 3, source_flags=(((), ()), (), ((),)))
    assert [line.split(":")[0] for line in fits.doubts()] == ["misfit (all scenes together, p = 1e-05)"]
    assert replace(fits, misfit_p_of_all=0.02).doubts() == []
    of_scenes = {"num_sources": np.zeros(20, int), "misfit_p": np.zeros(20), "source_flags": ((),) * 20}
    many = replace(fits, flags=(("misfit",),) * 20, **of_scenes)
    assert many.doubts()[0].startswith("misfit (20 of 20 scenes): ")


@pytest.mark.parametrize("suffix", sorted(SIGNATURES))
def test_a_picture_of_the_first_scene_in_doubt(suffix: str, made: runs.Example) -> None:
    chosen = runs.choose_estimator(Layers(), "music")
    found = runs.locate_file(chosen, made.file, 2)
    found.estimates.std_range[1, 0], found.estimates.std_azimuth[1, 1] = math.inf, math.nan
    located = replace(runs.Located.from_found(chosen, found), flags=((),) * 3, source_flags=((), (), ()))
    doubtful = replace(located, flags=((), ("misfit",), ()))
    path = Path(f"picture{suffix}")
    assert runs.draw_located(path, chosen, made.file, doubtful) == 1
    assert path.read_bytes().startswith(SIGNATURES[suffix])
    with pytest.raises(InputError, match="scene: expected 0 to 2, got 3"):
        runs.draw_located(path, chosen, made.file, located, 3)


def test_the_same_scene_is_the_same_picture(made: runs.Example) -> None:
    chosen = runs.choose_estimator(Layers(), "music")
    located = runs.Located.from_found(chosen, runs.locate_file(chosen, made.file, 1))
    sure = replace(located, flags=((),) * 3, source_flags=(((),),) * 3)
    for name in ("a.pdf", "b.pdf"):
        assert runs.draw_located(Path(name), chosen, made.file, sure) == 0
    assert Path("a.pdf").read_bytes() == Path("b.pdf").read_bytes()


def test_a_scene_without_a_source_has_a_picture(made: runs.Example) -> None:
    chosen = runs.choose_estimator(Layers(), "music")
    located = runs.Located.from_found(chosen, runs.locate_file(chosen, made.file, 1))
    nothing = replace(located, num_sources=np.zeros(3, int), source_flags=((),) * 3)
    assert runs.draw_located(Path("p.png"), chosen, made.file, nothing, 2) == 2


@pytest.mark.parametrize("name", ["a.txt", "a", "nowhere/a.json", "."])
def test_a_place_that_cannot_be_written_is_refused_before_the_work(name: str) -> None:
    for out, picture in ((Path(name), None), (None, Path(name))):
        with pytest.raises(InputError, match="^out: " if out else "^picture: "):
            runs.check_answer_and_picture(out, picture)


@pytest.mark.parametrize("suffix", [".npz", ".mat", ".safetensors"])
def test_an_example_is_the_scenes_it_was_simulated_from(suffix: str) -> None:
    config = runs.example_config(Layers(overrides=("physics.num_snapshots=8",), seed=3))
    made = runs.write_example(Path(f"own{suffix}"), config, 2)
    assert made.truth_file == Path("own.truth.json")
    scenes = SceneStream(config.physics, 3, "test", 2).scenes(0, 2)
    np.testing.assert_array_equal(read_measurements(made.file).y, scenes.y)
    stored = runs.read_document(made.truth_file)
    assert stored["file_hash"] == file_hash(made.file)
    assert [scene["num_sources"] for scene in stored["scenes"]] == [1, 2]
    tables = read_answers(made.truth_file, "truth").tables
    for i in (0, 1):
        np.testing.assert_allclose(tables[i][:, 0], scenes.azimuth[i, : i + 1], rtol=1e-6)
        np.testing.assert_allclose(tables[i][:, 6], scenes.power[i, : i + 1], rtol=1e-6)
    assert scenes.snr_db.tolist() == [20, 20]


def test_an_example_overwrites_nothing(made: runs.Example) -> None:
    before = made.file.read_bytes()
    for name, match in (("m.npz", "one that exists"), ("m.mat", "m.truth.json"), ("x.csv", r"\*\.npz")):
        with pytest.raises(InputError, match=match):
            runs.write_example(Path(name), runs.example_config(Layers(seed=1)))
    assert made.file.read_bytes() == before
    assert {path.name for path in Path().iterdir()} == {"m.npz", "m.truth.json"}
