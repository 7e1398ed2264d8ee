"""The tests that are too slow for every change: marked `deep`, left out of `make test`."""

import re
import subprocess
import sys

from tests.prove.summary import Row


def run(deep: bool) -> list[Row]:
    """All of them, or, as the small set, only whether they can be collected."""
    options = ["--verbose"] if deep else ["--collect-only", "--quiet"]
    command = [sys.executable, "-u", "-m", "pytest", "-m", "deep", *options]
    line = ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as tests:
        assert tests.stdout is not None
        for line in tests.stdout:
            print(line, end="", flush=True)
    found = re.search(r"(\d+) passed|(\d+)/\d+ tests collected", line)
    count = next((int(number) for number in found.groups() if number), 0) if found else 0
    name = "Slow tests passed" if deep else "Slow tests found"
    return [(name, str(count), tests.returncode == 0 and count > 0)]
