"""Explores many scenarios on some processes, and says what came of it."""

import gc
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context

from tests.explorer import sets
from tests.explorer.machine import Machine
from tests.explorer.mutants import mutant_named
from tests.explorer.search import Explorer, Report, Scenario
from tests.explorer.settling import Settling
from tests.explorer.turns import Turns

PAIRS_AT_A_TIME = {0: 75, 1: 25}  # by the number of disturbances; with more: one
"""With one machine, which remembers what it has seen: that saves time and costs memory."""


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
        self.seconds += report.seconds
        self.slowest = max(self.slowest, (report.seconds, report.states, report.scenario))
        if report.broken:
            self.broken.append(report)

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
    stop: bool = False,
) -> list[Report]:
    """One after the other. `until`: a `time.monotonic`; what is not finished by then counts as broken. `stop`: at the
    first that is broken."""
    machines: dict[str, Turns] = {}
    reports: list[Report] = []
    for each in scenarios:
        turns = machines.get(each.stack)
        if turns is None:
            machine = sets.machine(wire, each.stack)
            turns = machines[each.stack] = Turns(machine, Settling(machine))
        explorer = Explorer(turns.machine, each, turns)
        reports.append(explorer.sample(until=until) if each.runs else explorer.explore(until=until))
        if (reports[-1].broken and stop) or time.monotonic() > until:
            break
    return reports


def explored(
    groups: Iterable[sets.Group], *, jobs: int, minutes: float, mutant: str = "", stop: bool = True
) -> dict[str, Summary]:
    """Title -> what was seen. Tells each broken promise as soon as it is found; `stop`: and that is all then."""
    until = time.monotonic() + minutes * 60  # one clock for all processes of a machine
    found: dict[str, Summary] = {}
    shares = [(group.title, share) for group in groups for share in _shares(group.scenarios)]
    with get_context("spawn").Pool(jobs, maxtasksperchild=8) as pool:
        for title, reports in pool.imap_unordered(partial(_explore_share, until, mutant, stop), shares):
            summary = found.setdefault(title, Summary())
            for report in reports:
                summary.add(report)
                if report.broken:
                    print("\n".join([report.broken, *report.story, f"seed: {report.seed}", ""]), flush=True)
            if summary.broken and (stop or time.monotonic() > until):
                break
    left = sum(len(share) for _, share in shares) - sum(each.scenarios for each in found.values())
    if left:
        print(f"{left} scenarios were not explored")
    return found


def _shares(scenarios: tuple[Scenario, ...]) -> Iterator[tuple[Scenario, ...]]:
    first = 0
    while first < len(scenarios):
        each = scenarios[first]
        size = PAIRS_AT_A_TIME.get(each.budget.together, 1) if len(each.operations) == 2 else 1
        yield scenarios[first : first + size]
        first += size


def _explore_share(
    until: float, mutant: str, stop: bool, share: tuple[str, tuple[Scenario, ...]]
) -> tuple[str, list[Report]]:
    logging.disable(logging.CRITICAL)  # the protocol's own warnings, of runs that are meant to go wrong
    gc.disable()  # millions of states, none of them garbage; the process does not live long
    title, scenarios = share
    with mutant_named(mutant).at_large() as wire:
        return title, explore(scenarios, until=until, wire=wire, stop=stop)


def told(found: dict[str, Summary]) -> str:
    """A line for each."""
    return "\n".join(f"{title}: {summary.line()}" for title, summary in found.items())
