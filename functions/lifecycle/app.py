"""Entry point of lifecycle: pause, resume, end and extend, from the backend; contact events of Amazon Connect."""

import gc
import os
from typing import Any

if IS_LAMBDA := "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    gc.disable()  # until all is ready: nothing of what follows is garbage

from idle_timer import bootstrap, connect, edge

if IS_LAMBDA:
    bootstrap.start(bootstrap.timer, "dynamodb", "scheduler")


@edge.handler
def handler(event: Any, context: Any) -> dict[str, Any]:
    """See `messages.LifecycleEvent` and `connect` for the event, `messages.answer` for the answer."""
    return connect.lifecycle(bootstrap.timer(), event)
