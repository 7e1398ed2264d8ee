"""EventBridge Scheduler in memory: one schedule per conversation, which fires when a test says so."""

from dataclasses import dataclass, field

from idle_timer.ports import ScheduleAnswer
from tests.fakes.steps import Steps


@dataclass(frozen=True)
class Schedule:
    """`at`: epoch ms. A fired one stays until it is deleted (`ActionAfterCompletion: NONE`)."""

    at: int
    fired: bool = False


@dataclass
class MemoryScheduler:
    """See `ports.Scheduler`. `schedules` is the tests' own door: by conversation id, not by name."""

    steps: Steps = field(default_factory=Steps)
    schedules: dict[str, Schedule] = field(default_factory=dict)

    def create(self, conversation_id: str, at: int) -> ScheduleAnswer:
        answer: ScheduleAnswer = self.steps.take(
            "scheduler.create",
            lambda: "conflict" if conversation_id in self.schedules else self._put(conversation_id, at),
            conversation_id,
            at,
        )
        return answer

    def update(self, conversation_id: str, at: int) -> ScheduleAnswer:
        answer: ScheduleAnswer = self.steps.take(
            "scheduler.update",
            lambda: self._put(conversation_id, at) if conversation_id in self.schedules else "absent",
            conversation_id,
            at,
        )
        return answer

    def delete(self, conversation_id: str) -> bool:
        def delete() -> bool:
            self.schedules.pop(conversation_id, None)
            return True

        answer: bool = self.steps.take("scheduler.delete", delete, conversation_id)
        return answer

    def _put(self, conversation_id: str, at: int) -> ScheduleAnswer:
        self.schedules[conversation_id] = Schedule(at)
        return "done"
