"""`calibrate` and `export`: documents, files, what comes next."""

from pathlib import Path

from risctl.cli.app import main
from tests.cli.command import Capture, ask, refused


def test_a_run_is_calibrated_and_exported(run: Path, capsys: Capture) -> None:
    small = ("--scenes", "256", "--val-scenes", "256")
    assert ask(capsys, "calibrate", str(run), "--dry-run")["needs"]["disk_bytes"] > 0
    fitted = ask(capsys, "calibrate", str(run), *small)
    assert Path(fitted["file"]) == run.absolute() / "checkpoints" / "fusion.safetensors"
    assert [row[0] for row in fitted["table"]] == ["head", "evidence", "fusion"]
    planned = ask(capsys, "export", str(run), "--out", "m", "--dry-run")
    assert not Path("m").exists()
    assert main(["export", str(run), "--out", "m"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[-2].startswith(f"headline: {len(planned['files'])} files, ")
    assert out[-1] == "next:     risctl eval m"
    assert {str(path.relative_to("m")) for path in Path("m").rglob("*.*")} == set(planned["files"])
    assert "--out: expected a directory that does not exist" in refused(
        capsys, "export", str(run), "--out", "m"
    )
    for words, out in (("calibrate m", "."), ("report m", "."), ("calibrate m", "no/such.safetensors")):
        assert "--out: expected a file" in refused(capsys, *words.split(), "--out", out)
    assert ask(capsys, "calibrate", "m", "--dry-run")["needs"]["disk_bytes"] > 0  # of a seed of its own
