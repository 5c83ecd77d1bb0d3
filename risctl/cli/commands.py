"""The list of commands: a new command is one file and one line here."""

from __future__ import annotations

import typer

from risctl.cli import (
    bench,
    calibrate,
    check_alignment,
    config_command,
    demo,
    doctor,
    eval_command,
    export,
    gen_data,
    hpo,
    locate,
    overfit,
    train,
)

COMMANDS = (
    ("gen-data", gen_data.gen_data),
    ("train", train.train),
    ("overfit", overfit.overfit),
    ("hpo", hpo.hpo),
    ("eval", eval_command.evaluate_command),
    ("locate", locate.locate),
    ("calibrate", calibrate.calibrate),
    ("export", export.export),
    ("check-alignment", check_alignment.check_alignment_command),
    ("demo", demo.demo),
    ("bench", bench.bench),
    ("doctor", doctor.doctor),
)


def register_commands(app: typer.Typer) -> None:
    """Add every command to the application, in the order of `risctl --help`."""
    for name, function in COMMANDS:
        app.command(name)(function)
    app.add_typer(config_command.app, name="config")
