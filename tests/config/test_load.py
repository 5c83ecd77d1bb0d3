"""Resolving: precedence, override words, files, and one-line errors."""

import json
from pathlib import Path

import pytest

from risctl.config import Config, PhysicsConfig, load_config, parse_section
from risctl.config.former import RENAMED
from risctl.config.parse import known_keys, parse_override
from risctl.errors import InputError


def test_precedence(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        "[data]\ntrain_scenes = 7\nval_scenes = 8\n[physics.impairments]\nposition_error = 0.001\n"
    )
    assert load_config(None) == Config()
    assert load_config("quick").data.train_scenes == 4096
    assert load_config("quick", file).data.train_scenes == 7
    config = load_config("quick", file, ["data.train_scenes=9", "data.train_scenes=10"])
    assert (config.data.train_scenes, config.data.val_scenes, config.data.test_scenes) == (10, 8, 300)
    assert config.physics.impairments.position_error == 0.001


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("a.b=1", ("a.b", 1)),
        ("a.b = 1.5", ("a.b", 1.5)),
        ("a.b=true", ("a.b", True)),
        ("a.b=planar", ("a.b", "planar")),
        ("a.b='planar'", ("a.b", "planar")),
        ("a.b=[1, 2]", ("a.b", [1, 2])),
        ("a.b.c=1e-3", ("a.b.c", 1e-3)),
    ],
)
def test_override_words(word: str, expected: tuple[str, object]) -> None:
    assert parse_override(word) == expected


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("physics.snr_mni_db=3", ("physics.snr_mni_db", "nearest: physics.snr_min_db")),
        ("modle.width=8", ("modle.width", "nearest: model.width")),
        ("physics.beta=1", ("physics.beta", "nearest: covariance.beta")),
        ("physics.impairments.dead=0.1", ("nearest: physics.impairments.dead_elements",)),
        ("physics.wavelength.x=1", ("nearest: physics.wavelength",)),
        ("physics=3", ("section.key=value",)),
        ("physics.=3", ("section.key=value",)),
        ("wavelength=3", ("section.key=value",)),
        ("physics.wavelength", ("section.key=value",)),
        ("physics.impairments=1", ("physics.impairments", "a table")),
        ("physics.wavelength=", ("physics.wavelength", "TOML")),
        ("physics.wavelength=1\nb=2", ("physics.wavelength", "TOML")),
        ("physics.wavelength={a=1}", ("physics.wavelength", "TOML")),
        ("physics.wavelength=" + "[" * 10_000, ("physics.wavelength", "TOML")),
        ("physics.wavelength=" + "9" * 400, ("physics.wavelength", "number")),
        ("physics.wavelength=nan", ("physics.wavelength", "finite", "nan")),
        ("physics.wavelength=-1", ("physics.wavelength", "greater than or equal to 0.000000001", "-1")),
        ("physics.wavelength=1979-05-27", ("physics.wavelength", "number")),
        ("physics.wavefront=round", ("physics.wavefront", "'spherical'", "'round'")),
        ("physics.snr_values_db=0", ("physics.snr_values_db",)),
        ("physics.snr_values_db=[0, 'x']", ("physics.snr_values_db.1", "'x'")),
        ("physics.min_sources=6", ("physics.min_sources", "at most max_sources")),
        ("physics.symbols=constant", ("covariance.center", "constant")),
        ("covariance.beta=2", ("covariance.beta", "less than or equal to 1", "2")),
        ("data.seed=-1", ("data.seed", "-1")),
    ],
)
def test_a_bad_override_names_what_is_wrong(word: str, parts: tuple[str, ...]) -> None:
    with pytest.raises(InputError) as caught:
        load_config("quick", None, [word])
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    for part in ("override", *parts):
        assert part in message


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"[physics\n", "valid TOML"),
        (b"[physics]\nwavelength = 1\nwavelength = 2\n", "valid TOML"),
        (b"\xff\xfe", "UTF-8"),
        (b"physics = 3\n", "physics"),
        (b"[phisics]\n", "nearest: physics"),
        (b"[physics]\nwavelenth = 1\n", "nearest: physics.wavelength"),
        (b"[physics]\nwavelength = 'x'\n", "physics.wavelength"),
        (b"a = " + b"[" * 20_000, "valid TOML"),
        (b"# " + b"x" * 1_000_001, "1 MB"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, content: bytes, part: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_config("quick", file)
    assert str(caught.value).startswith(str(file))
    assert part in str(caught.value)


@pytest.mark.parametrize(("former", "present"), RENAMED.items())
def test_a_renamed_setting_is_read_under_its_former_name(tmp_path: Path, former: str, present: str) -> None:
    section, _, key = former.partition(".")
    toml, document = tmp_path / "mine.toml", tmp_path / "config.json"
    toml.write_text(f"[{section}]\n{key} = 3\n")
    document.write_text(json.dumps({section: {key: 4}}))
    assert load_config(None, toml) == load_config(None, None, [f"{present}=3"])
    assert load_config(None, document, [f"{former}=5"]) == load_config(None, None, [f"{present}=5"])
    toml.write_text(f"[{section}]\n{key} = 3\n{present.partition('.')[2]} = 3\n")
    with pytest.raises(InputError, match=rf"{former}: expected only {present}"):
        load_config(None, toml)


def test_a_former_value_is_read_as_what_it_meant(tmp_path: Path) -> None:
    toml = tmp_path / "mine.toml"
    toml.write_text("[physics]\nsymbols = 'coherent'\n[covariance]\ncenter = false\n")
    wanted = load_config(
        None, None, ["physics.symbols=constant", "physics.fading=rayleigh", "covariance.center=false"]
    )
    assert load_config(None, toml) == wanted
    assert load_config(None, None, ["covariance.center=false", "physics.symbols=coherent"]) == wanted


def test_former_names_are_of_no_present_setting() -> None:
    leaves, _ = known_keys(Config)
    assert not leaves & RENAMED.keys()
    assert leaves >= set(RENAMED.values())


def test_the_error_names_the_layer_that_set_the_value(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[physics]\nsnr_min_db = 30\n")
    with pytest.raises(InputError, match=r"mine\.toml: physics\.snr_min_db"):
        load_config("quick", file, ["physics.num_snapshots=8"])


@pytest.mark.parametrize("name", ["missing.toml", ".", "a\0b"])
def test_an_unreadable_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="readable"):
        load_config("quick", f"{tmp_path}/{name}")


def test_a_resolved_configuration_can_be_loaded_back(tmp_path: Path) -> None:
    config = load_config("full", None, ["physics.snr_values_db=[0, 10]", "data.seed=3"])
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config.model_dump(mode="json")))
    assert load_config("quick", file) == config


@pytest.mark.parametrize(
    "text", ["[1]", "{", '{"physics": {}, "physics": {}}', '{"physics": {"wavelength": NaN}}']
)
def test_a_bad_json_file_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(text)
    with pytest.raises(InputError, match=r"config\.json"):
        load_config("quick", file)


def test_an_unknown_preset_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(InputError, match="nearest: quick"):
        load_config("quik")
    with pytest.raises(InputError, match="preset"):
        load_config("../quick")


def test_parse_section() -> None:
    assert parse_section(PhysicsConfig, {"num_snapshots": 4}, "dataset.json").num_snapshots == 4
    with pytest.raises(InputError, match=r"dataset.json: num_snapshots: expected"):
        parse_section(PhysicsConfig, {"num_snapshots": 0}, "dataset.json")
    with pytest.raises(InputError, match="a table"):
        parse_section(PhysicsConfig, 3, "dataset.json")
