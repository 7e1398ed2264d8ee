"""Which scenarios are explored when: a fast set on every change, everything now and then."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement

from tests.explorer.machine import Machine
from tests.explorer.rights import Budget
from tests.explorer.scenarios import KINDS, SITUATIONS, TRIPLES, scenario
from tests.explorer.search import Scenario
from tests.fakes.world import settings

QUIET = Budget()
ANY_ONE = Budget(advances=1, hostile=1, crashes=1, together=1)
ANY_TWO = Budget(advances=2, hostile=2, crashes=1, together=2)
IN_FULL = "2 clock advances + 2 hostile answers + 1 crash"
CLOCK_STANDING = "2 hostile answers + 1 crash, the clock standing"
FULL = Budget(advances=2, hostile=2, crashes=1, together=5)
RUNS = 20_000
CLOCK_STANDS = Budget(hostile=2, crashes=1, together=3)

CORE = ("touch", "cleanup", "end", "pause", "resume")
TIMEOUTS = ("longer touch", "shorter touch")
CENTRAL = ("fired", "ended", "active", "new", "paused")  # what tells most comes first


STACKS: dict[str, dict[str, object]] = {"": {}, "slack": {"timer_slack_seconds": 60}}
"""Name -> the parameters that are not the default."""


@dataclass(frozen=True)
class Group:
    """Scenarios that show one thing. `title`: which, in a summary."""

    title: str
    scenarios: tuple[Scenario, ...]

    def only(self, text: str) -> "Group":
        """Those whose name contains this."""
        return Group(self.title, tuple(each for each in self.scenarios if text in each.name))


def machine(wire: Callable[[Machine], None] = lambda machine: None, stack: str = "") -> Machine:
    """With sessions, so that an end has something to lose; one shard, because there is one conversation."""
    given = {"session_url_secret_arn": "arn", "sweep_shards": 1} | STACKS[stack]
    return Machine(settings(**given), wire)


def natural(kinds: tuple[str, ...]) -> str:
    """The situation in which all of them have most to do."""
    if "sweep" in kinds:
        return "lost"
    return "active" if {"cleanup", "redrive"}.isdisjoint(kinds) else "fired"


def pairs(
    kinds: tuple[str, ...], budget: Budget, situations: Iterable[str] = tuple(SITUATIONS), stack: str = ""
) -> Iterator[Scenario]:
    """All pairs of these, in each of the situations."""
    for situation in situations:
        for both in combinations_with_replacement(kinds, 2):
            yield scenario(both, situation, budget, stack)


def natural_pairs(budget: Budget) -> Iterator[Scenario]:
    for both in combinations_with_replacement(KINDS, 2):
        yield scenario(both, natural(both), budget)


def triples(budget: Budget, situations: Iterable[str] = tuple(SITUATIONS)) -> Iterator[Scenario]:
    for situation in situations:
        for kinds in TRIPLES:
            yield scenario(kinds, situation, budget)


def natural_triples(budget: Budget) -> Iterator[Scenario]:
    for kinds in TRIPLES:
        yield scenario(kinds, natural(kinds), budget)


def fast() -> list[Group]:
    """In the order of what tells most."""
    return [
        Group("core pairs, undisturbed", tuple(pairs(CORE, QUIET, CENTRAL))),
        Group("core pairs, any one disturbance", tuple(pairs(CORE, ANY_ONE, CENTRAL))),
        Group("timeouts that change, any one disturbance", tuple(pairs(TIMEOUTS, ANY_ONE, CENTRAL))),
        Group("all pairs, undisturbed", tuple(pairs(KINDS, QUIET, CENTRAL))),
        Group(
            "triples, undisturbed",
            (*natural_triples(QUIET), *triples(QUIET, ("ended", "new", "paused"))),
        ),
        Group("core pairs with timer slack, undisturbed", tuple(pairs(CORE, QUIET, CENTRAL, "slack"))),
    ]


def deep() -> list[Group]:
    """What takes longest comes first, so that no process is left alone with it.

    In full, a triple has more states than memory holds, so runs are drawn; `is_light` tells those for which any two
    disturbances fit.
    """
    light = tuple(each for each in natural_triples(ANY_TWO) if is_light(each))
    heavy = tuple(each for each in natural_triples(ANY_ONE) if not is_light(each))
    return [
        Group(f"all triples, {CLOCK_STANDING}", tuple(natural_triples(CLOCK_STANDS))),
        Group(f"{len(light)} triples, any two disturbances", light),
        Group(f"{len(heavy)} triples, any one disturbance", heavy),
        Group(f"all pairs, {IN_FULL}", tuple(natural_pairs(FULL))),
        Group(
            f"all triples, {IN_FULL}, {RUNS:,} runs of each drawn at random",
            tuple(replace(each, runs=RUNS) for each in natural_triples(FULL)),
        ),
        Group("all triples in all situations, undisturbed", tuple(triples(QUIET))),
        Group("all pairs in all situations, any one disturbance", tuple(pairs(KINDS, ANY_ONE))),
        Group(
            "core pairs with timer slack, any one disturbance", tuple(pairs(CORE, ANY_ONE, CENTRAL, "slack"))
        ),
    ]


def is_light(each: Scenario) -> bool:
    """With less than two ways of cleaning up: then any two disturbances are some million states, not some ten."""
    cleaning = [event for event in each.operations if event.kind in ("cleanup", "sweep", "redrive")]
    return sum(not event.fields for event in cleaning) < 2  # a redriven touch cleans up nothing
