"""What one operation may do next in a world: its turns, worked out once and remembered."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from tests.explorer.machine import FREE, Event, Machine, Node
from tests.explorer.rights import CRASH, GONE, HOSTILE, Spending
from tests.explorer.settling import Settling
from tests.explorer.words import Words, name, says

OVER = Node(Event("", ""))
"""Where an operation stands that is over."""

A_LONG_TIME_MS = 10**10
MEANS = HOSTILE | GONE | CRASH
"""The rights that decide which turns there are."""

type Ending = Literal["", "done", "fails", "crashes, retried", "crashes, not retried"]


class Turn(NamedTuple):
    """A call, or what there is left to do without one. Afterwards the operation stands at `node` in `world`."""

    world: int
    node: Node
    broken: str
    spends: Spending | None
    excuses: bool  # only the sweep may be left to make good what has happened
    sees_now: bool  # the operation has read the clock as it stands, and it makes a difference
    caller: Node
    variant: str  # of its call; empty: there was none
    ending: Ending
    ready: Node  # where it stands if it reads the clock at once


class Turns:
    """Of all operations of a machine."""

    def __init__(self, machine: Machine, settling: Settling) -> None:
        self.machine, self.settling = machine, settling
        self._turns: dict[tuple[int, Node, int, tuple[int, ...]], list[Turn]] = {}
        self._recovering: dict[tuple[int, Event], bool] = {}

    def of(self, world: int, node: Node, means: int, earlier: tuple[int, ...]) -> list[Turn]:
        """`earlier`: what the clock showed since the operation's last step. It may have read any of it by now."""
        key = (world, node, means, earlier)
        found = self._turns.get(key)
        if found is None:
            found = self._turns[key] = self._all(world, node, means, earlier)
        return found

    def _all(self, world: int, node: Node, means: int, earlier: tuple[int, ...]) -> list[Turn]:
        turns: list[Turn] = []
        if node.call != "clock.now":
            self._call(world, node, means, not earlier, turns)
            return turns
        times = (*earlier, self.machine.world(world).now)
        callers: dict[Node, bool] = {}
        for caller, read in self._clock_read(node, 0, times):
            callers[caller] = callers.get(caller, True) and read == len(times) - 1
        for caller, sees_now in callers.items():
            self._call(world, caller, means, sees_now, turns)
        return turns

    def _clock_read(self, node: Node, since: int, times: tuple[int, ...]) -> Iterator[tuple[Node, int]]:
        """The operation at its next real call, and which of the times it read last."""
        if node.call != "clock.now":
            yield node, since
            return
        for index in range(since, len(times)):
            yield from self._clock_read(self.machine.answered(node, times[index]), index, times)

    def _call(self, world: int, caller: Node, means: int, sees_now: bool, turns: list[Turn]) -> None:
        machine = self.machine
        if caller.finished:
            turns.append(self._after(world, caller, "", None, sees_now, caller, ""))
            return
        for variant in machine.variants(world, caller, hostile=means & HOSTILE > 0, gone=means & GONE > 0):
            outcome = machine.perform(world, caller, variant)
            after = machine.noticed(world, outcome.world, caller.event)
            following = machine.follow(caller, outcome.answer)
            spends: Spending | None = None if variant in FREE else "hostile"
            sees = sees_now or variant == "old fires"
            turns.append(self._after(after, following, outcome.broken, spends, sees, caller, variant))
            if means & CRASH and variant == "normal" and not outcome.broken:
                again = machine.start(caller.event)
                left = self._leaves_only_the_sweep(after, caller.event)
                ready = self.having_read(again, machine.world(after).now)
                turns += (
                    Turn(
                        after, again, "", "crashes", False, sees, caller, variant, "crashes, retried", ready
                    ),
                    Turn(
                        after, OVER, "", "crashes", left, sees, caller, variant, "crashes, not retried", OVER
                    ),
                )

    def _after(
        self,
        world: int,
        node: Node,
        broken: str,
        spends: Spending | None,
        sees_now: bool,
        caller: Node,
        variant: str,
    ) -> Turn:
        ending: Ending = ""
        node = self._if_nothing_is_left(node, world)
        if node.fails:
            if not broken and not self._recovers(world, node.event):
                broken = f"never forgotten: {node.event.label} fails again and again: {node.error!r}"
            node, ending = self.machine.start(node.event), "fails"
        elif node.finished:
            world, node, ending = self.machine.answered_for(world, node), OVER, "done"
        ready = self.having_read(node, self.machine.world(world).now)
        excuses = variant == "refused"
        return Turn(world, node, broken, spends, excuses, sees_now, caller, variant, ending, ready)

    def having_read(self, node: Node, now: int) -> Node:
        """The operation, which waits for the clock no more."""
        while node.call == "clock.now":
            node = self.machine.answered(node, now)
        return node

    def told(self, world: int, turn: Turn, words: Words) -> str:
        """In plain words. `world`: before it."""
        last, parts = turn.caller, []
        if turn.variant:
            outcome = self.machine.perform(world, turn.caller, turn.variant)
            last = self._if_nothing_is_left(self.machine.follow(turn.caller, outcome.answer), outcome.world)
            parts.append(words.call(turn.caller, turn.variant, outcome))
        match turn.ending:
            case "done":
                parts.append(f"{name(last.event)} is done{says(last)}")
            case "fails":
                parts.append(f"{name(last.event)} fails ({last.error!r}) and will be retried")
            case "crashes, retried":
                parts.append("it crashes there, and will be retried")
            case "crashes, not retried":
                parts.append("it crashes there, and nobody retries")
        return "; ".join(parts)

    def _if_nothing_is_left(self, node: Node, world: int) -> Node:
        """The operation at its end, if nothing but reading the clock for its answer keeps it from that."""
        now, ends = self.machine.world(world).now, []
        for instant in (now, now + A_LONG_TIME_MS):
            end = node
            while end.call == "clock.now" and not end.unsent:
                end = self.machine.answered(end, instant)
            ends.append(end)
        return ends[0] if all(end.finished and not end.fails for end in ends) else node

    def _recovers(self, world: int, event: Event) -> bool:
        """Whether the operation works if it is tried again and nobody disturbs it."""
        found = self._recovering.get((world, event))
        if found is None:
            _, broken = self.settling.run(world, event)
            found = self._recovering[world, event] = "fails again and again" not in broken
        return found

    def _leaves_only_the_sweep(self, world: int, event: Event) -> bool:
        """Whether nobody else makes good that this operation was never finished. A message that only moved the activity
        is made good by the timer before it: it fires, sees the activity, and is set anew. Unless there are warnings: the
        timer may have been set for the end, and the first warning is to come before that."""
        item = self.machine.item(self.machine.world(world))
        opened_it = item is not None and item.opening_id == event.label
        has_warnings = item is not None and bool(item.stages)
        return event.kind != "touch" or bool(event.fields) or opened_it or has_warnings
