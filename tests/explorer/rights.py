"""What may still happen in a run, as a set of bits: who has a superset of them can do whatever a subset allows.

So a state need not be looked at where the same one was seen with a superset. Numbers are unary (two = 0b11) for that.
"""

import functools
from typing import Literal, NamedTuple

type Spending = Literal["advances", "hostile", "crashes"]


class Budget(NamedTuple):
    """What may still happen in a run: at most so much of each, and at most `together` in all.

    `gone`: whether hostile answers are also calls that fail at any other port than Scheduler's.
    """

    advances: int = 0
    hostile: int = 0
    crashes: int = 0
    gone: int = 0
    together: int = 0


_WIDTH = 5  # bits of one number
_SHIFT = {name: position * _WIDTH for position, name in enumerate(Budget._fields)}

BUDGET = (1 << _WIDTH * len(Budget._fields)) - 1
ADVANCE, HOSTILE, CRASH, GONE = (1 << _SHIFT[name] for name in ("advances", "hostile", "crashes", "gone"))
UNEXCUSED = BUDGET + 1  # nothing has happened that only the sweep can make good: more can be broken
UNHURRIED = UNEXCUSED << 1  # the clock has not just moved: what comes next need not be something that sees it
OF_TIME = UNEXCUSED << 2  # from here on: instants that somebody may still read, or the clock move to


def packed(budget: Budget) -> int:
    """As bits."""
    if not budget.together:
        return 0
    assert max(budget) <= _WIDTH
    return sum(((1 << number) - 1) << _SHIFT[name] for name, number in budget._asdict().items())


@functools.cache
def spent(budget: int, what: Spending) -> int:
    """The bits of the budget after one of these has happened."""
    for name in (what, "together"):
        field = ((1 << _WIDTH) - 1) << _SHIFT[name]
        budget = (budget & ~field) | ((budget & field) >> 1 & field)
    return budget if budget >> _SHIFT["together"] else 0
