"""``python -m tests.explorer``: the fast set; ``--deep``: everything; ``--replay SEED``: one run in plain words.

``--mutant NAME`` puts one thing wrong first, for seeds that a mutant's test printed.
"""

import argparse
import logging
import sys
import time

from tests.explorer import sets
from tests.explorer.mutants import MUTANTS, nothing_wrong
from tests.explorer.scenarios import by_name
from tests.explorer.search import Explorer


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.explorer", description=__doc__)
    parser.add_argument("--deep", action="store_true", help="everything (see README for how long it takes)")
    parser.add_argument("--replay", metavar="SEED", help="tell one run in plain words")
    parser.add_argument("--only", metavar="TEXT", default="", help="only scenarios whose name contains this")
    parser.add_argument("--mutant", metavar="NAME", default="", help="with one thing wrong (see mutants.py)")
    parser.add_argument("--minutes", type=float, default=120, help="more is a failure")
    chosen = parser.parse_args()
    logging.disable(logging.CRITICAL)  # the protocol's own warnings, of runs that are meant to go wrong
    mutant = next((each for each in MUTANTS if each.name == chosen.mutant), nothing_wrong)
    with mutant.at_large() as wire:
        if chosen.replay:
            name, _, moves = chosen.replay.partition(":")
            scenario = by_name(name)
            explorer = Explorer(sets.machine(wire), scenario)
            print("\n".join(explorer.tell(tuple(int(move) for move in moves.split(".") if move))))
            return 0
        until = time.monotonic() + chosen.minutes * 60
        named = [each for each in (sets.deep() if chosen.deep else sets.fast()) if chosen.only in each.name]
        summary = sets.explore(named, until=until, wire=wire, say=lambda line: print(line, flush=True))
    print(summary.line())
    return 1 if summary.broken else 0


if __name__ == "__main__":
    sys.exit(main())
