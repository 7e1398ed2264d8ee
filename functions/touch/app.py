"""Entry point of touch: the backend invokes it on each message."""

import gc
import os
from typing import Any

if IS_LAMBDA := "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    gc.disable()  # until all is ready: nothing of what follows is garbage

from idle_timer import bootstrap, edge, messages

if IS_LAMBDA:
    bootstrap.start(bootstrap.timer, "dynamodb", "scheduler")


@edge.handler
def handler(event: Any, context: Any) -> dict[str, Any]:
    """See `messages.TouchEvent` for the event, `messages.answer` for the answer."""
    return bootstrap.timer().touch(messages.parse(messages.TouchEvent, event))
