"""Entry point of the sweep: a scheduled rule invokes it, and it invokes itself to go on."""

from typing import Any

from idle_timer import bootstrap, edge


@edge.handler
def handler(event: Any, context: Any) -> dict[str, Any]:
    """Any event of the rule begins a run; see `sweep.HandedOver` for the other kind."""
    return bootstrap.sweep(context.invoked_function_arn).sweep(event, context)
