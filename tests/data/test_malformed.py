from pathlib import Path

import pytest

from risctl.data import open_dataset, read_measurements, write_measurements
from tests.data.malformed import DATASET_CASES, MEASUREMENT_CASES, Case, good_arrays
from tests.data.small import write_small


def _check(case: Case, error: BaseException, directory: Path) -> None:
    message = str(error)
    assert type(error) is case.error, message
    assert all(word in message for word in case.words), message
    assert "\n" not in message
    assert len(message) < 600
    assert not (directory / "unpickled").exists()


@pytest.mark.parametrize("case", MEASUREMENT_CASES, ids=lambda case: case.name)
def test_malformed_measurement_file_is_refused(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = case.build(tmp_path)
    with pytest.raises(case.error) as caught:
        read_measurements(path)
    _check(case, caught.value, tmp_path)


@pytest.mark.parametrize("case", DATASET_CASES, ids=lambda case: case.name)
def test_malformed_dataset_is_refused(case: Case, tmp_path: Path) -> None:
    path = case.build(tmp_path)
    with pytest.raises(case.error) as caught:
        open_dataset(path).verify()
    _check(case, caught.value, tmp_path)


def test_names_are_distinct_and_the_good_versions_are_accepted(tmp_path: Path) -> None:
    for cases in (MEASUREMENT_CASES, DATASET_CASES):
        assert len({case.name for case in cases}) == len(cases)
    write_measurements(tmp_path / "good.npz", **good_arrays())
    assert len(read_measurements(tmp_path / "good.npz")) == 2
    open_dataset(write_small(tmp_path / "dataset")).verify()
