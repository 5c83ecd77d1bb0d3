"""`python -m risctl`, and the command `risctl`."""

import sys

from risctl.cli.signals import SAID, ignore_signals, leave_on_signals


def main() -> int:
    """Run the command line and return its exit status; a signal is answered while its modules load, too."""
    with leave_on_signals():
        try:
            from risctl.cli.app import main as run

            status = run()
        except KeyboardInterrupt:
            status = _say(130)
        except SystemExit as error:
            if error.code not in SAID:
                raise
            status = _say(int(error.code or 0))
        finally:
            ignore_signals()
    ignore_signals()
    return status


def _say(status: int) -> int:
    """Say in one line that a signal ended the command before it began."""
    print(f"risctl: {SAID[status]}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
