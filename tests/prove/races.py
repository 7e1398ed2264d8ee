"""The race explorer, as much of it as fits, and its mutants; on two processes.

`python -m tests.explorer` is the way to look at one scenario, or at one run.
"""

import logging
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial, reduce
from multiprocessing import get_context

from tests.explorer import sets
from tests.explorer.mutants import MUTANTS, Mutant
from tests.explorer.scenarios import KINDS, by_name
from tests.explorer.search import Explorer, Scenario
from tests.prove.summary import Row

PROCESSES = 2
PAIRS_AT_A_TIME = 40
MINUTES = 18  # what is not explored by then counts as broken


type Share = Sequence[Scenario]
"""What one process explores with one machine, which remembers what it has seen."""


def _fast() -> list[Share]:
    return [tuple(sets.fast())]


def _deep() -> list[Share]:
    """All pairs and most triples with any one disturbance, all triples without, the core pairs with any two.

    All pairs with any two, and the core ones with any three, take an hour: `python -m tests.explorer --deep`.
    """
    triples = [each for each in sets.triples(sets.ANY_ONE) if not sets.is_long(each)]
    triples += sets.triples(sets.QUIET)
    pairs = [*sets.pairs(sets.CORE, sets.ANY_TWO), *sets.pairs(KINDS, sets.ANY_ONE)]
    of_pairs = (pairs[start : start + PAIRS_AT_A_TIME] for start in range(0, len(pairs), PAIRS_AT_A_TIME))
    return [*((each,) for each in triples), *of_pairs]


def explored(shares: Sequence[Share]) -> sets.Summary:
    """All of them, or what was not reached in time counts as broken."""
    began = time.monotonic()
    until = began + MINUTES * 60  # one clock for all processes of a machine
    with ProcessPoolExecutor(PROCESSES, get_context("spawn"), max_tasks_per_child=4) as pool:
        summary = reduce(sets.Summary.merge, pool.map(partial(_explore, until), shares))
    summary.seconds = time.monotonic() - began
    return summary


def _explore(until: float, scenarios: Share) -> sets.Summary:
    logging.disable(logging.CRITICAL)  # the protocol warns in runs that are meant to go wrong
    return sets.explore(scenarios, until=until, say=lambda line: print(line, flush=True))


def is_caught(mutant: Mutant) -> bool:
    """Whether the explorer notices it, and for the right reason."""
    with mutant.at_large() as wire:
        report = Explorer(sets.machine(wire), by_name(mutant.caught_in)).explore()
    if not report.broken.startswith(mutant.breaks):
        print(f"The mutant {mutant.name!r} was not caught: {report.broken or 'nothing was broken'}")
        return False
    return True


def run(deep: bool) -> list[Row]:
    """For the summary."""
    logging.disable(logging.CRITICAL)
    try:
        caught = sum(is_caught(mutant) for mutant in MUTANTS)
    finally:
        logging.disable(logging.NOTSET)
    summary = explored(_deep() if deep else _fast())
    print(summary.line())
    broken = len(summary.broken)
    return [
        ("Interleavings explored, at least", f"{summary.sequences:,}", broken == 0),
        ("  in scenarios / states", f"{summary.scenarios:,} / {summary.states:,}", broken == 0),
        ("  promises broken", str(broken), broken == 0),
        ("Mutants caught", f"{caught} of {len(MUTANTS)}", caught == len(MUTANTS)),
    ]
