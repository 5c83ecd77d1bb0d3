"""Benchmarks with a description of the machine they ran on."""

import os
from dataclasses import dataclass

import torch

from risctl.config import Config
from risctl.data.layout import dataset_bytes
from risctl.errors import InputError
from risctl.evaluation.bench import QUICK, Plan, benchmarks
from risctl.evaluation.timing import Figure
from risctl.inference import build_estimator
from risctl.runs.machine import hardware, use_threads
from risctl.runs.models import LEARNED, load_reference
from risctl.runs.needs import PROCESS_BYTES, Needs
from risctl.runs.progress import Progress, silent
from risctl.runs.provenance import versions
from risctl.text import Document


@dataclass(frozen=True)
class Benchmark:
    """Measured figures, the plan they were measured by, and the machine with its load before and after."""

    plan: Plan
    figures: list[Figure]
    machine: Document
    left_out: str | None = None


def plan_of(quick: bool) -> Plan:
    """How much is measured."""
    return QUICK if quick else Plan()


def needs_of_benchmark(config: Config, quick: bool) -> Needs:
    """Estimate disk and memory."""
    written = plan_of(quick).written_scenes
    disk = dataset_bytes(config.physics, written, written)
    return Needs(disk_bytes=disk, memory_bytes=PROCESS_BYTES + 2 * disk)


def benchmark(config: Config, quick: bool = False, progress: Progress = silent) -> Benchmark:
    """Measure speed on one CPU thread; `progress` opens a display."""
    use_threads(1)
    machine = hardware("cpu") | {"threads": 1, "torch_build": torch.__version__, "versions": versions()}
    before, reason, learned = load(), None, None
    try:
        model = load_reference(config, "cpu")
        learned = build_estimator(LEARNED, config.physics, config.covariance, config.inference, "cpu", model)
    except InputError as error:
        reason = str(error)
    with progress("measurements") as update:
        figures = benchmarks(config, plan_of(quick), learned, update)
    return Benchmark(plan_of(quick), figures, machine | {"load_before": before, "load_after": load()}, reason)


def load() -> list[float] | None:
    """Load averages of 1, 5, 15 minutes; None where the system has none."""
    return [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None
