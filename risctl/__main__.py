"""`python -m risctl`."""

import sys

from risctl.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
