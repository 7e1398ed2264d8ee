"""What every function does around its one call: context in the log, one line per invocation, metrics flushed."""

import functools
import logging
from collections.abc import Callable
from typing import Any

from aws_lambda_powertools import Logger

from idle_timer import bootstrap
from idle_timer.adapters.telemetry import LineFormatter
from idle_timer.errors import InvalidEventError

_logger = Logger(logger_formatter=LineFormatter())
_LOGGED = (
    *("conversation_id", "result", "timer", "decision", "state", "due_at", "source"),
    *("run", "handovers", "overdue", "repaired", "failed", "parked", "notices", "audited"),
)
"""The parts of an answer that are worth a log line; never whole events, attributes or messages."""

Handler = Callable[[Any, Any], dict[str, Any]]


def handler(function: Handler) -> Handler:
    """Decorate a Lambda handler. Errors go on to Lambda, which logs them and retries or reports them."""

    # LogLevel DEBUG is for this code: botocore would log whole requests, the caller's attributes included.
    logging.getLogger("botocore").setLevel(logging.INFO)

    @functools.wraps(function)
    def handle(event: Any, context: Any) -> dict[str, Any]:
        _logger.set_correlation_id(getattr(context, "aws_request_id", None))
        try:
            answer = function(event, context)
            _logger.info(
                "done", extra={name: answer[name] for name in _LOGGED if answer.get(name) is not None}
            )
            return answer
        except InvalidEventError:
            bootstrap.telemetry().count("RejectedEvents")
            raise
        finally:
            bootstrap.telemetry().flush()

    return handle
