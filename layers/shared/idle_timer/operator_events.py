"""What operators send to inspect, checked with pydantic."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from idle_timer import messages
from idle_timer.errors import InvalidEventError
from idle_timer.messages import ConversationId, Time

LIST_LIMIT = 20
LIST_MOST = 100

_EVENT = ConfigDict(strict=True, frozen=True, extra="forbid", hide_input_in_errors=True)


class OneEvent(BaseModel):
    """One conversation: how it stands, why, or away with it."""

    model_config = _EVENT

    action: Literal["status", "explain", "forget"]
    conversation_id: ConversationId


class Filters(BaseModel):
    """Which of them. `since`: active at or after this time; `reason`: of the end; `next`: as the page before answered."""

    model_config = _EVENT

    state: Literal["active", "paused", "ended"] | None = None
    since: Time | None = None
    reason: Annotated[str, Field(pattern=r"^[a-z_]{1,64}$")] | None = None
    attempts_at_least: Annotated[int, Field(ge=0)] = 0
    limit: Annotated[int, Field(ge=1, le=LIST_MOST)] = LIST_LIMIT
    next: Annotated[str, Field(max_length=2_048)] | None = None


Which = Literal["overdue", "pending", "failed", "parked", "events"]
"""overdue: their time and the grace are over. pending: something is due later, or owed. failed: attempts failed, but it
is not yet parked. parked: a person has to look. events: what waits in the parked queue."""


class ListEvent(Filters):
    """Some conversations, from the sweep's index, a page at a time."""

    action: Literal["list"]
    which: Which


class RetryEvent(Filters):
    """Hand to cleanup: one conversation, or all that match, a page at a time. `dry_run`: only say what would happen."""

    action: Literal["retry"]
    which: Which | None = None
    conversation_id: ConversationId | None = None
    dry_run: bool = False

    @model_validator(mode="after")
    def _one_or_all(self) -> Self:
        if (self.conversation_id is None) == (self.which is None):
            raise ValueError("event: give either conversation_id or which")
        return self


class HoldEvent(BaseModel):
    """Stop every end of the stack, or go on; without `on`: just look."""

    model_config = _EVENT

    action: Literal["hold"]
    on: bool | None = None


_EVENTS: Mapping[str, type[BaseModel]] = {
    "status": OneEvent,
    "explain": OneEvent,
    "list": ListEvent,
    "retry": RetryEvent,
    "forget": OneEvent,
    "hold": HoldEvent,
}


def parse(event: object) -> Any:
    """Check an operator's event. Raises InvalidEventError; an unknown action is told the known ones."""
    action = event.get("action") if isinstance(event, Mapping) else None
    model = _EVENTS.get(action) if isinstance(action, str) else None
    if model is None:
        raise InvalidEventError(f"invalid event: action: must be one of {', '.join(_EVENTS)}")
    return messages.parse(model, event)
