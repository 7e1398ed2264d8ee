"""Explores every interleaving of a scenario's operations, breadth first, and settles each of its ends.

A state is the world plus where each operation stands; equal states are looked at once. Breadth first, so the first
broken promise found has the shortest sequence.
"""

import time
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.explorer import promises
from tests.explorer.machine import (
    FREE,
    SESSION_KEY,
    Budget,
    Event,
    Machine,
    Node,
    Outcome,
    World,
    accept,
    acknowledge,
    freeze,
    is_permanent,
)

MOST_ATTEMPTS = 6  # an operation that fails that often fails for ever
MOST_SETTLING_STEPS = 40
RETRIES = 2  # Lambda's
_ENDERS = frozenset({"cleanup", "sweep", "redrive"})
"""The kinds of operations that reach sessions, bots and the caller's own code."""


class Running(NamedTuple):
    """An operation of the scenario. `node` None: over. `since`: index of the clock's value at its last step."""

    node: Node | None
    since: int


class State(NamedTuple):
    world: World
    operations: tuple[Running | None, ...]  # None: not begun
    fresh: bool = False  # the clock has just moved: what comes next is something that sees it


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
    """One step of a run. `text` is made only for a story."""

    state: State
    broken: str
    text: str


class Explorer:
    """One scenario on one machine."""

    def __init__(self, machine: Machine, scenario: Scenario) -> None:
        self.machine, self.scenario = machine, scenario
        self._settled: dict[World, tuple[str, bool]] = {}
        self._somebody_ends = any(event.kind in _ENDERS for event in scenario.operations)
        self.reduces = True  # see `moves`
        self.telling = False  # whether moves carry texts
        self.lines: list[str] = []  # of the settling, while telling

    # --- the search ---

    def explore(self, *, until: float | None = None) -> Report:
        """Every interleaving. `until`: a `time.monotonic` at which it gives up, which is a failure."""
        began = time.monotonic()
        report = Report(self.scenario.name)
        first, broken = self.begin()
        if broken:
            report.broken = f"in the setup: {broken}"
            return report
        parents: list[tuple[int, int]] = [(-1, -1)]
        counts = {first: 1}
        numbers = {first: 0}
        level = [first]
        while level:
            following: list[State] = []
            for state in level:
                if until is not None and time.monotonic() > until:
                    report.broken = "out of time: not every interleaving was looked at"
                    break
                broken, moved = self._expand(state, numbers, counts, parents, following, report)
                if broken:
                    report.broken = broken
                    report.path = (*self._path(parents, numbers[state]), *moved)
                    break
            if report.broken:
                break
            level = following
        report.states = len(numbers)
        report.seconds = time.monotonic() - began
        if report.path or (report.broken and not report.broken.startswith("out of time")):
            report.story = self.tell(report.path)
        return report

    def ends(self) -> set[Hashable]:
        """All the ends that were settled, whenever that was, in terms that two machines share."""
        machine = self.machine
        return {
            (
                freeze(machine.item(world)),
                machine.members(world.published),
                machine.members(world.committed),
                world._replace(item=0, published=0, committed=0, times=()),
            )
            for world in self._settled
        }

    def _expand(
        self,
        state: State,
        numbers: dict[State, int],
        counts: dict[State, int],
        parents: list[tuple[int, int]],
        following: list[State],
        report: Report,
    ) -> tuple[str, tuple[int, ...]]:
        moves = 0
        count = counts.pop(state)
        for index, move in enumerate(self.moves(state)):
            moves += 1
            if move.broken:
                return move.broken, (index,)
            if move.state in numbers:
                if move.state in counts:
                    counts[move.state] += count
                else:
                    report.sequences += count  # joins a sequence that was followed already
                continue
            numbers[move.state] = len(parents)
            parents.append((numbers[state], index))
            counts[move.state] = count
            following.append(move.state)
        if all(running is not None and running.node is None for running in state.operations):
            report.ends += 1
            broken, swept = self.settle(state.world)
            report.swept += swept
            if broken:
                return broken, ()
            if not moves:
                report.sequences += count
        return "", ()

    def _path(self, parents: list[tuple[int, int]], number: int) -> tuple[int, ...]:
        moves: list[int] = []
        while number:
            number, move = parents[number]
            moves.append(move)
        return tuple(reversed(moves))

    # --- one step further ---

    def begin(self) -> tuple[State, str]:
        """The scenario after its setup."""
        world = self.machine.blank(self.scenario.start, Budget())
        for step in self.scenario.setup:
            broken = ""
            if isinstance(step, int):
                world = world._replace(times=(world.now + step,))
            elif step == "fire":
                assert world.schedule is not None
                world = self.machine.fired(world._replace(times=(max(world.now, world.schedule[0]),)))
                if any(each.kind == "cleanup" for each in self.scenario.operations):
                    world = world._replace(handed=())  # that is the firing's
            elif step == "lose the timer":
                world = world._replace(schedule=None, excused=True)
            elif step == "run":
                world, broken = self._drain(world)
            else:
                assert isinstance(step, Event)
                world, broken = self._run(world, step)
            if broken:
                return State(world, ()), broken
        moments = tuple(moment for moment in world.moments if moment[0] > world.now)
        world = world._replace(times=(world.now,), budget=self.scenario.budget, moments=moments)
        if self.scenario.left_to_the_sweep:
            world = world._replace(excused=True)
        return State(world, (None,) * len(self.scenario.operations)), ""

    def moves(self, state: State) -> Iterator[Move]:
        """All that can happen next, always in the same order: a seed is a list of these positions.

        Two reductions, neither of which loses a run that differs in anything but the order of what does not touch:
        a step that no other operation can notice goes first; and the clock moves only just before somebody reads it.
        """
        world = state.world
        alone = self._unnoticed(state)
        if alone is not None:
            running = state.operations[alone]
            assert running is not None
            yield from self._moves_of(state, alone, running)
            return
        for position, running in enumerate(state.operations):
            if running is not None:
                if running.node is not None:
                    yield from self._moves_of(state, position, running)
                continue
            event = self.scenario.operations[position]
            # It may have begun at any time so far, and only now come to its first call.
            for since in range(len(world.times)) if event.is_sent_at_start else (0,):
                node = self.machine.start(event, 1, world.times[since])
                just_sent = event.is_sent_at_start and since == len(world.times) - 1
                yield from self._moves_of(state, position, Running(node, since), sees_now=just_sent)
        if all(running is not None and running.node is None for running in state.operations):
            return
        if world.schedule is not None and not world.schedule[1] and world.schedule[0] <= world.now:
            fired = State(self.machine.fired(world), state.operations)
            yield Move(fired, "", "the schedule fires; cleanup is on its way")
        if world.vanishing:
            gone = State(world._replace(schedule=None, vanishing=False), state.operations)
            yield Move(gone, "", "AWS deletes the schedule that fired, and what has its name by now")
        if world.budget.advances:
            budget = world.budget.less("advances")
            for instant, what in world.moments:
                if instant <= world.now or (what == "too early" and not self._somebody_ends):
                    continue
                moved = world._replace(times=(*world.times, instant), budget=budget)
                text = f"the clock moves on to {self._when(instant)}"
                yield Move(State(moved, state.operations, fresh=self.reduces), "", text)

    def _unnoticed(self, state: State) -> int | None:
        """The position of an operation whose next step no other can notice."""
        if state.fresh or not self.reduces:
            return None
        for position, running in enumerate(state.operations):
            if running is None or running.node is None:
                continue
            port = running.node.call.partition(".")[0]
            if port in ("outcomes", "handover"):
                return position
            if port in ("sessions", "bots", "callers_code") and not any(
                each is None or each.node is not None
                for other, each in enumerate(state.operations)
                if other != position and self.scenario.operations[other].kind in _ENDERS
            ):
                return position
        return None

    def _moves_of(
        self, state: State, position: int, running: Running, *, sees_now: bool = False
    ) -> Iterator[Move]:
        world = state.world
        node = running.node
        assert node is not None
        for ready, since in self._clock_read(node, running.since, world.times):
            if state.fresh and not sees_now and since < len(world.times) - 1:
                continue
            if ready.finished:
                yield self._finish(state, position, world, ready, since, "")
                continue
            for variant in self.machine.variants(world, ready):
                before = world
                if variant not in FREE:
                    before = world._replace(budget=world.budget.less("hostile"))
                outcome = self.machine.perform(before, ready, variant)
                if outcome.world.item != world.item:
                    outcome = outcome._replace(world=accept(outcome.world, ready))
                text = self._text(ready, variant, outcome) if self.telling else ""
                now = len(world.times) - 1
                yield self._after(state, position, outcome, ready, now, text)
                if world.budget.crashes and variant == "normal" and not outcome.broken:
                    crashed = outcome.world._replace(budget=world.budget.less("crashes"))
                    yield self._crashed(state, position, crashed, ready, now, text, retried=True)
                    yield self._crashed(state, position, crashed, ready, now, text, retried=False)

    def _clock_read(self, node: Node, since: int, times: tuple[int, ...]) -> Iterator[tuple[Node, int]]:
        """The operation at its next real call. Between its steps it may have read any time that the clock showed."""
        if node.call != "clock.now":
            yield node, since
            return
        for index in range(since, len(times)):
            yield from self._clock_read(self.machine.answered(node, times[index]), index, times)

    def _after(self, state: State, position: int, outcome: Outcome, node: Node, now: int, text: str) -> Move:
        following = self.machine.follow(node, outcome.answer)
        if not outcome.world.budget.advances:
            # The clock stands still from now on: reading it needs no step of its own.
            while following.call == "clock.now":
                following = self.machine.answered(following, outcome.world.now)
        if following.finished:
            return self._finish(state, position, outcome.world, following, now, text, outcome.broken)
        return Move(self._with(state, position, outcome.world, Running(following, now)), outcome.broken, text)

    def _finish(
        self,
        state: State,
        position: int,
        world: World,
        node: Node,
        now: int,
        text: str,
        broken: str = "",
    ) -> Move:
        if node.error is None or is_permanent(node.error):
            if self.telling:
                text = f"{text}{'; ' if text else ''}{self._name(node)} is done{self._answered(node)}"
            return Move(self._with(state, position, acknowledge(world, node), Running(None, 0)), broken, text)
        if node.attempt >= MOST_ATTEMPTS:
            return Move(
                state, f"never forgotten: {node.event.label} fails again and again: {node.error!r}", text
            )
        again = self.machine.start(node.event, node.attempt + 1, world.now)
        if self.telling:
            text = (
                f"{text}{'; ' if text else ''}{self._name(node)} fails ({node.error!r}) and will be retried"
            )
        return Move(self._with(state, position, world, Running(again, now)), broken, text)

    def _crashed(
        self, state: State, position: int, world: World, node: Node, now: int, text: str, *, retried: bool
    ) -> Move:
        if retried:
            again = self.machine.start(node.event, node.attempt + 1, world.now)
            text = f"{text}; it crashes there, and will be retried" if self.telling else ""
            return Move(self._with(state, position, world, Running(again, now)), "", text)
        text = f"{text}; it crashes there, and nobody retries" if self.telling else ""
        if self._leaves_only_the_sweep(world, node):
            world = world._replace(excused=True)
        return Move(self._with(state, position, world, Running(None, 0)), "", text)

    def _leaves_only_the_sweep(self, world: World, node: Node) -> bool:
        """Whether nobody else makes good that this operation was never finished. A message that only moved the activity
        is made good by the timer before it: it fires, sees the activity, and is set anew. Unless there are warnings: the
        timer may have been set for the end, and the first warning is to come before that."""
        item = self.machine.item(world)
        opened_it = item is not None and item.opening_id.startswith(f"{node.event.label}/")
        has_warnings = item is not None and bool(item.stages)
        return node.event.kind != "touch" or bool(node.event.fields) or opened_it or has_warnings

    def _with(self, state: State, position: int, world: World, running: Running) -> State:
        operations = (*state.operations[:position], running, *state.operations[position + 1 :])
        if len(world.times) == 1:
            return State(world, operations)
        # Times that nobody can read any more are forgotten.
        oldest = len(world.times) - 1
        for each in operations:
            if each is None:
                oldest = 0
            elif each.node is not None and each.since < oldest:
                oldest = each.since
        if oldest:
            world = world._replace(times=world.times[oldest:])
            operations = tuple(
                [
                    each if each is None or each.node is None else Running(each.node, each.since - oldest)
                    for each in operations
                ]
            )
        return State(world, operations)

    # --- what becomes of it ---

    def settle(self, world: World) -> tuple[str, bool]:
        """Let what is under way finish, timers fire and the sweep come, in the order of time. What breaks, and whether
        the sweep was needed."""
        key = world._replace(times=(world.now,), budget=Budget(), moments=())
        found = self._settled.get(key)
        if found is None or self.telling:
            found = self._settled[key] = self._settle(key)
        return found

    def _settle(self, world: World) -> tuple[str, bool]:
        swept, last_sweep = False, 0
        for _ in range(MOST_SETTLING_STEPS):
            world, broken = self._drain(world)
            if world.vanishing:
                world = world._replace(schedule=None, vanishing=False)
            broken = broken or self._broken_at_rest(world)
            if broken:
                return broken, swept
            item = self.machine.item(world)
            wakes_at = None if world.schedule is None or world.schedule[1] else world.schedule[0]
            sweeps_at = (
                None
                if item is None or item.sweep_at is None
                else self._sweep_after(item.sweep_at, world, last_sweep)
            )
            if wakes_at is not None and (sweeps_at is None or wakes_at <= sweeps_at):
                world, broken = self._fire(world, wakes_at)
            elif sweeps_at is not None:
                if not world.excused:
                    why = "owes" if item is not None and item.outbox else "is idle"
                    return f"never forgotten: nothing but the sweep finds what {why}, without a crash", True
                swept, last_sweep = True, sweeps_at
                world = world._replace(times=(max(world.now, sweeps_at),))
                if self.telling:
                    self.lines.append(f"the sweep finds it at {self._when(world.now)}")
                world, broken = self._run(world, Event("sweep", "the rule's"))
            else:
                return self._broken_at_the_end(world), swept
            if broken:
                return broken, swept
        return "never forgotten: it never comes to rest", swept

    def _sweep_after(self, sweep_at: int, world: World, last: int) -> int:
        period = self.machine.settings.sweep_period_minutes * 60_000
        earliest = max(sweep_at, world.now, last + 1)
        return -(-earliest // period) * period

    def _fire(self, world: World, at: int) -> tuple[World, str]:
        world = world._replace(times=(max(world.now, at),), schedule=(at, True))
        if self.telling:
            self.lines.append(f"the schedule fires at {self._when(world.now)}")
        before = self.machine.item(world)
        world, broken = self._run(world, Event("cleanup", "timer"))
        after = self.machine.item(world)
        if not broken and before is not None and after is not None and before.state == "active":
            settings = self.machine.settings
            own = before.idle_timeout_seconds
            timeout = settings.idle_timeout_seconds if own is None else own
            due = -(-max(before.last_activity_at + timeout * 1_000, before.not_before or 0) // 1_000) * 1_000
            if before.stage_at is not None and before.stages:  # a late warning leaves the full notice
                notice = timeout - before.stages[before.stage - 1].after
                due = max(due, -(-(before.stage_at + notice * 1_000) // 1_000) * 1_000)
            is_due = timeout and world.now >= due + settings.clock_skew_allowance_ms
            if is_due and after.state == "active" and after.stage == before.stage:
                return world, "never forgotten: the timer fired when the end was due, and it did not end"
        return world, broken

    def _drain(self, world: World) -> tuple[World, str]:
        broken = ""
        while world.handed and not broken:
            source, *rest = world.handed
            event = Event("cleanup", f"the {source}'s", fields=(("source", source),))
            world, broken = self._run(world._replace(handed=tuple(rest)), event)
        return world, broken

    def _run(self, world: World, event: Event) -> tuple[World, str]:
        """An operation from start to end with nobody in between; retried as Lambda does."""
        machine = self.machine
        for attempt in range(1, RETRIES + 2):
            node = machine.start(event, attempt, world.now)
            while not node.finished:
                if node.call == "clock.now":
                    node = machine.answered(node, world.now)
                    continue
                fired = node.call == "scheduler.update" and world.schedule is not None and world.schedule[1]
                variant = "ignored" if fired else "normal"
                outcome = machine.perform(world, node, variant)
                if self.telling:
                    self.lines.append("    " + self._text(node, variant, outcome))
                if outcome.broken:
                    return outcome.world, outcome.broken
                if outcome.world.item != world.item:
                    outcome = outcome._replace(world=accept(outcome.world, node))
                world, node = outcome.world, machine.follow(node, outcome.answer)
            if node.error is None or is_permanent(node.error):
                return acknowledge(world, node), ""
        return world, f"never forgotten: {event.label} fails again and again: {node.error!r}"

    def _broken_at_rest(self, world: World) -> str:
        item = self.machine.item(world)
        live = any(key == SESSION_KEY for key, _ in world.live)
        sessions = bool(self.machine.settings.session_url_secret_arn)
        return promises.broken_at_rest(item, world.facts, live, sessions)

    def _broken_at_the_end(self, world: World) -> str:
        item = self.machine.item(world)
        if item is not None and item.state != "ended" and self._is_to_end(world):
            return "never forgotten: no timer, and the sweep does not see it"
        if world.schedule is not None and not world.excused:
            return "never forgotten: a fired schedule stays behind for ever"
        committed = self.machine.members(world.committed)
        return promises.broken_at_the_end(item, committed, self.machine.members(world.published))

    def _is_to_end(self, world: World) -> bool:
        item, settings = self.machine.item(world), self.machine.settings
        assert item is not None
        stacks = settings.idle_timeout_seconds if item.state == "active" else settings.pause_timeout_seconds
        own = item.idle_timeout_seconds if item.state == "active" else item.pause_timeout_seconds
        return bool(stacks if own is None else own)

    # --- in plain words ---

    def tell(self, path: tuple[int, ...]) -> list[str]:
        """The run of a seed, a line each."""
        self.telling, self.lines = True, []
        try:
            state, broken = self.begin()
            lines = ["Before:", *self.lines, "Then:"]
            self.lines = []
            for index in path:
                move = list(self.moves(state))[index]
                lines.append(f"  {move.text}")
                state, broken = move.state, move.broken
            if not broken and all(each is not None and each.node is None for each in state.operations):
                broken, _ = self.settle(state.world)
                lines += ["After that:", *(f"  {line}" for line in self.lines)]
            lines.append(f"Broken: {broken}" if broken else "All promises kept.")
            return lines
        finally:
            self.telling, self.lines = False, []

    def _when(self, instant: int) -> str:
        return f"{(instant - self.scenario.start) / 1_000:+.3f} s"

    def _name(self, node: Node) -> str:
        again = f", attempt {node.attempt}" if node.attempt > 1 else ""
        return f"{node.event.kind} {node.event.label}{again}"

    def _answered(self, node: Node) -> str:
        if not isinstance(node.answer, dict):
            return f": {node.error!r}"
        return f": {node.answer.get('result') or node.answer.get('decision')}"

    def _text(self, node: Node, variant: str, outcome: Outcome) -> str:
        answer = self.machine.answers.values[outcome.answer]
        args = ", ".join(self._short(arg) for arg in node.args)
        how = "" if variant == "normal" else f" [{variant}]"
        return f"{self._name(node)}: {node.call}({args}) -> {self._short(answer)}{how}"

    def _short(self, value: object) -> str:
        if isinstance(value, int) and value > self.scenario.start // 2 and not isinstance(value, bool):
            return self._when(value)
        kind = type(value).__name__
        if kind == "Conversation":
            state = f"{value.state} {value.opening_id} v{value.version}"  # type: ignore[attr-defined]
            owes = len(value.outbox)  # type: ignore[attr-defined]
            active = self._when(value.last_activity_at)  # type: ignore[attr-defined]
            return f"<{state}, active {active}{f', owes {owes}' if owes else ''}>"
        if kind in ("Recorded", "Saved", "Read"):
            parts = [self._short(getattr(value, name)) for name in value.__slots__ if name != "hold"]  # type: ignore[attr-defined]
            return f"{kind}({', '.join(parts)})"
        if kind == "Activity":
            return f"at {self._when(value.at)}"  # type: ignore[attr-defined]
        if kind == "Raised":
            return repr(value.error)  # type: ignore[attr-defined]
        if isinstance(value, dict):
            return f"{value.get('type')} {value.get('id')}"
        return repr(value)
