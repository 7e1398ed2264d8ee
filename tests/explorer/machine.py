"""Runs the real protocol one port call at a time, as a graph of immutable states.

An operation between two port calls is a function of its event and of the answers that it got so far. So a running
operation is a *node*: event plus answers; to move it on, the real code runs again from its start, is fed the answers it
had, and stops at the first call that has none yet. Each node is run once and remembered. The outside (tables, schedule,
sessions, topic, clock) is a *world*: a tuple, loaded into the fakes to let one call have its effect, and read back.
"""

import functools
import json
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from types import FunctionType, MethodType, ModuleType, SimpleNamespace, TracebackType
from typing import Any, NamedTuple
from unittest.mock import patch

from pydantic import BaseModel

from idle_timer import deadline, messages
from idle_timer.conversation import Conversation
from idle_timer.errors import InvalidEventError
from idle_timer.ports import Read, Recorded, Saved
from idle_timer.settings import Settings
from idle_timer.timestamps import format_time
from idle_timer.upkeep_ports import Lease, TimetablePage
from tests.explorer import promises
from tests.explorer.liveness import live
from tests.fakes import operations
from tests.fakes.operations import ACCESS, Context, MemoryTimetable, Operations
from tests.fakes.scheduler import Schedule
from tests.fakes.sessions import Session, Tombstone
from tests.fakes.steps import Effect, Steps
from tests.fakes.world import World as Fakes

ID = "c"
SESSION_KEY = f"session:{ID}"
TIMELESS = frozenset({"cleanup", "sweep", "redrive"})  # whose events carry no time
CLOSE_TO_TRIGGER_MS = 60_000  # "if you update a schedule close to its original trigger time…"


class GoneError(Exception):
    """A service that did not answer, and did nothing."""


class Pending(BaseException):
    """Stops an operation at a call that has no answer yet. No `Exception`, so that nobody handles it."""

    def __init__(self, name: str, args: tuple[Any, ...], effect: Effect) -> None:
        self.name, self.call_args, self.effect = name, args, effect


@dataclass(frozen=True)
class Raised:
    error: Exception


TOLD_ONLY = frozenset({"fired_at", "source"})  # in an outcome's proof, for people: nothing depends on it
_PARTS = frozenset(  # without a state of their own
    {"Timers", "Timer", "Cleanup", "Sweep", "Redrive", "Attempts", "guard", "Context"}
)
_STANDING_STILL = SimpleNamespace(
    monotonic=lambda: 0.0, sleep=lambda seconds: None
)  # no Lambda deadline comes nearer
_PLAIN = (str, int, float, bool, type(None), frozenset)
_NAMES = [each.name for each in fields(Conversation)]


@functools.lru_cache(maxsize=4_096)
def _frozen_item(identity: "Identity") -> Hashable:
    return tuple(freeze(getattr(identity.value, name)) for name in _NAMES)


class Identity:
    """Equal only to the very same object: items are compared often, and seldom made."""

    __slots__ = ("value",)

    def __init__(self, value: Conversation) -> None:
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Identity) and self.value is other.value


def freeze(value: Any) -> Hashable:
    """The same for equal values, and hashable."""
    if type(value) in _PLAIN:
        plain: Hashable = value
        return plain
    if type(value) is Conversation:
        return _frozen_item(Identity(value))
    if isinstance(value, list | tuple):
        return tuple([freeze(inner) for inner in value])
    if isinstance(value, dict | Mapping):
        return tuple(sorted([(key, freeze(inner)) for key, inner in value.items() if key not in TOLD_ONLY]))
    if isinstance(value, Raised):
        return (type(value.error).__name__, str(value.error))
    if isinstance(value, BaseModel):
        return value.model_dump_json()
    assert is_dataclass(value)
    names = [each.name for each in fields(value) if each.name not in TOLD_ONLY]
    return (type(value).__name__, *[freeze(getattr(value, name)) for name in names])


class World(NamedTuple):
    """Everything outside the operations. `item`, `published` and `committed` are numbers of interned values."""

    item: int
    schedule: tuple[int, bool] | None  # when, and whether it has fired
    now: int
    live: tuple[tuple[str, str], ...]  # sessions: key, value
    tombstones: tuple[tuple[str, str, str, int], ...]  # key, opening, value, expiry
    back: tuple[tuple[str, str], ...]  # sessions that were restored for good: key, opening
    published: int  # frozenset of (id, type, content)
    committed: int  # frozenset of (id, type): what each transition owes
    handed: tuple[str, ...]  # invocations of cleanup that are on their way: their sources
    acknowledged: (
        int  # newest activity that a touch has answered for, where the item does not show it; else 0
    )
    facts: tuple[tuple[str, int], ...]  # lifecycle events that were accepted: action, when it happened
    lease: tuple[Lease | None, int]  # of the sweep
    vanishing: bool  # a schedule that fired will be deleted by AWS, and with it whatever has its name by then


@dataclass(frozen=True)
class Event:
    """What an operation is called with. `at`: epoch ms; None = when it first starts. `label`: who it is in a report."""

    kind: str
    label: str
    at: int | None = None
    fields: tuple[tuple[str, Any], ...] = ()

    @property
    def is_sent_at_start(self) -> bool:
        return self.at is None and self.kind not in TIMELESS


@dataclass(eq=False)
class Node:
    """An operation, stopped at a port call or finished."""

    event: Event
    log: tuple[Any, ...] = ()
    steps: int = 0  # calls so far, the clock's not counted
    read: tuple[int, ...] = ()  # what the clock said since the last of them
    call: str = ""  # port and method; empty when finished
    port: str = ""
    args: tuple[Any, ...] = ()
    call_number: int = -1  # equal calls have equal numbers
    effect: Effect | None = None
    answer: Any = None  # of a finished one
    error: Exception | None = None
    next: dict[int, "Node"] = field(default_factory=dict)
    unsent: bool = False  # its event is sent at the time that it reads first

    @property
    def finished(self) -> bool:
        return not self.call

    @property
    def fails(self) -> bool:
        """Whether it is over for now, but has to be tried again."""
        return self.error is not None and not isinstance(self.error, InvalidEventError)

    @property
    def last_seen(self) -> Conversation | None:
        """The item as the store has last shown it to this operation."""
        for answer in reversed(self.log):
            match answer:
                case Read(conversation=seen) | Saved(current=seen):
                    return seen
                case Recorded():
                    return answer.after or answer.before
        return None


class Script(Steps):
    """Feeds an operation the answers that it had; stops it at the first call beyond."""

    def __init__(self) -> None:
        super().__init__()
        self.log: tuple[Any, ...] = ()
        self.position = 0
        self.opening_id = ""

    def take(self, name: str, effect: Effect, *args: Any) -> Any:
        if name == "chance.opening_id":
            return self.opening_id
        if name == "chance.jitter":
            return 0.5
        if name == "clock.sleep":
            return None
        if self.position == len(self.log):
            raise Pending(name, args, effect)
        answer = self.log[self.position]
        self.position += 1
        if isinstance(answer, Raised):
            raise answer.error
        return answer


_UNKNOWN: list[Any] = []


class Table(dict[str, Conversation]):
    """The table: of the world, not of what an operation knows."""


def is_frozen(value: Any) -> bool:
    parameters = getattr(type(value), "__dataclass_params__", None)
    return parameters is not None and parameters.frozen


def standing(traceback: TracebackType | None) -> Hashable:
    """Where an operation stands, and all that it knows there: equal for two that will go on alike, whatever they read
    on the way and have no use for."""
    frames: list[Hashable] = []
    while traceback is not None:
        frame = traceback.tb_frame
        if frame.f_globals["__name__"].startswith("idle_timer."):
            names = live(frame.f_code, traceback.tb_lasti)
            known = tuple(
                [(name, _known(value)) for name, value in frame.f_locals.items() if name in names - TOLD_ONLY]
            )
            frames.append((frame.f_code.co_qualname, traceback.tb_lasti, known))
        traceback = traceback.tb_next
    return tuple(frames)


def _known(value: Any) -> Hashable:
    if isinstance(value, BaseModel):
        return type(value).__name__  # settings and events: the same throughout
    if type(value).__name__ in _PARTS or (
        type(value).__module__.startswith("tests.") and not is_frozen(value)
    ):
        return type(value).__name__  # a fake's state is the world's
    if isinstance(value, FunctionType):
        cells = [_known(cell.cell_contents) for cell in value.__closure__ or ()]
        return (value.__qualname__, *cells)
    if isinstance(value, MethodType):
        return value.__qualname__ if hasattr(value, "__qualname__") else repr(value)
    if isinstance(value, ModuleType):
        return value.__name__
    if isinstance(value, set):
        return frozenset(value)
    try:
        return freeze(value)
    except (AssertionError, TypeError):
        _UNKNOWN.append(value)  # kept, so that its id stays its own
        return (type(value).__name__, id(value))


class SteppedTimetable(MemoryTimetable):
    """Its page, too, is a call that others can come before and after."""

    def page(self, token: str | None) -> TimetablePage | None:
        look = super().page
        answer: TimetablePage | None = self.world.steps.take("timetable.page", lambda: look(token), token)
        return answer


class Interned:
    """Values by number: equal ones share one."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._numbers: dict[Hashable, int] = {}

    def number(self, value: Any, key: Hashable) -> int:
        found = self._numbers.get(key)
        if found is None:
            found = self._numbers[key] = len(self.values)
            self.values.append(value)
        return found


class Outcome(NamedTuple):
    """What one call did: the numbers of the world after it and of the answer."""

    world: int
    answer: int
    broken: str  # the promise that it broke, in words; empty = none


class Machine:
    """The fakes, the nodes and the worlds of one exploration."""

    def __init__(self, settings: Settings, wire: Callable[["Machine"], None] = lambda machine: None) -> None:
        """`wire` may exchange parts of the protocol: that is how mutants are made."""
        self.settings = settings
        self.script = Script()
        self.fakes = Fakes(settings, self.script)
        self.fakes.store.items = Table()
        self.operations = Operations(self.fakes)
        timetable = SteppedTimetable(self.fakes)
        self.operations.sweeper = replace(self.operations.sweeper, timetable=timetable)
        self.auto_deletes = False  # ActionAfterCompletion: DELETE, at a moment of AWS's own choosing
        self.lifecycle_has_time = True
        self.merges = True  # whether operations that stand in the same place, knowing the same, are one
        wire(self)
        self.items, self.sets, self.answers, self.calls = Interned(), Interned(), Interned(), Interned()
        self.nothing = self.sets.number(frozenset(), frozenset())
        self.no_item = self.items.number(None, None)
        self._worlds = Interned()
        self._roots: dict[Event, Node] = {}
        self._places: dict[Hashable, Node] = {}
        self._effects: dict[tuple[int, int, str], Outcome] = {}

    # --- operations ---

    def start(self, event: Event) -> Node:
        """An operation before its first call; a retry is the same operation once more."""
        root = self._roots.get(event)
        if root is None:
            unsent = Node(event, call="clock.now", unsent=True)
            root = self._roots[event] = unsent if event.is_sent_at_start else self._run(event, ())
        return root

    def follow(self, node: Node, answer: int) -> Node:
        """The operation after its pending call was answered."""
        found = node.next.get(answer)
        if found is None and node.unsent:
            found = node.next[answer] = self.start(replace(node.event, at=self.answers.values[answer]))
        elif found is None:
            log = (*node.log, self.answers.values[answer])
            if node.call == "clock.now":
                steps, read = node.steps, (*node.read, log[-1])
            else:
                steps, read = node.steps + 1, ()
            found = node.next[answer] = self._run(node.event, log, steps, read)
        return found

    def answered(self, node: Node, value: Any) -> Node:
        return self.follow(node, self.answers.number(value, freeze(value)))

    def _run(
        self,
        event: Event,
        log: tuple[Any, ...],
        steps: int = 0,
        read: tuple[int, ...] = (),
    ) -> Node:
        script = self.script
        script.log, script.position = log, 0
        script.opening_id = (
            event.label
        )  # of a retry, too: a message opens once, or the opening shows that it did twice
        self.fakes.telemetry.values.clear()
        self.operations.functions.called.clear()
        node = Node(event, log, steps, read)
        try:
            node.answer = self._call(event)
            place: Hashable = freeze(node.answer)
        except Pending as pending:
            node.call, node.args, node.effect = pending.name, pending.call_args, pending.effect
            node.port = node.call.partition(".")[0]
            key = (node.call, freeze(node.args), _known(node.effect))
            node.call_number = self.calls.number((node.call, node.args), key)
            place = standing(pending.__traceback__)
            if node.call == "clock.now":
                place = (
                    place,
                    read,
                )  # an expression that reads it twice keeps the first where nobody sees it
        except Exception as error:  # noqa: BLE001 - judged by the promises
            node.error = error
            place = repr(error)
        if not self.merges:
            return node
        return self._places.setdefault((event, node.call_number, place), node)

    def _call(self, event: Event) -> Any:
        given = dict(event.fields)
        if event.kind == "touch":
            assert event.at is not None
            if "stages" in given:
                given["stages"] = [dict(stage) for stage in given["stages"]]
            body = {"conversation_id": ID, "occurred_at": format_time(event.at), **given}
            return self.fakes.timer.touch(messages.parse(messages.TouchEvent, body))
        if event.kind == "cleanup":
            body = {"version": 1, "conversation_id": ID, "source": "schedule", **given}
            return self.fakes.cleaner.cleanup(messages.parse(messages.CleanupEvent, body))
        if event.kind in ("sweep", "redrive"):
            with (
                patch.object(deadline, "time", _STANDING_STILL),
                patch.object(operations, "time", _STANDING_STILL),
            ):
                return self._sweep() if event.kind == "sweep" else self._redrive(given)
        assert event.at is not None
        body = {"action": event.kind, "conversation_id": ID, **given}
        if self.lifecycle_has_time:
            body["occurred_at"] = format_time(event.at)
        until = body.pop("until_ms", None)
        if until is not None:
            body["until"] = format_time(event.at + until)
        return self.fakes.timer.lifecycle(messages.parse(messages.LifecycleEvent, body))

    def _sweep(self) -> Any:
        return self.operations.sweep()

    def _redrive(self, given: Mapping[str, Any]) -> Any:
        left = self.operations.redriver.redrive({"Records": [_record(given)]}, Context())
        if left["batchItemFailures"]:
            raise GoneError("the message stays in the failure queue")
        return {"result": "redriven"}

    # --- the outside ---

    def blank(self, now: int) -> int:
        """The world before anything."""
        live = ((SESSION_KEY, "kept"),)
        nothing = self.nothing
        return self.number(
            World(self.no_item, None, now, live, (), (), nothing, nothing, (), 0, (), (None, 0), False)
        )

    def number(self, world: World) -> int:
        return self._worlds.number(world, world)

    def world(self, number: int) -> World:
        found: World = self._worlds.values[number]
        return found

    def changed(self, number: int, **fields: Any) -> int:
        """Another world."""
        return self.number(self.world(number)._replace(**fields))

    def item(self, world: World) -> Conversation | None:
        found: Conversation | None = self.items.values[world.item]
        return found

    def members(self, number: int) -> frozenset[Any]:
        found: frozenset[Any] = self.sets.values[number]
        return found

    def joined(self, number: int, *more: Hashable) -> int:
        union = self.members(number) | set(more)
        return self.sets.number(union, union)

    def perform(self, world: int, node: Node, variant: str) -> Outcome:
        """Let the pending call happen, in one of its variants (see `variants`)."""
        key = (world, node.call_number, variant)
        found = self._effects.get(key)
        if found is None:
            found = self._effects[key] = self._perform(world, node, variant)
        if node.call == "sessions.remove" and not found.broken:
            return found._replace(broken=promises.broken_by_removal(node.args[1], node.last_seen))
        return found

    def _perform(self, number: int, node: Node, variant: str) -> Outcome:
        if variant in INSTEAD:
            return self._answering(number, INSTEAD[variant])
        if variant == "gone":
            return self._answering(number, Raised(GoneError(node.call)))
        world = self.world(number)
        self._load(world)
        assert node.effect is not None
        try:
            value = node.effect()
        except Exception as error:  # noqa: BLE001 - the operation is to see it
            value = Raised(error)
        after, broken = self._unload(world)
        if variant == "old fires":
            after = self.fired(after)
        return self._answering(self.number(after), value, broken)

    def _answering(self, world: int, value: Any, broken: str = "") -> Outcome:
        return Outcome(world, self.answers.number(value, freeze(value)), broken)

    def _load(self, world: World) -> None:
        fakes, item = self.fakes, self.item(world)
        # In place: an effect may hold on to the very dictionary.
        fakes.store.items.clear()
        if item is not None:
            fakes.store.items[ID] = item
        fakes.scheduler.schedules.clear()
        if world.schedule is not None:
            fakes.scheduler.schedules[ID] = Schedule(*world.schedule)
        fakes.clock.time = world.now
        fakes.sessions.live = {key: Session(value) for key, value in world.live}
        fakes.sessions.tombstones = {
            (key, opening): Tombstone(value, None, until) for key, opening, value, until in world.tombstones
        }
        fakes.sessions.back = set(world.back)
        fakes.outcomes.published = []
        fakes.handover.handed = []
        self.operations.control.lease, self.operations.control.until = world.lease

    def _unload(self, world: World) -> tuple[World, str]:
        fakes = self.fakes
        before, after = self.item(world), fakes.store.items.get(ID)
        schedule = fakes.scheduler.schedules.get(ID)
        broken = ""
        committed = world.committed
        if after is not before and after != before:
            broken = promises.broken_by_commit(before, after, world.now, world.acknowledged, self.settings)
            committed = self.joined(committed, *promises.owed_for(before, after))
        published = world.published
        for outcome in fakes.outcomes.published:
            content = freeze(outcome)
            broken = broken or promises.broken_by_outcome(
                outcome, content, self.members(committed), self.members(published)
            )
            published = self.joined(published, (outcome["id"], outcome["type"], content))
        handed = world.handed
        for _, source in fakes.handover.handed:
            handed = handing(handed, source)
        moved = world._replace(
            item=self.items.number(after, freeze(after)),
            schedule=None if schedule is None else (schedule.at, schedule.fired),
            live=tuple(sorted((key, session.value) for key, session in fakes.sessions.live.items())),
            tombstones=tuple(
                sorted(
                    (key, opening, tombstone.value, tombstone.expires_at)
                    for (key, opening), tombstone in fakes.sessions.tombstones.items()
                )
            ),
            back=tuple(sorted(fakes.sessions.back)),
            published=published,
            committed=committed,
            handed=handed,
            lease=(self.operations.control.lease, self.operations.control.until),
        )
        return self.acknowledged(moved, world.acknowledged), broken

    def acknowledged(self, world: World, at: int) -> World:
        """After a touch has answered for activity at that time; what the item shows need not be remembered."""
        item, newest = self.item(world), max(at, world.acknowledged)
        return world._replace(
            acknowledged=0 if item is not None and newest <= item.last_activity_at else newest
        )

    def moments(self, world: World) -> Iterator[tuple[int, str]]:
        """Where it can make a difference that the clock stands."""
        item, settings = self.item(world), self.settings
        if item is not None and item.state == "active":
            own = item.idle_timeout_seconds
            timeout = settings.idle_timeout_seconds if own is None else own
            too_early = item.last_activity_at + timeout * 1_000 + settings.clock_skew_allowance_ms - 1
            yield too_early, "too early"
        if world.schedule is not None:
            yield world.schedule[0], "timer"

    def fired(self, world: World) -> World:
        """The schedule has fired: cleanup is on its way."""
        assert world.schedule is not None
        return world._replace(
            schedule=(world.schedule[0], True),
            handed=handing(world.handed, "schedule"),
            vanishing=self.auto_deletes,
        )

    def answered_for(self, number: int, node: Node) -> int:
        """The world, which may rely on what an operation has answered."""
        event, answer = node.event, node.answer
        if event.at is None or not isinstance(answer, dict):
            return number
        if event.kind == "touch":
            if answer["result"] not in ("opened", "recorded", "reopened", "repeat", "paused"):
                return number
            return self.number(self.acknowledged(self.world(number), event.at))
        return self._accepted(number, event) if answer.get("result") in ("applied", "repeat") else number

    def noticed(self, before: int, after: int, event: Event) -> int:
        """The world after a call of an operation: once its lifecycle event has changed the item, it is a fact."""
        changed = self.world(before).item != self.world(after).item
        return self._accepted(after, event) if changed else after

    def _accepted(self, number: int, event: Event) -> int:
        if event.kind not in ("pause", "resume", "end"):
            return number
        assert event.at is not None
        facts = {*self.world(number).facts, (event.kind, event.at)}
        return self.changed(number, facts=tuple(sorted(facts)))

    # --- what may happen at a call ---

    def variants(self, number: int, node: Node, *, hostile: bool, gone: bool) -> list[str]:
        """`normal`; what AWS leaves unstated, which may always happen; and what is hostile."""
        possible, world = ["normal"], self.world(number)
        if node.call == "scheduler.update" and world.schedule is not None:
            at, fired = world.schedule
            if fired:
                possible.append("ignored")  # unstated: whether an update revives a fired schedule
            elif at <= world.now + CLOSE_TO_TRIGGER_MS:
                possible.append("old fires")  # troubleshooting page: the firing may use the old definition
        if hostile:
            if node.call in ("scheduler.create", "scheduler.update"):
                possible += ["conflict", "throttled", "gone"]
            elif node.call == "scheduler.delete":
                possible.append("refused")
            elif gone:
                possible.append("gone")
        return possible


def _record(event: Mapping[str, Any]) -> dict[str, Any]:
    """A message of the failure queue: what Scheduler could not deliver, or a touch that failed for good."""
    body: dict[str, Any] = {"version": 1, "conversation_id": ID, "source": "schedule"}
    if "occurred_at" in event:
        body = {
            "requestContext": {"functionArn": ACCESS["touch_function_arn"]},
            "requestPayload": {"conversation_id": ID, "occurred_at": format_time(event["occurred_at"])},
        }
    return {
        "messageId": "m",
        "receiptHandle": "r",
        "body": json.dumps(body),
        "attributes": {"SentTimestamp": "0"},
    }


FREE = frozenset({"normal", "ignored", "old fires"})
INSTEAD: dict[str, Any] = {
    "conflict": "conflict",
    "throttled": "throttled",
    "refused": False,
    "ignored": "done",
}
"""Variants in which the call does nothing -> what is answered."""


def handing(handed: tuple[str, ...], source: str) -> tuple[str, ...]:
    """One more invocation under way; a second equal one would do what the first does, with nobody in between."""
    return handed if source in handed else tuple(sorted((*handed, source)))
