"""Checkpoints: what is written comes back, and what is not what was written is refused in one line."""

import json
import os
import random
from collections.abc import Mapping
from pathlib import Path
from unittest.mock import Mock

import pytest
import safetensors.torch
import torch
from torch import Tensor

import risctl.model.container as container
from risctl.config import Config, CovarianceConfig, load_config
from risctl.covariance import covariance_fingerprint
from risctl.errors import DamagedFileError, InputError, RisctlError, StorageError
from risctl.model import build_network, load_checkpoint
from risctl.model.checkpoint import build_state, read_checkpoint, save_checkpoint
from risctl.model.container import read_container, write_container
from tests.model.forged import Change, drop, forge, put, replace

MODEL = {"width": 8, "depth": 1, "map_rows": 4, "map_columns": 4, "map_ranges": 2, "map_alphas": [1.0]}
PHYSICS = {"ris_columns": 4, "ris_rows": 4, "num_antennas": 8, "num_snapshots": 6, "max_coherence": 1.0}


CONFIG = Config.model_validate({"physics": PHYSICS, "model": MODEL})


def _weights(config: Config, seed: int = 3) -> dict[str, Tensor]:
    return build_network(config.physics, config.model, seed).state_dict()


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    raw = {f"raw/{name}": x for name, x in _weights(CONFIG).items()}
    return raw | {f"ema/{name}": x for name, x in _weights(CONFIG, seed=4).items()}


@pytest.fixture
def path(tmp_path: Path, tensors: dict[str, Tensor]) -> Path:
    file = tmp_path / "best.safetensors"
    config = CONFIG.model_dump(mode="json")
    save_checkpoint(file, tensors, build_state(config, "ema", 2, 9, 0.25, {"any": [1, 2.5, None]}))
    return file


def test_a_network_comes_back(path: Path, tensors: Mapping[str, Tensor]) -> None:
    loaded = load_checkpoint(path)
    assert not loaded.network.training
    for name, x in loaded.network.state_dict().items():
        assert torch.equal(x, tensors[f"ema/{name}"])
    assert loaded.config == CONFIG.model_dump(mode="json")
    assert (loaded.physics, loaded.model) == (CONFIG.physics, CONFIG.model)
    assert loaded.covariance == CovarianceConfig()
    assert loaded.covariance_fingerprint == covariance_fingerprint(CovarianceConfig())
    assert (loaded.weights, loaded.epoch, loaded.step, loaded.best_value) == ("ema", 2, 9, 0.25)
    assert loaded.path == path.resolve()


def test_the_trainers_part_comes_back_untouched(path: Path) -> None:
    assert read_checkpoint(path).state.training == {"any": [1, 2.5, None]}
    assert json.loads(path.with_suffix(".json").read_text())["training"] == {"any": [1, 2.5, None]}


@pytest.mark.parametrize("names", [("best", "last"), ("last",)])
def test_a_run_stands_for_its_best_checkpoint(tmp_path: Path, path: Path, names: tuple[str, ...]) -> None:
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    for name in names:
        (run / "checkpoints" / f"{name}.safetensors").write_bytes(path.read_bytes())
    assert load_checkpoint(str(run)).path.name == f"{names[0]}.safetensors"


def test_every_kind_of_tensor_comes_back(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    given = {
        "scalar": torch.tensor(3.0),
        "empty": torch.zeros(0, dtype=torch.uint8),
        "half": torch.randn(3, 5).bfloat16(),
        "strided": torch.randn(4, 6).T,
        "counts": torch.arange(5),
        "flags": torch.tensor([True, False]),
    }
    document = {"b": 0.1, "a": {"nested": [None, "x"]}}
    write_container(file, given, document)
    tensors, found = read_container(file)
    found.pop("content_hash")
    assert list(found.items()) == list(document.items())
    for name, x in given.items():
        assert torch.equal(tensors[name], x)
        assert tensors[name].dtype == x.dtype


def test_a_cut_or_longer_file_is_found(path: Path) -> None:
    content = path.read_bytes()
    for length in (0, 1, 7, 8, 9, 100, len(content) // 2, len(content) - 1, len(content) + 1):
        path.write_bytes((content + b"\0")[:length])
        with pytest.raises(DamagedFileError):
            load_checkpoint(path)


def test_a_flipped_bit_is_found_wherever_it_is(path: Path) -> None:
    content, rng = path.read_bytes(), random.Random(5)
    header = int.from_bytes(content[:8], "little")
    places = [*range(12), *rng.sample(range(12, 8 + header), 60), *rng.sample(range(len(content)), 60)]
    for place in places:
        changed = bytearray(content)
        changed[place] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        with pytest.raises((DamagedFileError, InputError)) as caught:
            load_checkpoint(path)
        assert "\n" not in str(caught.value)


def test_a_foreign_file_is_refused(tmp_path: Path, path: Path) -> None:
    foreign = tmp_path / "model.safetensors"
    safetensors.torch.save_file({"weight": torch.zeros(3)}, foreign)
    with pytest.raises(InputError, match="a checkpoint of risctl"):
        load_checkpoint(foreign)
    safetensors.torch.save_file({"weight": torch.zeros(3)}, foreign, {"state": "{}"})
    with pytest.raises(DamagedFileError):
        load_checkpoint(foreign)
    with pytest.raises(InputError, match=r"\.safetensors"):
        load_checkpoint(path.rename(tmp_path / "model.pt"))
    for nothing in (tmp_path / "absent", tmp_path):
        with pytest.raises(InputError, match="a checkpoint"):
            load_checkpoint(nothing)


def test_an_edited_covariance_section_is_refused(path: Path) -> None:
    content = path.read_bytes()
    for old, new in ((b'\\"beta\\":0.3', b'\\"beta\\":0.4'), (b'\\"center\\":true', b'\\"center\\":null')):
        assert old in content
        path.write_bytes(content.replace(old, new))
        with pytest.raises(DamagedFileError, match="edited"):
            load_checkpoint(path)


@pytest.mark.parametrize("text", ["{", '{"step": 4}', None])
def test_the_readable_copy_is_never_read(path: Path, text: str | None) -> None:
    copy = path.with_suffix(".json")
    copy.unlink()
    if text is not None:
        copy.write_text(text)
    assert load_checkpoint(path).step == 9


HOSTILE: list[tuple[Change, type[RisctlError], str]] = [
    (put("covariance", "beta", value=0.4), DamagedFileError, "config.covariance"),
    (put("config", "covariance", "beta", value=0.4), DamagedFileError, "config.covariance"),
    (put("covariance_fingerprint", value=3), InputError, "covariance_fingerprint"),
    (put("config", "model", "depth", value=2), DamagedFileError, "weights"),
    (put("config", "data", "ahead", value=2), InputError, "data.prefetch_workers"),
    (put("pipeline_version", value=2), InputError, "pipeline_version"),
    (put("schema_version", value=2), InputError, "schema_version"),
    (put("kind", value="dataset"), InputError, "kind"),
    (put("weights", value="swa"), DamagedFileError, "weights"),
    (put("weights", value="best"), InputError, "weights"),
    (put("epoch", value=10**300), InputError, "epoch"),
    (put("epoch", value=-1), InputError, "epoch"),
    (put("epoch", value=True), InputError, "epoch"),
    (put("step", value="9"), InputError, "step"),
    (put("best_value", value=1e300), InputError, "best_value"),
    (put("training", value=[]), InputError, "training"),
    (put("config", value=3), InputError, "config"),
    (put("config", value={}), DamagedFileError, "physics"),
    (put("config", "physics", value=[1]), InputError, "physics"),
    (put("config", "physics", "ris_columns", value=10**9), InputError, "ris_columns"),
    (put("covariance", "beta", value="0.3"), InputError, "beta"),
    (put("surplus", value=1), InputError, "surplus"),
    (lambda _t, d: d.pop("config"), InputError, "config"),
]


@pytest.mark.parametrize(("change", "kind", "part"), HOSTILE)
def test_a_forged_document_is_refused(path: Path, change: Change, kind: type[RisctlError], part: str) -> None:
    forge(path, change)
    with pytest.raises(kind, match=part) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert len(message) < 600


@pytest.mark.parametrize(
    "change",
    [
        drop("ema/"),
        lambda tensors, _document: tensors.update({"ema/surplus": torch.zeros(2)}),
        replace("ema/", lambda x: x.reshape(-1)[:-1].clone()),
        replace("ema/", lambda x: x.double()),
        replace("ema/", lambda x: x * float("nan")),
        lambda tensors, _document: tensors.clear(),
    ],
)
def test_other_weights_are_refused(path: Path, change: Change) -> None:
    forge(path, change)
    with pytest.raises(DamagedFileError, match="weights"):
        load_checkpoint(path)


def test_sizes_that_the_weights_cannot_fill_are_refused_before_memory_is_taken(path: Path) -> None:
    huge = {"width": 512, "depth": 6, "blocks": 16}
    forge(path, lambda _tensors, document: document["config"]["model"].update(huge))
    with pytest.raises(DamagedFileError, match="width 512"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "text",
    ["[]", "3", "null", "{", '{"a": NaN}', '{"a": ' + "9" * 5000 + "}", "[" * 50_000, '{"content_hash": {}}'],
    ids=range(8),
)
def test_a_document_that_is_none_is_refused(path: Path, tensors: dict[str, Tensor], text: str) -> None:
    dense = {name: x.contiguous() for name, x in tensors.items()}
    path.write_bytes(safetensors.torch.save(dense, {"state": text}))
    with pytest.raises(DamagedFileError):
        load_checkpoint(path)


def test_a_failed_write_leaves_the_old_file(
    path: Path, tensors: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = path.read_bytes()
    state = read_checkpoint(path).state.model_copy(update={"step": 10})

    with monkeypatch.context() as patch:
        patch.setattr(container, "write_at", Mock(side_effect=OSError(28, "No space left on device")))
        with pytest.raises(StorageError, match="No space left"):
            save_checkpoint(path, tensors, state)
    with monkeypatch.context() as patch:
        original = os.pread
        patch.setattr(os, "pread", lambda *arguments: original(*arguments).replace(b"raw/", b"rew/"))
        with pytest.raises(StorageError, match="reads back"):
            save_checkpoint(path, tensors, state)
    assert path.read_bytes() == before
    assert sorted(p.name for p in path.parent.iterdir()) == ["best.json", "best.safetensors"]
    save_checkpoint(path, tensors, state)
    assert load_checkpoint(path).step == 10


@pytest.mark.parametrize("preset", ["full", "quick", "overfit", "search"])
def test_every_presets_network_can_be_stored(tmp_path: Path, preset: str) -> None:
    config = load_config(preset)
    weights = {f"raw/{name}": x for name, x in _weights(config).items()}
    file = tmp_path / "last.safetensors"
    save_checkpoint(file, weights, build_state(config.model_dump(mode="json"), "raw", 0, 0, None, {}))
    assert load_checkpoint(file).model == config.model
