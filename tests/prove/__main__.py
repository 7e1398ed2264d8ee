"""``make prove``: everything that shows that the promises are kept, in under half an hour on two cores; then one table.

``--fast`` takes the small sets. ``--only races,fuzz`` runs some of the parts. Exit status 0: all of it was kept.
"""

import argparse
import sys
import time

from tests.prove import part
from tests.prove.summary import Row, table

PARTS = {
    "races": part.Part("every interleaving of two and three operations, and mutants", minutes=20),
    "simulation": part.Part("long runs with random faults", minutes=8),
    "fuzz": part.Part("bad input", minutes=8),
    "security": part.Part("checkov on the template", minutes=5),
    "privilege": part.Part("least privilege, both ways", minutes=6),
    "faults": part.Part("faults on the deployed local stack", minutes=9),
    "slow_tests": part.Part("end-to-end tests that take minutes", minutes=12),
}
"""Module -> what it is, and how long it may take. Each has a `run(deep) -> list[Row]`."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.prove", description=__doc__)
    parser.add_argument("--fast", action="store_true", help="the small sets")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between them")
    chosen = parser.parse_args()
    names = [each.strip() for each in chosen.only.split(",")]
    if unknown := set(names) - PARTS.keys():
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    began = time.monotonic()
    rows: list[Row] = []
    for name in names:
        print(f"\n=== {name}: {PARTS[name].what}", flush=True)
        rows += part.run(f"tests.prove.{name}", deep=not chosen.fast, minutes=PARTS[name].minutes)
    minutes, seconds = divmod(round(time.monotonic() - began), 60)
    kept = all(row[2] for row in rows)
    print(
        f"\n{table(rows)}\n\n{'All promises kept' if kept else 'NOT all promises kept'}, {minutes} min {seconds} s"
    )
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
