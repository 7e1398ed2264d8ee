"""A part of the proof in a process of its own: it may fail, end or hang, and the others still run.

``python -m tests.prove.part MODULE ROWS [--deep]`` runs one, and writes its rows into the file.
"""

import importlib
import json
import subprocess
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.local import keep
from tests.local.stack import REPOSITORY
from tests.prove.summary import Row

SIGN_OF_LIFE_SECONDS = 60.0


@dataclass(frozen=True)
class Part:
    """What it is, and how many minutes it may take at most."""

    what: str
    minutes: float


def run(module: str, *, deep: bool, minutes: float) -> list[Row]:
    """Its rows; one that is not kept where it failed, ended, or took longer than that."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.json"
        problem = _run(module, file, deep=deep, until=began + 60 * minutes)
        rows = (
            [(name, figure, kept) for name, figure, kept in json.loads(file.read_text())]
            if not problem
            else []
        )
    print(f"    {time.monotonic() - began:.0f} s", flush=True)
    return [(f"{module.rpartition('.')[2]} failed", problem, False)] if problem else rows


def _run(module: str, rows: Path, *, deep: bool, until: float) -> str:
    """Why there are no rows, if so."""
    began = time.monotonic()
    command = [sys.executable, "-m", "tests.prove.part", module, str(rows), *(["--deep"] if deep else [])]
    # The keeper ends the part, and whatever that has started, with this process or when it is asked to.
    with subprocess.Popen(
        [sys.executable, keep.__file__, *command], cwd=REPOSITORY, stdin=subprocess.PIPE
    ) as keeper:
        while (left := until - time.monotonic()) > 0:
            with suppress(subprocess.TimeoutExpired):
                keeper.wait(min(left, SIGN_OF_LIFE_SECONDS))
                return "" if rows.exists() else f"ended with {keeper.returncode}"
            print(f"    {time.monotonic() - began:.0f} s so far", flush=True)
        return f"took longer than {(until - began) / 60:.1f} min"


def main() -> None:
    """In the process of its own."""
    module, rows, *deep = sys.argv[1:]
    try:
        found: list[Row] = importlib.import_module(module).run(bool(deep))
    except Exception as error:  # noqa: BLE001 - told in the table
        traceback.print_exc()
        found = [(f"{module.rpartition('.')[2]} failed", type(error).__name__, False)]
    Path(rows).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
