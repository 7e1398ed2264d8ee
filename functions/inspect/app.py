"""Entry point of inspect, for operators and UIs."""

import gc
import os
from typing import Any

if IS_LAMBDA := "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    gc.disable()  # until all is ready: nothing of what follows is garbage

from idle_timer import bootstrap, edge
from idle_timer.deadline import guarded

if IS_LAMBDA:
    bootstrap.start(bootstrap.inspection)


@edge.handler
@guarded(margin_seconds=1)  # an error says more than a killed function
def handler(event: Any, context: Any) -> dict[str, Any]:
    """See `operator_events` for the events: status, explain, list, retry, forget, hold."""
    return bootstrap.inspection().inspect(event)
