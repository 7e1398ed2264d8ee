"""Runs the real protocol one port call at a time, as a graph of immutable states.

An operation between two port calls is a function of its event and of the answers that it got so far. So a running
operation is a *node*: event plus answers; to move it on, the real code runs again from its start, is fed the answers it
had, and stops at the first call that has none yet. Each node is run once and remembered. The outside (tables, schedule,
sessions, topic, clock) is a *world*: a tuple, loaded into the fakes to let one call have its effect, and read back.
"""

import functools
import json
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from types import FunctionType, MethodType, ModuleType, SimpleNamespace, TracebackType
from typing import Any, NamedTuple
from unittest.mock import patch

from pydantic import BaseModel

from idle_timer import deadline, messages
from idle_timer.conversation import Conversation
from idle_timer.errors import InvalidEventError
from idle_timer.settings import Settings
from idle_timer.timestamps import format_time
from idle_timer.upkeep_ports import Lease, TimetablePage
from tests.explorer import promises
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
        return tuple(sorted([(key, freeze(inner)) for key, inner in value.items()]))
    if isinstance(value, Raised):
        return (type(value.error).__name__, str(value.error))
    if isinstance(value, BaseModel):
        return value.model_dump_json()
    assert is_dataclass(value)
    return (type(value).__name__, *[freeze(getattr(value, each.name)) for each in fields(value)])


class Budget(NamedTuple):
    """What may still happen in a run: at most so much of each, and at most `together` in all.

    `gone`: whether hostile answers are also calls that fail, at every port. A call that fails makes its operation fail,
    and it is retried: the same as a crash after the call before. So it is more of the same, and only for the deep set.
    """

    advances: int = 0
    hostile: int = 0
    crashes: int = 0
    gone: int = 0
    together: int = 0

    def less(self, what: str) -> "Budget":
        """After one of them has happened."""
        if self.together == 1:
            return NOTHING_MORE
        return self._replace(**{what: getattr(self, what) - 1, "together": self.together - 1})


NOTHING_MORE = Budget()


class _World(NamedTuple):
    """Everything outside the operations. `item`, `published` and `committed` are numbers of interned values."""

    item: int
    schedule: tuple[int, bool] | None  # when, and whether it has fired
    times: tuple[int, ...]  # what the clock showed so far, now last
    live: tuple[tuple[str, str], ...]  # sessions: key, value
    tombstones: tuple[tuple[str, str, str, int], ...]  # key, opening, value, expiry
    published: int  # frozenset of (id, type, content)
    committed: int  # frozenset of (id, type): what each transition owes
    handed: tuple[str, ...]  # invocations of cleanup that are on their way: their sources
    acknowledged: int  # newest activity that a touch has answered for
    facts: tuple[tuple[str, int], ...]  # lifecycle events that were accepted: action, when it happened
    lease: tuple[Lease | None, int]  # of the sweep
    moments: tuple[tuple[int, str], ...]  # where it can make a difference that the clock stands
    vanishing: bool  # a schedule that fired will be deleted by AWS, and with it whatever has its name by then
    excused: bool  # something happened that only the sweep can make good
    budget: Budget


class World(_World):
    """Hashed once: it is part of many keys."""

    _hash: int

    @property
    def now(self) -> int:
        return self.times[-1]

    def __hash__(self) -> int:
        try:
            return self._hash
        except AttributeError:
            self._hash = super().__hash__()
            return self._hash


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
    """An operation, stopped at a port call or finished. `number` counts all nodes of a machine."""

    number: int
    event: Event
    attempt: int
    log: tuple[Any, ...]
    steps: int  # calls so far, the clock's not counted
    read: tuple[int, ...]  # what the clock said since the last of them
    call: str = ""  # port and method; empty when finished
    args: tuple[Any, ...] = ()
    call_number: int = -1  # equal calls have equal numbers
    effect: Effect | None = None
    answer: Any = None  # of a finished one
    error: Exception | None = None
    next: dict[int, "Node"] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        return not self.call


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
            known = tuple([(name, _known(value)) for name, value in frame.f_locals.items()])
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
    """What one call did: the world after it, and the number of the answer."""

    world: World
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
        self._roots: dict[tuple[Event, int, int], Node] = {}
        self._places: dict[Hashable, Node] = {}
        self.runs = 0
        self._effects: dict[tuple[World, int, str], Outcome] = {}

    # --- operations ---

    def start(self, event: Event, attempt: int, now: int) -> Node:
        """An operation before its first call; from here on its event has its time, retries included."""
        key = (event, attempt, now if event.is_sent_at_start else 0)
        root = self._roots.get(key)
        if root is None:
            bound = replace(event, at=now) if event.is_sent_at_start else event
            root = self._roots[key] = self._run(bound, attempt, ())
        return root

    def follow(self, node: Node, answer: int) -> Node:
        """The operation after its pending call was answered."""
        found = node.next.get(answer)
        if found is None:
            log = (*node.log, self.answers.values[answer])
            if node.call == "clock.now":
                steps, read = node.steps, (*node.read, log[-1])
            else:
                steps, read = node.steps + 1, ()
            found = node.next[answer] = self._run(node.event, node.attempt, log, steps, read)
        return found

    def answered(self, node: Node, value: Any) -> Node:
        return self.follow(node, self.answers.number(value, freeze(value)))

    def _run(
        self,
        event: Event,
        attempt: int,
        log: tuple[Any, ...],
        steps: int = 0,
        read: tuple[int, ...] = (),
    ) -> Node:
        script = self.script
        script.log, script.position = log, 0
        script.opening_id = f"{event.label}/{attempt}"
        self.fakes.telemetry.values.clear()
        self.operations.functions.called.clear()
        self.runs += 1
        node = Node(self.runs, event, attempt, log, steps, read)
        try:
            node.answer = self._call(event)
            place: Hashable = freeze(node.answer)
        except Pending as pending:
            node.call, node.args, node.effect = pending.name, pending.call_args, pending.effect
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
        return self._places.setdefault((event, attempt, steps, node.call_number, place), node)

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

    def blank(self, now: int, budget: Budget) -> World:
        live = ((SESSION_KEY, "kept"),)
        return World(
            item=self.no_item,
            schedule=None,
            times=(now,),
            live=live,
            tombstones=(),
            published=self.nothing,
            committed=self.nothing,
            handed=(),
            acknowledged=0,
            facts=(),
            lease=(None, 0),
            moments=(),
            vanishing=False,
            excused=False,
            budget=budget,
        )

    def item(self, world: World) -> Conversation | None:
        found: Conversation | None = self.items.values[world.item]
        return found

    def members(self, number: int) -> frozenset[Any]:
        found: frozenset[Any] = self.sets.values[number]
        return found

    def joined(self, number: int, *more: Hashable) -> int:
        union = self.members(number) | set(more)
        return self.sets.number(union, union)

    def perform(self, world: World, node: Node, variant: str) -> Outcome:
        """Let the pending call happen, in one of its variants (see `variants`)."""
        key = (world, node.call_number, variant)
        found = self._effects.get(key)
        if found is None:
            found = self._effects[key] = self._perform(world, node, variant)
        return found

    def _perform(self, world: World, node: Node, variant: str) -> Outcome:
        if variant in ("conflict", "throttled"):
            return self._answering(world, variant)
        if variant == "gone":
            return self._answering(world, Raised(GoneError(node.call)))
        if variant == "refused":
            return self._answering(world._replace(excused=True), False)
        if variant == "ignored":
            return self._answering(world, "done")
        self._load(world)
        assert node.effect is not None
        try:
            value = node.effect()
        except Exception as error:  # noqa: BLE001 - the operation is to see it
            value = Raised(error)
        after, broken = self._unload(world)
        if variant == "old fires":
            after = self.fired(after)
        return self._answering(after, value, broken)

    def _answering(self, world: World, value: Any, broken: str = "") -> Outcome:
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
            published=published,
            committed=committed,
            handed=handed,
            lease=(self.operations.control.lease, self.operations.control.until),
        )
        return moved._replace(moments=self._moments(moved)), broken

    def _moments(self, world: World) -> tuple[tuple[int, str], ...]:
        """What was one stays one: who has read the clock late may act on what has changed since."""
        item, settings = self.item(world), self.settings
        moments = set(world.moments)
        if item is not None and item.state == "active":
            own = item.idle_timeout_seconds
            timeout = settings.idle_timeout_seconds if own is None else own
            too_early = item.last_activity_at + timeout * 1_000 + settings.clock_skew_allowance_ms - 1
            moments.add((too_early, "too early"))
        if world.schedule is not None:
            moments.add((world.schedule[0], "timer"))
        return tuple(sorted(moments))

    def fired(self, world: World) -> World:
        """The schedule has fired: cleanup is on its way."""
        assert world.schedule is not None
        return world._replace(
            schedule=(world.schedule[0], True),
            handed=handing(world.handed, "schedule"),
            vanishing=self.auto_deletes,
        )

    # --- what may happen at a call ---

    def variants(self, world: World, node: Node) -> list[str]:
        """`normal`; what AWS leaves unstated, which may always happen; and, within the budget, what is hostile."""
        possible = ["normal"]
        if node.call == "scheduler.update" and world.schedule is not None:
            at, fired = world.schedule
            if fired:
                possible.append("ignored")  # unstated: whether an update revives a fired schedule
            elif at <= world.now + CLOSE_TO_TRIGGER_MS:
                possible.append("old fires")  # troubleshooting page: the firing may use the old definition
        if world.budget.hostile:
            if node.call in ("scheduler.create", "scheduler.update"):
                possible += ["conflict", "throttled"]
            if node.call == "scheduler.delete":
                possible.append("refused")
            elif world.budget.gone:
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


def handing(handed: tuple[str, ...], source: str) -> tuple[str, ...]:
    """One more invocation under way; a third equal one would do what the second does."""
    return handed if handed.count(source) == 2 else tuple(sorted((*handed, source)))


def acknowledge(world: World, node: Node) -> World:
    """What the world outside may rely on, once an operation has answered."""
    event, answer = node.event, node.answer
    if event.at is None or not isinstance(answer, dict):
        return world
    if event.kind == "touch":
        if answer["result"] in ("opened", "recorded", "reopened", "repeat", "paused"):
            return world._replace(acknowledged=max(world.acknowledged, event.at))
        return world
    return accept(world, node) if answer.get("result") in ("applied", "repeat") else world


def accept(world: World, node: Node) -> World:
    """A lifecycle event has changed the conversation, answered or not."""
    event = node.event
    if event.kind not in ("pause", "resume", "end"):
        return world
    assert event.at is not None
    return world._replace(facts=tuple(sorted({*world.facts, (event.kind, event.at)})))


def is_permanent(error: Exception) -> bool:
    """Nobody tries such an event again."""
    return isinstance(error, InvalidEventError)
