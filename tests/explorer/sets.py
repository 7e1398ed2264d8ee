"""Which scenarios are explored when: a fast set on every change, everything now and then."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import combinations_with_replacement

from tests.explorer.machine import Budget, Machine
from tests.explorer.scenarios import KINDS, SITUATIONS, TRIPLES, scenario
from tests.explorer.search import Explorer, Report, Scenario
from tests.fakes.world import settings

SCENARIOS_PER_MACHINE = 240  # a machine remembers all that it has seen, which saves time and costs memory

QUIET = Budget()
ANY_ONE = Budget(advances=1, hostile=1, crashes=1, together=1)
ANY_TWO = Budget(advances=2, hostile=2, crashes=1, gone=1, together=2)
ANY_THREE = Budget(advances=2, hostile=2, crashes=1, together=3)

CORE = ("touch", "cleanup", "end", "pause", "resume")
LONG = ("fired", "warning", "warned", "lost")
CENTRAL = ("new", "active", "fired", "ended", "paused")


STACKS: dict[str, dict[str, object]] = {"": {}, "slack": {"timer_slack_seconds": 60}}
"""Name -> the parameters that are not the default."""


def machine(wire: Callable[[Machine], None] = lambda machine: None, stack: str = "") -> Machine:
    """With sessions, so that an end has something to lose; one shard, because there is one conversation."""
    given = {"session_url_secret_arn": "arn", "sweep_shards": 1} | STACKS[stack]
    return Machine(settings(**given), wire)


def pairs(
    kinds: tuple[str, ...],
    budget: Budget,
    situations: Iterable[str] = tuple(SITUATIONS),
    stack: str = "",
) -> Iterator[Scenario]:
    """All pairs of these, in each of the situations."""
    for both in combinations_with_replacement(kinds, 2):
        for situation in situations:
            yield scenario(both, situation, budget, stack)


def triples(budget: Budget) -> Iterator[Scenario]:
    for kinds in TRIPLES:
        for situation in SITUATIONS:
            yield scenario(kinds, situation, budget)


def is_long(each: Scenario) -> bool:
    """Two ways of cleaning up and a message, where all of them have something to do: tens of thousands of states."""
    kinds = [event.kind for event in each.operations]
    return (
        len(kinds) == 3
        and each.name.partition("@")[2].partition("/")[0] in LONG
        and (sum(kind in ("cleanup", "sweep", "redrive") for kind in kinds) > 1 or "pause" in kinds)
    )


def fast() -> Iterator[Scenario]:
    """Every pair undisturbed, the core ones with any one disturbance, most triples."""
    yield from pairs(KINDS, QUIET, CENTRAL)
    yield from pairs(CORE, ANY_ONE, CENTRAL)
    yield from pairs(CORE, QUIET, CENTRAL, "slack")
    yield from (each for each in triples(QUIET) if not is_long(each))


def deep() -> Iterator[Scenario]:
    yield from triples(QUIET)
    yield from pairs(KINDS, ANY_ONE)
    yield from pairs(CORE, ANY_TWO, CENTRAL, "slack")
    yield from pairs(KINDS, ANY_TWO)
    yield from pairs(CORE, ANY_THREE)
    yield from (each for each in triples(ANY_ONE) if not is_long(each))


@dataclass
class Summary:
    """Of many scenarios."""

    scenarios: int = 0
    states: int = 0
    sequences: int = 0
    ends: int = 0
    swept: int = 0
    seconds: float = 0.0
    broken: list[Report] = field(default_factory=list)
    slowest: tuple[float, int, str] = (0.0, 0, "")

    def add(self, report: Report) -> None:
        self.scenarios += 1
        self.states += report.states
        self.sequences += report.sequences
        self.ends += report.ends
        self.swept += report.swept
        self.slowest = max(self.slowest, (report.seconds, report.states, report.scenario))
        if report.broken:
            self.broken.append(report)

    def merge(self, other: "Summary") -> "Summary":
        """Of two halves that ran at the same time."""
        return Summary(
            self.scenarios + other.scenarios,
            self.states + other.states,
            self.sequences + other.sequences,
            self.ends + other.ends,
            self.swept + other.swept,
            max(self.seconds, other.seconds),
            self.broken + other.broken,
            max(self.slowest, other.slowest),
        )

    def line(self) -> str:
        return (
            f"{self.scenarios} scenarios, {self.states:,} states, at least {self.sequences:,} sequences, {self.ends:,}"
            f" different ends of which {self.swept:,} needed the sweep, {self.seconds:.0f} s:"
            f" {f'{len(self.broken)} BROKEN' if self.broken else 'all promises kept'}"
            f" (slowest: {self.slowest[2]}, {self.slowest[1]:,} states, {self.slowest[0]:.0f} s)"
        )


def explore(
    scenarios: Iterable[Scenario],
    *,
    until: float,
    wire: Callable[[Machine], None] = lambda machine: None,
    say: Callable[[str], None] = lambda line: None,
) -> Summary:
    """One after the other. `until`: a `time.monotonic`; what is not finished by then counts as broken."""
    summary, began = Summary(), time.monotonic()
    machines: dict[str, Machine] = {}
    everything = list(scenarios)
    for number, each in enumerate(everything):
        if number % SCENARIOS_PER_MACHINE == 0:
            machines.clear()
        if each.stack not in machines:
            machines[each.stack] = machine(wire, each.stack)
        report = Explorer(machines[each.stack], each).explore(until=until)
        out_of_time = report.broken and time.monotonic() > until
        if out_of_time:
            report.broken += f"; {len(everything) - number} scenarios were not explored to their end"
        summary.add(report)
        if report.broken:
            say(f"{report.broken}\n" + "\n".join(report.story) + f"\nseed: {report.seed}\n")
        if out_of_time:
            break
    summary.seconds = time.monotonic() - began
    return summary
