"""Entry point of cleanup: the schedule, the sweep, redrive and left outboxes invoke it."""

from typing import Any

from idle_timer import bootstrap, edge, messages


@edge.handler
def handler(event: Any, context: Any) -> dict[str, Any]:
    """See `messages.CleanupEvent` for the event."""
    cleanup = bootstrap.cleanup(context.invoked_function_arn)
    return cleanup.cleanup(messages.parse(messages.CleanupEvent, event))
