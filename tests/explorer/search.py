"""Explores every interleaving of a scenario's operations, and settles each of its ends.

A state is the world, where each operation stands, and what may still happen (see `rights`). One that was seen with the
same rights or more is not looked at again. Runs with fewer disturbances come first, shorter ones before longer ones, so
the first broken promise found has the plainest sequence.
"""

import random
import time
from array import array
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.explorer import rights
from tests.explorer.machine import Event, Machine, freeze
from tests.explorer.rights import ADVANCE, BUDGET, OF_TIME, UNEXCUSED, UNHURRIED, Budget
from tests.explorer.settling import Settling
from tests.explorer.turns import MEANS, OVER, Turn, Turns
from tests.explorer.words import Words

_ENDERS = frozenset({"cleanup", "sweep", "redrive"})
_NOTICED_ONLY_BY: dict[str, frozenset[str]] = {
    "outcomes": frozenset(),
    "handover": frozenset(),
    "queues": frozenset(),
    "leases": frozenset({"sweep"}),
    "sessions": _ENDERS,
    "bots": _ENDERS,
    "callers_code": _ENDERS,
}
"""Port -> the kinds of operations that reach it as well, for those whose calls not everybody can notice."""

OUT_OF_TIME = "out of time: not all of it was looked at"

# Of a run that is drawn: a triple takes some twenty steps, over which five disturbances are to spread.
DISTURBS = 0.2
STOPS_WHEN_OVER = 0.5

type Place = tuple[Any, ...]
"""The number of a world, then where each operation stands (a `Node`)."""


@dataclass(frozen=True)
class Scenario:
    """`setup`: what has happened before, without rivals: events, `fire`, or milliseconds that pass. `budget`: of a run.

    `left_to_the_sweep`: why the sweep may be needed although nothing crashes, if there is a reason.
    """

    name: str
    setup: tuple[Event | str | int, ...]
    operations: tuple[Event, ...]
    budget: Budget
    start: int
    left_to_the_sweep: str = ""
    stack: str = ""  # whose parameters (see sets.STACKS)
    runs: int = 0  # to be drawn at random, where every interleaving is out of reach


@dataclass
class Report:
    """`broken`: the promise and the moves that break it; empty = all kept. `swept`: ends that needed the sweep."""

    scenario: str
    states: int = 0
    sequences: int = 0
    ends: int = 0
    swept: int = 0
    broken: str = ""
    path: tuple[int, ...] = ()
    seconds: float = 0.0
    story: list[str] = field(default_factory=list)

    @property
    def seed(self) -> str:
        return f"{self.scenario}:{'.'.join(map(str, self.path))}"


class Move(NamedTuple):
    """One step of a run. `turn`: whose; None: something outside, as `text` says."""

    place: Place
    rights: int
    disturbs: bool
    turn: Turn | None = None
    text: str = ""


class Seen:
    """All states that were found, by number, in the order in which they were."""

    def __init__(self) -> None:
        self.places: list[Place] = []
        self.rights: list[int] = []
        self.sequences: list[int] = []  # that lead there; only while it waits to be looked at
        self._parents, self._moves = array("q"), array("q")
        # Per place a chain of entries, newest first.
        self._newest: dict[Place, int] = {}
        self._older, self._numbers = array("q"), array("q")

    def __len__(self) -> int:
        return len(self.places)

    def find(self, place: Place, allowed: int, *, exactly: bool) -> int:
        """One that stands there and may do all that (exactly that); -1: there is none."""
        entry = self._newest.get(place, -1)
        while entry >= 0:
            number = self._numbers[entry]
            theirs = self.rights[number]
            if theirs == allowed if exactly else theirs & allowed == allowed:
                return number
            entry = self._older[entry]
        return -1

    def add(self, place: Place, allowed: int, sequences: int, parent: int, move: int) -> int:
        number = len(self.places)
        self.places.append(place)
        self.rights.append(allowed)
        self.sequences.append(sequences)
        self._parents.append(parent)
        self._moves.append(move)
        self.register(number, place)
        return number

    def register(self, number: int, place: Place) -> None:
        """The state can do whatever one can that stands there with no more rights."""
        self._older.append(self._newest.get(place, -1))
        self._newest[place] = len(self._numbers)
        self._numbers.append(number)

    def path(self, number: int) -> tuple[int, ...]:
        moves: list[int] = []
        while self._parents[number] >= 0:
            moves.append(self._moves[number])
            number = self._parents[number]
        return tuple(reversed(moves))


class Explorer:
    """One scenario on one machine. `turns`: what was worked out for other scenarios of the machine."""

    def __init__(self, machine: Machine, scenario: Scenario, turns: Turns | None = None) -> None:
        self.machine, self.scenario = machine, scenario
        self.turns = turns or Turns(machine, Settling(machine))
        self.settling = self.turns.settling
        self.reduces = True  # see `moves`
        self._ends: set[tuple[int, bool]] = set()
        kinds = [event.kind for event in scenario.operations]
        self._somebody_ends = not _ENDERS.isdisjoint(kinds)
        self._kinds = ["", *kinds]  # by position
        self.words = Words(machine, scenario.start)
        # Rights that are about time: for each instant, one bit per position (see `_bit`).
        self._width = 1 + len(kinds)
        self._index: dict[int, int] = {}
        self._bits_of = [0] * self._width  # all bits of a position
        self._instants: dict[int, tuple[int, ...]] = {}  # bits -> what they stand for
        self._ahead: dict[int, int] = {}  # world -> where its clock may move

    # --- the search ---

    def explore(self, *, until: float | None = None) -> Report:
        """Every interleaving. `until`: a `time.monotonic` at which it gives up, which is a failure."""
        began = time.monotonic()
        report = Report(self.scenario.name)
        place, allowed, broken = self.begin()
        if broken:
            report.broken = f"in the setup: {broken}"
            return report
        seen = Seen()
        # By the number of disturbances, then by the number of steps.
        waiting: list[list[list[int]]] = [[[seen.add(place, allowed, 1, -1, -1)]]]
        while waiting and not report.broken:
            levels = waiting.pop(0)
            for steps, level in enumerate(levels):
                for number in level:
                    if until is not None and time.monotonic() > until:
                        report.broken = OUT_OF_TIME
                        break
                    broken, last = self._expand(seen, number, steps, levels, waiting, report)
                    if broken:
                        report.broken, report.path = broken, (*seen.path(number), *last)
                        break
                if report.broken:
                    break
        report.states = len(seen)
        return self._reported(report, began)

    def sample(self, *, until: float | None = None, seed: int = 5) -> Report:
        """As many different runs as the scenario asks for, each move drawn at random."""
        began, chance = time.monotonic(), random.Random(seed)  # noqa: S311 - repeatable, not secret
        report = Report(self.scenario.name)
        drawn: set[tuple[int, ...]] = set()
        while len(drawn) < self.scenario.runs and not report.broken:
            if until is not None and time.monotonic() > until:
                report.broken = OUT_OF_TIME
                break
            report.broken, report.path = self._draw(chance)
            drawn.add(report.path)
        report.sequences = len(drawn)
        report.path = report.path if report.broken else ()
        return self._reported(report, began)

    def _draw(self, chance: random.Random) -> tuple[str, tuple[int, ...]]:
        """What one run breaks, and the run; the clock may have moved at its end for nobody to see."""
        place, allowed, broken = self.begin()
        path: list[int] = []
        while not broken:
            moves = list(enumerate(self.moves(place, allowed)))
            if self._is_over(place):
                end = place[0], not allowed & UNEXCUSED
                self._ends.add(end)
                broken, _ = self.settling.settle(*end)
                if broken or not moves or chance.random() < STOPS_WHEN_OVER:
                    break
            if not moves:
                break
            disturbing = [each for each in moves if each[1].disturbs]
            plain = [each for each in moves if not each[1].disturbs]
            disturbs = disturbing and (not plain or chance.random() < DISTURBS)
            index, move = chance.choice(disturbing if disturbs else plain)
            path.append(index)
            place, allowed = move.place, move.rights
            broken = "" if move.turn is None else move.turn.broken
        return broken, tuple(path)

    def _reported(self, report: Report, began: float) -> Report:
        report.ends = len(self._ends)
        report.swept = sum(self.settling.settle(*end)[1] for end in self._ends)
        report.seconds = time.monotonic() - began
        if report.path or (report.broken and report.broken != OUT_OF_TIME):
            report.story = self.tell(report.path)
        return report

    def _expand(
        self,
        seen: Seen,
        number: int,
        steps: int,
        levels: list[list[int]],
        waiting: list[list[list[int]]],
        report: Report,
    ) -> tuple[str, tuple[int, ...]]:
        """What is broken by the next move, and which that is."""
        place, allowed = seen.places[number], seen.rights[number]
        sequences, seen.sequences[number] = seen.sequences[number], 0
        if self._is_over(place):
            report.sequences += sequences
            end = place[0], not allowed & UNEXCUSED
            self._ends.add(end)
            broken, _ = self.settling.settle(*end)
            if broken:
                return broken, ()
        for index, (after, left, disturbs, turn, _) in enumerate(self.moves(place, allowed)):
            if turn is not None and turn.broken:
                return turn.broken, (index,)
            known = seen.find(after, left, exactly=not self.reduces)
            if known >= 0:
                if seen.sequences[known] and seen.rights[known] == left:
                    seen.sequences[known] += sequences
                else:
                    report.sequences += sequences  # joins a sequence that was followed already
                continue
            following = seen.add(after, left, sequences, number, index)
            if self.reduces and left >= OF_TIME and any(node.call == "clock.now" for node in after[1:]):
                seen.register(following, self._having_read(after, 0))
            if disturbs and not waiting:
                waiting.append([])
            where = waiting[0] if disturbs else levels
            while len(where) <= steps + 1:
                where.append([])
            where[steps + 1].append(following)
        return "", ()

    def ends(self) -> set[Hashable]:
        """All the ends that were settled, in terms that two machines share."""
        machine = self.machine
        worlds = {machine.world(number) for number, _ in self._ends}
        return {
            (
                freeze(machine.item(world)),
                machine.members(world.published),
                machine.members(world.committed),
                world._replace(item=0, published=0, committed=0),
            )
            for world in worlds
        }

    # --- one step further ---

    def begin(self) -> tuple[Place, int, str]:
        """The scenario after its setup: where everybody stands, with which rights, and what is broken already."""
        machine, operations = self.machine, self.scenario.operations
        world, broken, excused = machine.blank(self.scenario.start), "", bool(self.scenario.left_to_the_sweep)
        for step in self.scenario.setup:
            there = machine.world(world)
            if isinstance(step, int):
                world = machine.changed(world, now=there.now + step)
            elif step == "fire":
                assert there.schedule is not None
                world = machine.changed(world, now=max(there.now, there.schedule[0]))
                world = machine.number(machine.fired(machine.world(world)))
                if any(each.kind == "cleanup" for each in operations):
                    world = machine.changed(world, handed=())  # that is the firing's
            elif step == "lose the timer":
                world, excused = machine.changed(world, schedule=None), True
            elif step == "run":
                world, broken = self.settling.drain(world)
            else:
                assert isinstance(step, Event)
                world, broken = self.settling.run(world, step)
            if broken:
                break
        allowed = rights.packed(self.scenario.budget) | UNHURRIED | (0 if excused else UNEXCUSED)
        if allowed & ADVANCE:
            allowed |= self._where_the_clock_may_move(world)
        place: Place = (world, *(machine.start(event) for event in operations))
        return place if allowed & ADVANCE else self._having_read(place, allowed), allowed, broken

    def _is_over(self, place: Place) -> bool:
        return all(node is OVER for node in place[1:])

    def moves(self, place: Place, allowed: int) -> Iterator[Move]:
        """All that can happen next, always in the same order: a seed is a list of these positions.

        Two reductions, neither of which loses a run that differs in anything but the order of what does not touch:
        a step that no other operation can notice goes first; and the clock moves only just before somebody reads it
        and it makes a difference.
        """
        world = place[0]
        alone = self._unnoticed(place) if self.reduces and allowed & UNHURRIED else -1
        for position in range(1, len(place)) if alone < 0 else (alone,):
            if place[position] is not OVER:
                yield from self._moves_of(place, allowed, position)
        if alone >= 0:
            return
        there = self.machine.world(world)
        # When all of them are over it goes on like this: what was handed over may come late.
        if there.schedule is not None and not there.schedule[1] and there.schedule[0] <= there.now:
            fired = self.machine.number(self.machine.fired(there))
            yield Move(
                (fired, *place[1:]),
                allowed | UNHURRIED,
                False,
                None,
                "the schedule fires; cleanup is on its way",
            )
        if there.vanishing:
            gone = self.machine.changed(world, schedule=None, vanishing=False)
            text = "AWS deletes the schedule that fired, and what has its name by now"
            yield Move((gone, *place[1:]), allowed | UNHURRIED, False, None, text)
        yield from self._advances(place, allowed)

    def _unnoticed(self, place: Place) -> int:
        """The position of an operation whose next step no other can notice; -1: there is none."""
        for position in range(1, len(place)):
            node = place[position]
            kinds = _NOTICED_ONLY_BY.get(node.port)
            if kinds is None:
                if node.call == "overview.read_each" and not node.args:
                    return position  # reads nothing
            elif not any(
                self._kinds[other] in kinds and place[other] is not OVER
                for other in range(1, len(place))
                if other != position
            ):
                return position
        return -1

    def _moves_of(self, place: Place, allowed: int, position: int) -> Iterator[Move]:
        readable = self._bits_of[position]
        earlier = allowed & readable
        turns = self.turns.of(
            place[0], place[position], allowed & MEANS, self._times(earlier) if earlier else ()
        )
        allowed &= ~readable
        before, behind = place[1:position], place[position + 1 :]
        for turn in turns:
            if not (turn.sees_now or allowed & UNHURRIED):
                continue
            left = allowed | UNHURRIED
            if turn.spends:
                left = (left & ~BUDGET) | rights.spent(left & BUDGET, turn.spends)
            if turn.excuses:
                left &= ~UNEXCUSED
            if left & ADVANCE:
                left |= self._where_the_clock_may_move(turn.world)
            elif allowed & ADVANCE:
                left &= ~self._bits_of[0]
            if left & ADVANCE:
                after = (turn.world, *before, turn.node, *behind)
            else:
                after = (turn.world, *before, turn.ready, *behind)
                if allowed & ADVANCE:
                    after = self._having_read(after, left)
            yield Move(after, left, turn.spends is not None, turn)

    def _having_read(self, place: Place, allowed: int) -> Place:
        """With the clock read by all that wait for that and may read nothing but what it shows: it stands still now."""
        now = self.machine.world(place[0]).now
        nodes = list(place[1:])
        for position, node in enumerate(nodes, 1):
            if node.call == "clock.now" and not allowed & self._bits_of[position]:
                nodes[position - 1] = self.turns.having_read(node, now)
        return (place[0], *nodes)

    # --- time ---

    def _advances(self, place: Place, allowed: int) -> Iterator[Move]:
        if not allowed & ADVANCE:
            return
        now = self.machine.world(place[0]).now
        read_late = sum(
            self._bit(now, position) for position in range(1, len(place)) if place[position] is not OVER
        )
        left = (allowed & ~BUDGET) | rights.spent(allowed & BUDGET, "advances") | UNHURRIED | read_late
        if self.reduces:
            left &= ~UNHURRIED
        for instant in self._times(allowed & self._bits_of[0]):
            moved = self.machine.changed(place[0], now=instant)
            after = left & ~self._bits_of[0]
            if left & ADVANCE:
                after |= sum(self._bit(t, 0) for t in self._times(allowed & self._bits_of[0]) if t > instant)
            yield Move(
                (moved, *place[1:]), after, True, None, f"the clock moves on to {self.words.when(instant)}"
            )

    def _where_the_clock_may_move(self, world: int) -> int:
        found = self._ahead.get(world)
        if found is None:
            there = self.machine.world(world)
            instants = {
                instant
                for instant, what in self.machine.moments(there)
                if instant > there.now and (what != "too early" or self._somebody_ends)
            }
            found = self._ahead[world] = sum(self._bit(instant, 0) for instant in instants)
        return found

    def _bit(self, instant: int, position: int) -> int:
        """Of the rights: that the operation may still read this time; at position 0, that the clock may move there."""
        index = self._index.get(instant)
        if index is None:
            index = self._index[instant] = len(self._index)
            for each in range(self._width):
                self._bits_of[each] |= OF_TIME << (index * self._width + each)
        return OF_TIME << (index * self._width + position)

    def _times(self, bits: int) -> tuple[int, ...]:
        """The instants of some bits, of one position each."""
        found = self._instants.get(bits)
        if found is None:
            mine = [t for t in self._index if any(bits & self._bit(t, each) for each in range(self._width))]
            found = self._instants[bits] = tuple(sorted(mine))
        return found

    # --- in plain words ---

    def tell(self, path: tuple[int, ...]) -> list[str]:
        """The run of a seed, a line each."""
        settling = self.settling
        try:
            settling.words, settling.lines = self.words, []
            place, allowed, broken = self.begin()
            lines = ["Before:", *settling.lines, "Then:"]
            settling.words, settling.lines = None, []
            for index in path:
                world, (place, allowed, _, turn, text) = place[0], list(self.moves(place, allowed))[index]
                lines.append(f"  {text if turn is None else self.turns.told(world, turn, self.words)}")
                broken = "" if turn is None else turn.broken
            if not broken and self._is_over(place):
                settling.words = self.words
                broken, _ = settling.settle(place[0], not allowed & UNEXCUSED)
                lines += ["After that:", *(f"  {line}" for line in settling.lines)]
            lines.append(f"Broken: {broken}" if broken else "All promises kept.")
            return lines
        finally:
            settling.words, settling.lines = None, []
