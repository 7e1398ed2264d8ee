"""``make prove``: everything that shows that the promises are kept, in under half an hour on two cores; then one table.

``--fast`` takes the small sets. ``--only races,fuzz`` runs some of the parts. Exit status 0: all of it was kept.
"""

import argparse
import importlib
import sys
import time
import traceback

from tests.prove.summary import Row, table

PARTS = {
    "races": "every interleaving of two and three operations, and mutants",
    "simulation": "long runs with random faults",
    "fuzz": "bad input",
    "security": "checkov on the template",
    "privilege": "least privilege, both ways",
    "faults": "faults on the deployed local stack",
    "slow_tests": "end-to-end tests that take minutes",
}
"""Module -> what it is. Each has a `run(deep) -> list[Row]`."""


def run(part: str, deep: bool) -> list[Row]:
    """One part; one that fails is not kept, and keeps no other from running."""
    print(f"\n=== {part}: {PARTS[part]}", flush=True)
    began = time.monotonic()
    try:
        rows: list[Row] = importlib.import_module(f"tests.prove.{part}").run(deep)
    except Exception as error:  # noqa: BLE001 - told in the table
        traceback.print_exc()
        rows = [(f"{part} failed", type(error).__name__, False)]
    print(f"    {time.monotonic() - began:.0f} s", flush=True)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.prove", description=__doc__)
    parser.add_argument("--fast", action="store_true", help="the small sets")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between them")
    chosen = parser.parse_args()
    parts = [each.strip() for each in chosen.only.split(",")]
    if unknown := set(parts) - PARTS.keys():
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    began = time.monotonic()
    rows = [row for part in parts for row in run(part, not chosen.fast)]
    minutes, seconds = divmod(round(time.monotonic() - began), 60)
    kept = all(row[2] for row in rows)
    print(
        f"\n{table(rows)}\n\n{'All promises kept' if kept else 'NOT all promises kept'}, {minutes} min {seconds} s"
    )
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
