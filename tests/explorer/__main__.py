"""``python -m tests.explorer``: the fast set; ``--deep``: everything; ``--replay SEED``: one run in plain words.

Stops at the first broken promise, unless ``--all``. ``--mutant NAME`` puts one thing wrong first, for seeds that a
mutant's test printed.
"""

import argparse
import logging
import os
import sys

from tests.explorer import sets
from tests.explorer.mutants import mutant_named
from tests.explorer.running import explored, told
from tests.explorer.scenarios import by_name
from tests.explorer.search import Explorer


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.explorer", description=__doc__)
    parser.add_argument(
        "--deep", action="store_true", help="everything: some twenty minutes of processor time"
    )
    parser.add_argument("--replay", metavar="SEED", help="tell one run in plain words")
    parser.add_argument("--only", metavar="TEXT", default="", help="only scenarios whose name contains this")
    parser.add_argument("--scenario", metavar="NAME", help="this one, with whatever budget it names")
    parser.add_argument("--mutant", metavar="NAME", default="", help="with one thing wrong (see mutants.py)")
    parser.add_argument("--all", action="store_true", help="go on after a broken promise")
    parser.add_argument("--minutes", type=float, default=120, help="needing more is a failure")
    parser.add_argument("--jobs", type=int, default=os.process_cpu_count() or 1, help="processes")
    chosen = parser.parse_args()
    if chosen.replay:
        print("\n".join(replay(chosen.replay, chosen.mutant)))
        return 0
    groups = sets.deep() if chosen.deep else sets.fast()
    if chosen.scenario:
        groups = [sets.Group("chosen", (by_name(chosen.scenario),))]
    groups = [each.only(chosen.only) for each in groups]
    if not any(each.scenarios for each in groups):
        parser.error(f"no scenario's name contains {chosen.only!r}")
    found = explored(
        groups, jobs=chosen.jobs, minutes=chosen.minutes, mutant=chosen.mutant, stop=not chosen.all
    )
    print(told(found))
    return 1 if any(summary.broken for summary in found.values()) else 0


def replay(seed: str, mutant: str) -> list[str]:
    """The run of a seed, a line each."""
    logging.disable(logging.CRITICAL)
    name, _, moves = seed.partition(":")
    with mutant_named(mutant).at_large() as wire:
        scenario = by_name(name)
        explorer = Explorer(sets.machine(wire, scenario.stack), scenario)
        return explorer.tell(tuple(int(move) for move in moves.split(".") if move))


if __name__ == "__main__":
    sys.exit(main())
