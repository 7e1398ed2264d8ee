"""What sweep, redrive and inspect need, in memory, around a `World`: index, lease, hold, queues, the other functions."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from idle_timer.attempts import Attempts
from idle_timer.conversation import Conversation, Hold
from idle_timer.inspection import Inspection
from idle_timer.redrive import Redrive
from idle_timer.sweep import Sweep
from idle_timer.upkeep_ports import (
    Call,
    IndexEntry,
    IndexPage,
    Lease,
    ParkedEvent,
    Reply,
    SetTimer,
    TimetablePage,
)
from idle_timer.upkeep_settings import InspectSettings, RedriveSettings, SweepSettings
from tests.fakes.world import World

ARN = "arn:aws:lambda:us-east-1:123456789012:function:idle-timer-{}:live"
ACCESS = {
    "schedule_group": "group",
    "touch_function_arn": ARN.format("touch"),
    "lifecycle_function_arn": ARN.format("lifecycle"),
    "cleanup_function_arn": ARN.format("cleanup"),
    "failure_queue_url": "failure",
    "parked_queue_url": "parked",
}


class Context:
    """Lambda's context, as far as the guard looks at it. Real time: the guard's alarm is."""

    def __init__(self, seconds: float = 60) -> None:
        self._ends_at = time.monotonic() + seconds

    def get_remaining_time_in_millis(self) -> int:
        return int((self._ends_at - time.monotonic()) * 1_000)


@dataclass
class MemoryOverview:
    """See `ports.Overview`. The index is the items themselves; `stale` entries are shown on top, as a late index does."""

    world: World
    stale: list[IndexEntry] = field(default_factory=list)

    def entries(
        self, shard: str, *, since: int = 0, until: int, after: IndexEntry | None = None, limit: int = 20
    ) -> IndexPage:
        def page() -> IndexPage:
            assert since <= until, "DynamoDB refuses such a BETWEEN"
            found = sorted(
                (entry for entry in self._all() if entry.shard == shard and since <= entry.sweep_at <= until),
                key=_order,
            )
            rest = [entry for entry in found if after is None or _order(entry) > _order(after)]
            shown = tuple(rest[:limit])
            return IndexPage(shown, shown[-1] if len(rest) > limit else None)

        answer: IndexPage = self.world.steps.take("overview.entries", page, shard, since, until, after, limit)
        return answer

    def count(self, shard: str, *, until: int) -> int:
        return len(self.entries(shard, until=until, limit=1_000_000).entries)

    def read_each(self, conversation_ids: Sequence[str]) -> Mapping[str, Conversation]:
        items = self.world.store.items
        answer: Mapping[str, Conversation] = self.world.steps.take(
            "overview.read_each",
            lambda: {each: items[each] for each in conversation_ids if each in items},
            *conversation_ids,
        )
        return answer

    def _all(self) -> Iterator[IndexEntry]:
        yield from self.stale
        for item in self.world.store.items.values():
            if item.sweep_shard is not None and item.sweep_at is not None:
                yield IndexEntry(item.sweep_shard, item.sweep_at, item.conversation_id)


def _order(entry: IndexEntry) -> tuple[int, str]:
    return entry.sweep_at, entry.conversation_id


@dataclass
class MemoryControl:
    """See `ports.Leases`, `ports.Holds` and `ports.Links`. `lease` and `until` are the tests' own door."""

    world: World
    lease: Lease | None = None
    until: int = 0
    hold_version: int = 0

    def take(self, run: str, handovers: int, *, now: int, until: int) -> Lease | None:
        def take() -> Lease | None:
            if handovers:
                mine = self.lease is not None and (self.lease.run, self.lease.handovers) == (
                    run,
                    handovers - 1,
                )
            else:
                mine = self.lease is None or self.until <= now
            if not mine:
                return None
            before = self.lease or Lease(run=run, handovers=0)
            self.lease, self.until = replace(before, run=run, handovers=handovers), until
            return self.lease

        answer: Lease | None = self.world.steps.take("leases.take", take, run, handovers)
        return answer

    def keep(self, lease: Lease, *, until: int) -> bool:
        def keep() -> bool:
            if self.lease is None or (self.lease.run, self.lease.handovers) != (lease.run, lease.handovers):
                return False
            self.lease, self.until = lease, until
            return True

        answer: bool = self.world.steps.take("leases.keep", keep, lease, until)
        return answer

    def read(self) -> tuple[Hold, int]:
        return self.world.store.hold, self.hold_version

    def write(self, hold: Hold, version: int) -> bool:
        def write() -> bool:
            if version != self.hold_version:
                return False
            self.world.store.hold, self.hold_version = hold, version + 1
            return True

        answer: bool = self.world.steps.take("holds.write", write, hold, version)
        return answer

    def unlink_contact(self, contact_id: str) -> None:
        self.world.store.contacts.pop(contact_id, None)


@dataclass
class WorldFunctions:
    """See `ports.Functions`: the world's own protocol, errors as Lambda reports them.

    `broken`: an error type for some keys; `unreachable`: keys whose function cannot be invoked; `seconds`: real time
    that a call takes.
    """

    world: World
    called: list[Call] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)
    unreachable: set[str] = field(default_factory=set)
    seconds: float = 0.0

    def call_each(self, calls: Sequence[Call]) -> Iterator[tuple[Call, Reply]]:
        for call in calls:
            yield call, self._call(call)

    def _call(self, call: Call) -> Reply:
        self.called.append(call)
        time.sleep(self.seconds)
        conversation_id = str(call.event.get("conversation_id", ""))
        if conversation_id in self.unreachable:
            return Reply(error="TooManyRequestsException", reached=False)
        if conversation_id in self.broken:
            return Reply(error=self.broken[conversation_id], message="it failed")
        run: dict[str, Callable[..., dict[str, Any]]] = {
            "touch": self.world.touch,
            "lifecycle": self._lifecycle,
            "cleanup": self.world.cleanup,
        }
        try:
            return Reply(answer=run[call.function](**{k: v for k, v in call.event.items() if k != "version"}))
        except Exception as error:  # noqa: BLE001 - a function's error is its caller's answer
            return Reply(error=type(error).__name__, message=str(error))

    def _lifecycle(self, action: str, **fields: Any) -> dict[str, Any]:
        return self.world.lifecycle(action, **fields)


@dataclass
class MemoryTimetable:
    """See `ports.Timetable`: the world's schedules, `page_size` at a time; `absent`: every call is refused."""

    world: World
    page_size: int = 50
    absent: bool = False

    def page(self, token: str | None) -> TimetablePage | None:
        if self.absent:
            return None
        names = sorted(self.world.scheduler.schedules)
        start = int(token or 0)
        shown = names[start : start + self.page_size]
        more = str(start + self.page_size) if len(names) > start + self.page_size else None
        timers = tuple(SetTimer(name, self.world.scheduler.schedules[name].at) for name in shown)
        return TimetablePage(timers, more)


@dataclass
class MemoryContinuation:
    """See `ports.Continuation`. `handed`: (run, hand-overs), oldest first."""

    handed: list[tuple[str, int]] = field(default_factory=list)

    def hand_over(self, run: str, handovers: int) -> None:
        self.handed.append((run, handovers))


@dataclass
class MemoryQueues:
    """See `ports.FailureQueues`. `parked_events`: (body, why); `delayed`: receipt -> seconds."""

    world: World
    parked_events: list[tuple[str, str]] = field(default_factory=list)
    delayed: dict[str, int] = field(default_factory=dict)
    returned: list[str] = field(default_factory=list)

    def park(self, body: str, why: str) -> None:
        self.world.steps.take("queues.park", lambda: self.parked_events.append((body, why)), body, why)

    def delay(self, receipt: str, seconds: int) -> None:
        self.world.steps.take("queues.delay", lambda: self.delayed.update({receipt: seconds}), receipt)

    def parked(self, limit: int) -> Sequence[ParkedEvent]:
        shown = self.parked_events[:limit]
        return [ParkedEvent(str(number), str(number), *event) for number, event in enumerate(shown)]

    def put_back(self, limit: int) -> int:
        moved, self.parked_events = self.parked_events[:limit], self.parked_events[limit:]
        self.returned += [body for body, _ in moved]
        return len(moved)


@dataclass
class Operations:
    """A world with its sweep, redrive and inspect."""

    world: World = field(default_factory=World)
    max_handovers: int = 10

    def __post_init__(self) -> None:
        world = self.world
        given = world.settings.model_dump() | ACCESS
        self.overview = MemoryOverview(world)
        self.control = MemoryControl(world)
        self.functions = WorldFunctions(world)
        self.timetable = MemoryTimetable(world)
        self.continuation = MemoryContinuation()
        self.queues = MemoryQueues(world)
        self.attempts = Attempts(
            settings=world.settings,
            overview=self.overview,
            store=world.store,
            handover=world.handover,
            clock=world.clock,
            telemetry=world.telemetry,
        )
        sweep_settings = SweepSettings.model_validate(
            {name: value for name, value in given.items() if name in SweepSettings.model_fields}
            | {"sweep_max_handovers": self.max_handovers}
        )
        self.sweeper = Sweep(
            settings=sweep_settings,
            overview=self.overview,
            leases=self.control,
            holds=self.control,
            functions=self.functions,
            attempts=self.attempts,
            timetable=self.timetable,
            continuation=self.continuation,
            clock=world.clock,
            chance=world.chance,
            telemetry=world.telemetry,
        )
        redrive_settings = RedriveSettings.model_validate(
            {name: value for name, value in given.items() if name in RedriveSettings.model_fields}
        )
        self.redriver = Redrive(
            settings=redrive_settings,
            overview=self.overview,
            functions=self.functions,
            attempts=self.attempts,
            queues=self.queues,
        )

        inspect_settings = InspectSettings.model_validate(
            {name: value for name, value in given.items() if name in InspectSettings.model_fields}
        )
        self.inspection = Inspection(
            settings=inspect_settings,
            store=world.store,
            overview=self.overview,
            holds=self.control,
            links=self.control,
            functions=self.functions,
            queues=self.queues,
            clock=world.clock,
        )

    def inspect(self, action: str, **fields: Any) -> dict[str, Any]:
        """What an operator asks."""
        return self.inspection.inspect({"action": action, **fields})

    def sweep(self, event: Any = None, seconds: float = 60) -> dict[str, Any]:
        """One invocation of the sweep; by default by its rule."""
        return self.sweeper.sweep(event or {"source": "aws.events", "detail": {}}, Context(seconds))

    def sweep_to_the_end(self, seconds: float) -> list[dict[str, Any]]:
        """A run with all its hand-overs, each with so much Lambda time."""
        answers = [self.sweep(seconds=seconds)]
        while self.continuation.handed:
            run, handovers = self.continuation.handed.pop(0)
            answers.append(self.sweep(handed_over(run, handovers), seconds))
        return answers


def handed_over(run: str, handovers: int) -> dict[str, Any]:
    """What a sweep sends to itself."""
    return {"version": 1, "source": "handover", "run": run, "handovers": handovers}
