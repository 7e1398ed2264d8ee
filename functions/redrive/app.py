"""Entry point of redrive: the failure queue invokes it with up to 20 messages."""

from typing import Any

from idle_timer import bootstrap, edge


@edge.handler
def handler(event: Any, context: Any) -> dict[str, Any]:
    """A batch of SQS; answers which messages stay in the queue."""
    return bootstrap.redrive().redrive(event, context)
