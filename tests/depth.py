"""How many times its usual size a random test runs: ``make test-deep`` sets it to 100."""

import os

DEPTH = int(os.environ.get("UNSKEW_DEPTH", "1"))
