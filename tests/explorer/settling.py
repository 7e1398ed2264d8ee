"""What becomes of a world in which nothing is under way: timers fire and the sweep comes, in the order of time."""

from tests.explorer import promises
from tests.explorer.machine import SESSION_KEY, Event, Machine, World
from tests.explorer.words import Words

MOST_STEPS = 40
RETRIES = 2  # Lambda's


class Settling:
    """Of one machine."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.words: Words | None = None  # while telling
        self.lines: list[str] = []  # what was told
        self._settled: dict[tuple[int, bool], tuple[str, bool]] = {}

    def settle(self, world: int, excused: bool) -> tuple[str, bool]:
        """What breaks, and whether the sweep was needed. `excused`: whether it may be."""
        found = self._settled.get((world, excused))
        if found is None or self.words is not None:
            found = self._settled[world, excused] = self._settle(world, excused)
        return found

    def _settle(self, number: int, excused: bool) -> tuple[str, bool]:
        machine = self.machine
        swept, last_sweep = False, 0
        for _ in range(MOST_STEPS):
            number, broken = self.drain(number)
            if machine.world(number).vanishing:
                number = machine.changed(number, schedule=None, vanishing=False)
            world = machine.world(number)
            broken = broken or self._broken_at_rest(world)
            if broken:
                return broken, swept
            item = machine.item(world)
            wakes_at = None if world.schedule is None or world.schedule[1] else world.schedule[0]
            sweeps_at = (
                None
                if item is None or item.sweep_at is None
                else self._sweep_after(item.sweep_at, world, last_sweep)
            )
            if wakes_at is not None and (sweeps_at is None or wakes_at <= sweeps_at):
                number, broken = self._fire(number, wakes_at)
            elif sweeps_at is not None:
                if not excused:
                    why = "owes" if item is not None and item.outbox else "is idle"
                    return f"never forgotten: nothing but the sweep finds what {why}, without a crash", True
                swept, last_sweep = True, sweeps_at
                number = machine.changed(number, now=max(world.now, sweeps_at))
                self._tell("the sweep finds it at", machine.world(number).now)
                number, broken = self.run(number, Event("sweep", "the rule's"))
            else:
                return self._broken_at_the_end(world, excused), swept
            if broken:
                return broken, swept
        return "never forgotten: it never comes to rest", swept

    def _sweep_after(self, sweep_at: int, world: World, last: int) -> int:
        period = self.machine.settings.sweep_period_minutes * 60_000
        earliest = max(sweep_at, world.now, last + 1)
        return -(-earliest // period) * period

    def _fire(self, number: int, at: int) -> tuple[int, str]:
        machine, settings = self.machine, self.machine.settings
        world = machine.world(number)
        now = max(world.now, at)
        self._tell("the schedule fires at", now)
        before = machine.item(world)
        number, broken = self.run(
            machine.changed(number, now=now, schedule=(at, True)), Event("cleanup", "timer")
        )
        after = machine.item(machine.world(number))
        if not broken and before is not None and after is not None and before.state == "active":
            own = before.idle_timeout_seconds
            timeout = settings.idle_timeout_seconds if own is None else own
            due = -(-max(before.last_activity_at + timeout * 1_000, before.not_before or 0) // 1_000) * 1_000
            if before.stage_at is not None and before.stages:  # a late warning leaves the full notice
                notice = timeout - before.stages[before.stage - 1].after
                due = max(due, -(-(before.stage_at + notice * 1_000) // 1_000) * 1_000)
            is_due = timeout and now >= due + settings.clock_skew_allowance_ms
            if is_due and after.state == "active" and after.stage == before.stage:
                return number, "never forgotten: the timer fired when the end was due, and it did not end"
        return number, broken

    def drain(self, world: int) -> tuple[int, str]:
        """Let cleanup run for everything that was handed over."""
        broken = ""
        while (handed := self.machine.world(world).handed) and not broken:
            source, *rest = handed
            event = Event("cleanup", f"the {source}'s", fields=(("source", source),))
            world, broken = self.run(self.machine.changed(world, handed=tuple(rest)), event)
        return world, broken

    def run(self, world: int, event: Event) -> tuple[int, str]:
        """An operation from start to end with nobody in between; retried as Lambda does."""
        machine = self.machine
        for _ in range(RETRIES + 1):
            node = machine.start(event)
            while not node.finished:
                there = machine.world(world)
                if node.call == "clock.now":
                    node = machine.answered(node, there.now)
                    continue
                fired = node.call == "scheduler.update" and there.schedule is not None and there.schedule[1]
                variant = "ignored" if fired else "normal"
                outcome = machine.perform(world, node, variant)
                if self.words is not None:
                    self.lines.append("    " + self.words.call(node, variant, outcome))
                if outcome.broken:
                    return outcome.world, outcome.broken
                world = machine.noticed(world, outcome.world, node.event)
                node = machine.follow(node, outcome.answer)
            if not node.fails:
                return machine.answered_for(world, node), ""
            event = node.event
        return world, f"never forgotten: {event.label} fails again and again: {node.error!r}"

    def _broken_at_rest(self, world: World) -> str:
        item = self.machine.item(world)
        live = any(key == SESSION_KEY for key, _ in world.live)
        sessions = bool(self.machine.settings.session_url_secret_arn)
        return promises.broken_at_rest(item, world.facts, live, sessions)

    def _broken_at_the_end(self, world: World, excused: bool) -> str:
        item = self.machine.item(world)
        if item is not None and item.state != "ended" and self._is_to_end(world):
            return "never forgotten: no timer, and the sweep does not see it"
        if world.schedule is not None and not excused:
            return "never forgotten: a fired schedule stays behind for ever"
        committed = self.machine.members(world.committed)
        return promises.broken_at_the_end(item, committed, self.machine.members(world.published))

    def _is_to_end(self, world: World) -> bool:
        item, settings = self.machine.item(world), self.machine.settings
        assert item is not None
        stacks = settings.idle_timeout_seconds if item.state == "active" else settings.pause_timeout_seconds
        own = item.idle_timeout_seconds if item.state == "active" else item.pause_timeout_seconds
        return bool(stacks if own is None else own)

    def _tell(self, what: str, instant: int) -> None:
        if self.words is not None:
            self.lines.append(f"{what} {self.words.when(instant)}")
