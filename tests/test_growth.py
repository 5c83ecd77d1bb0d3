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


@pytest.mark.slow
def test_a_new_field_leaves_older_files_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model that is read from a file gets a neutral field, in a copy of the package."""
    files, package = tmp_path / "files", tmp_path / "package"
    shutil.copytree(ROOT / "risctl", package / "risctl", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("presets", "runs"):
        (package / name).symlink_to(ROOT / name)
    grown = 0
    for path in (package / "risctl").rglob("*.py"):
        text, count = MODEL.subn(r"\g<0>    added_since: int = 3\n", path.read_text(encoding="utf-8"))
        path.write_text(text, encoding="utf-8")
        grown += count
    assert grown >= 30
    files.mkdir()
    monkeypatch.chdir(files)
    write_files()
    environment = os.environ | {"PYTHONPATH": f"{package}:{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "tests.older_files"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
