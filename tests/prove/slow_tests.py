"""The tests that are too slow for every change: marked `deep`, left out of `make test`."""

import re
import subprocess
import sys

from tests.prove.summary import Row

LIMIT_SECONDS = 900


def run(deep: bool) -> list[Row]:
    """All of them, or, as the small set, only whether they can be collected."""
    command = [sys.executable, "-m", "pytest", "-m", "deep", *([] if deep else ["--collect-only", "-q"])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
    print(done.stdout[-4000:], end="")
    found = re.findall(r"(\d+) passed|(\d+)/\d+ tests collected", done.stdout)
    count = max((int(number) for pair in found for number in pair if number), default=0)
    return [
        ("slow tests passed" if deep else "slow tests found", str(count), done.returncode == 0 and count > 0)
    ]
