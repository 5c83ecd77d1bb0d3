"""`risctl doctor`: what this machine has, and whether risctl works on it."""

from dataclasses import asdict

from risctl import runs
from risctl.cli.console import dry_run, say, show_table
from risctl.cli.options import Common, Ending, common_options
from risctl.errors import CheckFailedError
from risctl.text import Document


@common_options
def doctor(common: Common) -> Document | Ending:
    """Check whether risctl would run here.

    Python, libraries, presets, the shipped model, arithmetic, device and disk.
    """
    config = common.layers.resolve()
    if common.dry_run:
        return dry_run("doctor", config, runs.Needs(), None)
    found = runs.check_installation(common.machine)
    show_table("risctl doctor", ("check", "status", "found"), [(c.name, c.status, c.found) for c in found])
    failed = [c.name for c in found if c.status != "ok"]
    document = {"command": "doctor", "checks": [asdict(c) for c in found]}
    if failed:
        message = f"doctor: {', '.join(failed)}: see the table above"
        return Ending(document, CheckFailedError.exit_status, message)
    say("next: risctl gen-data --preset quick --split test --out data/test")
    return document | {"hardware": runs.hardware(runs.resolve_device(common.machine.device))}
