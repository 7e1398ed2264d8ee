"""Entry point of cleanup: the schedule, the sweep, redrive and left outboxes invoke it."""

import gc
import os
from typing import Any

if IS_LAMBDA := "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    gc.disable()  # until all is ready: nothing of what follows is garbage

from idle_timer import bootstrap, edge, messages
from idle_timer.deadline import guarded

if IS_LAMBDA:
    bootstrap.start(bootstrap.cleanup)


@edge.handler
@guarded(margin_seconds=2)  # fails cleanly, logged and retried, rather than being killed half way
def handler(event: Any, context: Any) -> dict[str, Any]:
    """See `messages.CleanupEvent` for the event."""
    return bootstrap.cleanup().cleanup(messages.parse(messages.CleanupEvent, event))
