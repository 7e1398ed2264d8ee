"""The whole service on fakes."""

from dataclasses import dataclass, field
from typing import Any

from idle_timer import messages
from idle_timer.cleanup import Cleanup
from idle_timer.conversation import Conversation
from idle_timer.settings import Settings
from idle_timer.timer import Timer, Timers
from tests.fakes.scheduler import MemoryScheduler, Schedule
from tests.fakes.services import (
    MemoryBots,
    MemoryCallersCode,
    MemoryHandover,
    MemoryOutcomes,
    SteppedSessions,
)
from tests.fakes.sessions import MemorySessions
from tests.fakes.steps import Steps
from tests.fakes.store import MemoryStore
from tests.fakes.system import CountingTelemetry, ManualClock, SeededChance


def settings(**changed: Any) -> Settings:
    """The stack's defaults but for `changed`."""
    return Settings.model_validate(
        {"conversations_table": "conversations", "control_table": "control"} | changed
    )


@dataclass
class World:
    """Ports and protocol, wired. `World(settings(idle_timeout_seconds=60))`; the parts are the tests' own doors."""

    settings: Settings = field(default_factory=settings)
    steps: Steps = field(default_factory=Steps)

    def __post_init__(self) -> None:
        steps = self.steps
        self.clock = ManualClock(steps)
        self.chance = SeededChance(steps)
        self.telemetry = CountingTelemetry()
        self.store = MemoryStore(steps)
        self.scheduler = MemoryScheduler(steps)
        self.handover = MemoryHandover(steps)
        self.outcomes = MemoryOutcomes(steps)
        self.sessions = MemorySessions(lambda: self.clock.time, self.settings.session_tombstone_seconds)
        self.bots = MemoryBots(steps)
        self.callers_code = MemoryCallersCode(steps)
        timers = Timers(
            settings=self.settings,
            store=self.store,
            scheduler=self.scheduler,
            clock=self.clock,
            chance=self.chance,
            telemetry=self.telemetry,
        )
        self.timer = Timer(timers=timers, handover=self.handover)
        self.cleaner = Cleanup(
            timers=timers,
            outcomes=self.outcomes,
            sessions=SteppedSessions(steps, self.sessions),
            bots=self.bots,
            callers_code=self.callers_code,
        )

    def touch(self, conversation_id: str = "c-1", **fields: Any) -> dict[str, Any]:
        """A message, as the backend would send it."""
        event = {"conversation_id": conversation_id, **fields}
        return self.timer.touch(messages.parse(messages.TouchEvent, event))

    def lifecycle(self, action: str, conversation_id: str = "c-1", **fields: Any) -> dict[str, Any]:
        """A lifecycle event, as the backend would send it."""
        event = {"action": action, "conversation_id": conversation_id, **fields}
        return self.timer.lifecycle(messages.parse(messages.LifecycleEvent, event))

    def cleanup(
        self, conversation_id: str = "c-1", source: str = "schedule", **fields: Any
    ) -> dict[str, Any]:
        """One invocation of cleanup."""
        event = {"version": 1, "conversation_id": conversation_id, "source": source, **fields}
        return self.cleaner.cleanup(messages.parse(messages.CleanupEvent, event))

    def fire(self, conversation_id: str = "c-1") -> dict[str, Any]:
        """The clock moves on to the schedule's time, and Scheduler invokes cleanup."""
        schedule = self.scheduler.schedules[conversation_id]
        self.scheduler.schedules[conversation_id] = Schedule(schedule.at, fired=True)
        self.clock.time = max(self.clock.time, schedule.at)
        return self.cleanup(conversation_id)

    def drain(self) -> list[dict[str, Any]]:
        """Run cleanup for everything that was handed over, once each."""
        handed, self.handover.handed[:] = list(self.handover.handed), []
        return [self.cleanup(conversation_id, source) for conversation_id, source in handed]

    def item(self, conversation_id: str = "c-1") -> Conversation:
        """The conversation as it stands in the table."""
        return self.store.items[conversation_id]

    def scheduled_for(self, conversation_id: str = "c-1") -> int | None:
        """When its schedule will fire (epoch ms); None: there is none, or it has fired."""
        schedule = self.scheduler.schedules.get(conversation_id)
        return None if schedule is None or schedule.fired else schedule.at
