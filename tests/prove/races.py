"""The race explorer's deep set, and its mutants; on two processes.

`python -m tests.explorer` is the way to look at one scenario, or at one run.
"""

import logging

from tests.explorer import sets
from tests.explorer.mutants import MUTANTS, Mutant
from tests.explorer.running import explored, told
from tests.explorer.scenarios import by_name
from tests.explorer.search import Explorer
from tests.prove.summary import Row

PROCESSES = 2
MINUTES = 18  # what is not explored by then counts as broken


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
    found = explored(sets.deep() if deep else sets.fast(), jobs=PROCESSES, minutes=MINUTES, stop=False)
    print(told(found))
    broken = sum(len(summary.broken) for summary in found.values())
    sequences = sum(summary.sequences for summary in found.values())
    states = sum(summary.states for summary in found.values())
    return [
        ("Interleavings explored, at least", f"{sequences:,}", not broken),
        ("  states", f"{states:,}", not broken),
        ("  promises broken", str(broken), not broken),
        *(
            (f"  {title}", f"{summary.scenarios} scenarios", not summary.broken)
            for title, summary in found.items()
        ),
        ("Mutants caught", f"{caught} of {len(MUTANTS)}", caught == len(MUTANTS)),
    ]
