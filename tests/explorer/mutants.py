"""The protocol with one thing wrong. Each is a mistake that somebody could make, and that the explorer has to notice."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any, cast
from unittest.mock import patch

from idle_timer import conversation as rules
from idle_timer import messages
from idle_timer.cleanup import Cleanup
from idle_timer.conversation import Conversation, Entry, Hold, Message
from idle_timer.ports import Activity, Outcomes, Read, Recorded, Saved, ScheduleAnswer, Scheduler, Store
from idle_timer.settings import Settings
from idle_timer.timer import Timer, Timers, TimerWord
from idle_timer.timestamps import floor_to
from tests.explorer.machine import Machine
from tests.fakes.sessions import MemorySessions


@contextmanager
def nothing_patched() -> Iterator[None]:
    yield


@dataclass(frozen=True)
class Mutant:
    """`caught_in`: a scenario that shows it; `breaks`: the promise that it breaks there."""

    name: str
    caught_in: str
    breaks: str
    wire: Callable[[Machine], None] = lambda machine: None
    patches: Callable[[], Any] = nothing_patched

    @contextmanager
    def at_large(self) -> Iterator[Callable[[Machine], None]]:
        """What the machine is to be wired with, for as long as the mutant lives."""
        with self.patches():
            yield self.wire


def like[Part](part: Any, kind: type[Part], **changed: Any) -> Part:
    """The same part of the protocol, as another class or with other ports."""
    given = {each.name: getattr(part, each.name) for each in fields(part)}
    return kind(**(given | changed))


# --- ports in between ------------------------------------------------------------------------------------------------


@dataclass
class Through:
    """A store that does what the one behind it does."""

    store: Store

    def record(self, activity: Activity) -> Recorded:
        return self.store.record(activity)

    def read(self, conversation_id: str) -> Read:
        return self.store.read(conversation_id)

    def save(self, after: Conversation, seen: Conversation | None) -> Saved:
        return self.store.save(after, seen)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


@dataclass
class LateDelete(Through):
    """Deletes the schedule only after the commit."""

    scheduler: Scheduler
    waiting: bool = False

    def delete(self, conversation_id: str) -> bool:
        self.waiting = True
        return True

    def create(self, conversation_id: str, at: int) -> ScheduleAnswer:
        return self.scheduler.create(conversation_id, at)

    def update(self, conversation_id: str, at: int) -> ScheduleAnswer:
        return self.scheduler.update(conversation_id, at)

    def save(self, after: Conversation, seen: Conversation | None) -> Saved:
        saved = self.store.save(after, seen)
        if self.waiting and saved.done:
            self.waiting = False
            self.scheduler.delete(after.conversation_id)
        return saved


@dataclass
class NoReArm(Through):
    """Once a commit is lost, nothing is armed any more."""

    scheduler: Scheduler
    lost: bool = False

    def delete(self, conversation_id: str) -> bool:
        self.lost = False
        return self.scheduler.delete(conversation_id)

    def create(self, conversation_id: str, at: int) -> ScheduleAnswer:
        return "done" if self.lost else self.scheduler.create(conversation_id, at)

    def update(self, conversation_id: str, at: int) -> ScheduleAnswer:
        return "done" if self.lost else self.scheduler.update(conversation_id, at)

    def save(self, after: Conversation, seen: Conversation | None) -> Saved:
        saved = self.store.save(after, seen)
        self.lost = self.lost or not saved.done
        return saved


@dataclass
class PublishesDirectly(Through):
    """Commits without an outbox, then publishes."""

    outcomes: Outcomes

    def save(self, after: Conversation, seen: Conversation | None) -> Saved:
        known = seen.outbox if seen else {}
        new = {
            key: entry for key, entry in after.outbox.items() if entry.kind == "outcome" and key not in known
        }
        rest = {key: entry for key, entry in after.outbox.items() if key not in new}
        saved = self.store.save(replace(after, outbox=rest), seen)
        if saved.done:
            for entry in new.values():
                self.outcomes.publish(messages.outcome(after.conversation_id, entry))
        return saved


@dataclass
class Unconditional(Through):
    """Writes over whatever is there."""

    items: dict[str, Conversation] = field(default_factory=dict)
    machine: Machine | None = None

    def save(self, after: Conversation, seen: Conversation | None) -> Saved:
        fakes = cast("Machine", self.machine).fakes

        def put() -> Saved:
            fakes.store.items[after.conversation_id] = after
            return Saved(True, after)

        answer: Saved = fakes.steps.take("store.save", put, after, seen)
        return answer


# --- parts with one method wrong -------------------------------------------------------------------------------------


class NoOpeningCheck(Cleanup):
    def _still_ended(self, conversation_id: str, entry: Entry) -> bool:
        return True


class NeverLooksAgain(Timers):
    def arm_and_look_again(self, conversation: Conversation, hold: Hold, *, first: Any) -> TimerWord:
        return self.arm(conversation, first=first)


class RepeatArmsNothing(Timer):
    def _arm_for_message(
        self, message: Message, before: Conversation | None, result: str, after: Conversation
    ) -> TimerWord:
        return "kept" if result == "repeat" else super()._arm_for_message(message, before, result, after)


def late_in_cleanup(machine: Machine) -> None:
    fakes = machine.fakes
    late = LateDelete(fakes.store, fakes.scheduler)
    timers = like(fakes.cleaner.timers, Timers, store=late, scheduler=late)
    fakes.cleaner = like(fakes.cleaner, Cleanup, timers=timers)


def no_re_arm(machine: Machine) -> None:
    fakes = machine.fakes
    lazy = NoReArm(fakes.store, fakes.scheduler)
    timers = like(fakes.cleaner.timers, Timers, store=lazy, scheduler=lazy)
    fakes.cleaner = like(fakes.cleaner, Cleanup, timers=timers)


def no_outbox(machine: Machine) -> None:
    fakes = machine.fakes
    timers = like(fakes.cleaner.timers, Timers, store=PublishesDirectly(fakes.store, fakes.outcomes))
    fakes.cleaner = like(fakes.cleaner, Cleanup, timers=timers)


def unconditional(machine: Machine) -> None:
    fakes = machine.fakes
    store = Unconditional(fakes.store, machine=machine)
    fakes.cleaner = like(fakes.cleaner, Cleanup, timers=like(fakes.cleaner.timers, Timers, store=store))


def cleaner_as(kind: type[Cleanup]) -> Callable[[Machine], None]:
    def wire(machine: Machine) -> None:
        machine.fakes.cleaner = like(machine.fakes.cleaner, kind)

    return wire


def never_looks_again(machine: Machine) -> None:
    timer = machine.fakes.timer
    machine.fakes.timer = like(timer, Timer, timers=like(timer.timers, NeverLooksAgain))


def repeat_arms_nothing(machine: Machine) -> None:
    machine.fakes.timer = like(machine.fakes.timer, RepeatArmsNothing)


def auto_deleting(machine: Machine) -> None:
    machine.auto_deletes = True


def lifecycle_without_time(machine: Machine) -> None:
    machine.lifecycle_has_time = False


def truncated(due: int, settings: Settings, now: int) -> bool:
    return now // 1_000 > (due + settings.clock_skew_allowance_ms) // 1_000


def unmarked(self: MemorySessions, session_key: str, opening_id: str) -> bool:
    came_back = restore(self, session_key, opening_id)
    self.back.clear()
    return came_back


restore = MemorySessions.restore

nothing_wrong = Mutant("", "", "")

MUTANTS = (
    Mutant(
        "cleanup commits before it deletes", "touch+cleanup@fired/00000", "never forgotten", late_in_cleanup
    ),
    Mutant("no re-arm after a lost commit", "touch+cleanup@fired/00101", "never forgotten", no_re_arm),
    Mutant("auto-deleting schedules", "touch+cleanup@fired/00000", "never forgotten", auto_deleting),
    Mutant(
        "no opening check", "touch+cleanup+cleanup@fired/00000", "nothing lost", cleaner_as(NoOpeningCheck)
    ),
    Mutant(
        "a restored session is not marked",
        "touch+cleanup+cleanup@fired/00101",
        "nothing lost",
        patches=lambda: patch.object(MemorySessions, "restore", unmarked),
    ),
    Mutant(
        "a lifecycle event without its time",
        "pause+resume@active/00000",
        "duplicates and reordering are harmless",
        lifecycle_without_time,
    ),
    Mutant(
        "idle compared with > on a truncated second",
        "touch+cleanup@active/00000",
        "never forgotten",
        patches=lambda: patch.object(rules, "is_due", truncated),
    ),
    Mutant(
        "the due time rounded down",
        "cleanup+cleanup@active/20002",
        "never early",
        patches=lambda: patch.object(rules, "ceil_to", floor_to),
    ),
    Mutant("no outbox", "touch+cleanup@fired/00101", "nothing lost", no_outbox),
    Mutant("a write without its condition", "touch+cleanup@fired/00000", "once", unconditional),
    Mutant(
        "nobody looks again after arming",
        "longer_touch+shorter_touch@active/00000",
        "never forgotten",
        never_looks_again,
    ),
    Mutant(
        "a repeated message arms nothing", "touch+touch@new/00101", "never forgotten", repeat_arms_nothing
    ),
)


def mutant_named(name: str) -> Mutant:
    """That one, or nothing wrong."""
    return next((each for each in MUTANTS if each.name == name), nothing_wrong)
