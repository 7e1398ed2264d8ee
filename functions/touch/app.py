"""Entry point of touch: the backend invokes it on each message."""

import os
from typing import Any

from idle_timer import bootstrap, edge, messages

if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:  # only inside Lambda: clients are made while the function starts
    bootstrap.timer()


@edge.handler
def handler(event: Any, context: Any) -> dict[str, Any]:
    """See `messages.TouchEvent` for the event, `messages.answer` for the answer."""
    return bootstrap.timer().touch(messages.parse(messages.TouchEvent, event))
