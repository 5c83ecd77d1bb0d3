"""Order, errors and the end of worker processes. (What goes to one must be importable there.)"""

import math
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from risctl.errors import RisctlError
from risctl.parallel import map_in_order


@pytest.mark.parametrize("workers", [1, 2])
def test_order_is_kept_and_errors_come_through(workers: int) -> None:
    outcomes = map_in_order(math.sqrt, [*(float(i * i) for i in range(9)), -1.0], workers)
    assert [next(outcomes) for _ in range(9)] == list(range(9))
    with pytest.raises(ValueError, match=r"nonnegative|math domain"):
        next(outcomes)


def test_tasks_are_taken_as_needed_and_stopping_early_ends_the_workers_at_once() -> None:
    taken = []

    def tasks() -> Iterator[float]:
        for seconds in (0.0, *[60.0] * 50):
            taken.append(seconds)
            yield seconds

    outcomes = map_in_order(time.sleep, tasks(), 2)
    next(outcomes)
    assert len(taken) <= 4
    start = time.monotonic()
    outcomes.close()
    assert time.monotonic() - start < 20


def test_a_dead_worker_is_an_error_of_one_line() -> None:
    with pytest.raises(RisctlError, match="a worker process died"):
        list(map_in_order(os._exit, [7, 7], 2))


@contextmanager
def parent(seconds: float) -> Iterator[subprocess.Popen[str]]:
    """A process, the first of a group, whose two workers have been starting or sleeping for `seconds`."""
    work = "print('ready', flush=True); list(map_in_order(time.sleep, [60.0] * 4, 2))"
    code = f"import time\nfrom risctl.parallel import map_in_order\nif __name__ == '__main__':\n    {work}"
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    with subprocess.Popen([sys.executable, "-c", code], **how) as process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(seconds)
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("seconds", [0.5, 2.5])
def test_an_interrupt_of_the_whole_group_is_the_parents_alone(seconds: float) -> None:
    with parent(seconds) as process:
        os.killpg(process.pid, signal.SIGINT)
        error = process.communicate(timeout=40)[1]
    assert error.count("Traceback") == 1
    assert error.endswith("KeyboardInterrupt\n")


def test_the_workers_of_a_killed_parent_end() -> None:
    with parent(2.5) as process:
        process.kill()
        process.communicate(timeout=40)  # returns when the last worker has closed stdout and stderr
    assert process.returncode == -signal.SIGKILL  # and the wait did not time out


FAULTS = """
import resource, sys, torch
from risctl.parallel import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        a, b = torch.ones(10_000_000), torch.ones(10_000_000)
        del a, b
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to keep freed memory")
def test_memory_that_was_freed_is_used_again_without_page_faults() -> None:
    def faults(mode: str) -> int:
        command = [sys.executable, "-c", FAULTS, mode]
        return int(subprocess.run(command, check=True, capture_output=True).stdout)

    assert faults("keep") < faults("plain") / 2
