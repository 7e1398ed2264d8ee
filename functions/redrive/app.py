"""Entry point of redrive: the failure queue invokes it with up to 20 messages."""

import gc
import os
from typing import Any

if IS_LAMBDA := "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    gc.disable()  # until all is ready: nothing of what follows is garbage

from idle_timer import bootstrap, edge

if IS_LAMBDA:
    bootstrap.start(bootstrap.redrive)


@edge.handler
def handler(event: Any, context: Any) -> dict[str, Any]:
    """A batch of SQS; answers which messages stay in the queue."""
    return bootstrap.redrive().redrive(event, context)
