"""A setting or a field that is added later leaves every file readable that was written before."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.older_files import write_files

ROOT = Path(__file__).resolve().parents[1]
MODEL = re.compile(r'^class (?!Config\b)\w+\((?:Section|Record)\):\n    """.*?"""\n', re.M | re.S)


def grown_package(directory: Path) -> int:
    """Copy the package with a new neutral field in every model read from a file; return their number."""
    shutil.copytree(ROOT / "risctl", directory / "risctl", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("presets", "runs"):
        (directory / name).symlink_to(ROOT / name)
    grown = 0
    for path in (directory / "risctl").rglob("*.py"):
        text, count = MODEL.subn(r"\g<0>    added_since: int = 3\n", path.read_text(encoding="utf-8"))
        if count:
            path.write_text(text, encoding="utf-8")
        grown += count
    return grown


def test_a_new_field_leaves_every_older_file_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files, package = tmp_path / "files", tmp_path / "package"
    files.mkdir()
    assert grown_package(package) >= 30
    monkeypatch.chdir(files)
    write_files()
    environment = os.environ | {"PYTHONPATH": f"{package}:{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "tests.older_files"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
