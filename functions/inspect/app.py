"""Entry point of inspect, for operators and UIs."""

from typing import Any

from idle_timer import bootstrap, edge
from idle_timer.deadline import guarded


@edge.handler
@guarded(margin_seconds=1)  # an error says more than a killed function
def handler(event: Any, context: Any) -> dict[str, Any]:
    """See `operator_events` for the events: status, explain, list, retry, forget, hold."""
    return bootstrap.inspection().inspect(event)
