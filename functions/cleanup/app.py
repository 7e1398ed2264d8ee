"""Entry point of cleanup: the schedule, the sweep, redrive and left outboxes invoke it."""

from typing import Any

from idle_timer import bootstrap, edge, messages
from idle_timer.deadline import guarded


@edge.handler
@guarded(margin_seconds=2)  # fails cleanly, logged and retried, rather than being killed half way
def handler(event: Any, context: Any) -> dict[str, Any]:
    """See `messages.CleanupEvent` for the event."""
    return bootstrap.cleanup().cleanup(messages.parse(messages.CleanupEvent, event))
