"""Entry point of lifecycle: pause, resume, end and extend, from the backend; contact events of Amazon Connect."""

import os
from typing import Any

from idle_timer import bootstrap, connect, edge

if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:  # only inside Lambda: clients are made while the function starts
    bootstrap.timer()


@edge.handler
def handler(event: Any, context: Any) -> dict[str, Any]:
    """See `messages.LifecycleEvent` and `connect` for the event, `messages.answer` for the answer."""
    return connect.lifecycle(bootstrap.timer(), event)
