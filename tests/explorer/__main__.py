"""``python -m tests.explorer``: the fast set; ``--deep``: everything; ``--replay SEED``: one run in plain words.

``--mutant NAME`` puts one thing wrong first, for seeds that a mutant's test printed.
"""

import argparse
import functools
import logging
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor

from tests.explorer import sets
from tests.explorer.mutants import MUTANTS, Mutant, nothing_wrong
from tests.explorer.scenarios import by_name
from tests.explorer.search import Explorer


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.explorer", description=__doc__)
    parser.add_argument("--deep", action="store_true", help="everything: about an hour of processor time")
    parser.add_argument("--replay", metavar="SEED", help="tell one run in plain words")
    parser.add_argument("--only", metavar="TEXT", default="", help="only scenarios whose name contains this")
    parser.add_argument("--mutant", metavar="NAME", default="", help="with one thing wrong (see mutants.py)")
    parser.add_argument("--minutes", type=float, default=120, help="needing more is a failure")
    parser.add_argument("--jobs", type=int, default=os.process_cpu_count() or 1, help="processes")
    chosen = parser.parse_args()
    if chosen.replay:
        print("\n".join(replay(chosen.replay, chosen.mutant)))
        return 0
    part = functools.partial(explore_part, chosen)
    with ProcessPoolExecutor(chosen.jobs) as pool:
        summary = functools.reduce(sets.Summary.merge, pool.map(part, range(chosen.jobs)))
    print(summary.line())
    return 1 if summary.broken else 0


def explore_part(chosen: argparse.Namespace, part: int) -> sets.Summary:
    """One process's share of the scenarios."""
    logging.disable(logging.CRITICAL)  # the protocol's own warnings, of runs that are meant to go wrong
    named = [each for each in (sets.deep() if chosen.deep else sets.fast()) if chosen.only in each.name]
    until = time.monotonic() + chosen.minutes * 60
    with mutant_named(chosen.mutant).at_large() as wire:
        return sets.explore(
            named[part :: chosen.jobs], until=until, wire=wire, say=lambda line: print(line, flush=True)
        )


def replay(seed: str, mutant: str) -> list[str]:
    """The run of a seed, a line each."""
    logging.disable(logging.CRITICAL)
    name, _, moves = seed.partition(":")
    with mutant_named(mutant).at_large() as wire:
        scenario = by_name(name)
        explorer = Explorer(sets.machine(wire, scenario.stack), scenario)
        return explorer.tell(tuple(int(move) for move in moves.split(".") if move))


def mutant_named(name: str) -> Mutant:
    return next((each for each in MUTANTS if each.name == name), nothing_wrong)


if __name__ == "__main__":
    sys.exit(main())
