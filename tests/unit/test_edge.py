"""What every function does around its one call."""

import io
import json
import logging
from typing import Any

import pytest
from aws_lambda_powertools import Logger

from idle_timer import bootstrap, edge
from idle_timer.errors import InvalidEventError


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "stack")
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "IdleTimer")
    bootstrap.telemetry.cache_clear()


def metrics(printed: str) -> dict[str, Any]:
    """The EMF record among what was printed."""
    [record] = [json.loads(line) for line in printed.splitlines() if "_aws" in line]
    return dict(record)


def test_botocore_stays_quiet_at_debug_so_that_no_request_is_logged() -> None:
    edge.handler(lambda event, context: {})
    assert not logging.getLogger("botocore.endpoint").isEnabledFor(logging.DEBUG)


def test_a_bad_event_is_counted_and_the_error_goes_on_to_lambda(capsys: pytest.CaptureFixture[str]) -> None:
    @edge.handler
    def handler(event: Any, context: Any) -> dict[str, Any]:
        raise InvalidEventError("invalid event: conversation_id: is needed")

    with pytest.raises(InvalidEventError):
        handler({"text": "what a customer said"}, None)
    printed = capsys.readouterr().out
    assert metrics(printed)["RejectedEvents"] == [1.0]
    assert "what a customer said" not in printed


def test_metrics_are_flushed_when_the_call_fails(capsys: pytest.CaptureFixture[str]) -> None:
    @edge.handler
    def handler(event: Any, context: Any) -> dict[str, Any]:
        bootstrap.telemetry().count("Touches")
        raise TimeoutError

    with pytest.raises(TimeoutError):
        handler({}, None)
    record = metrics(capsys.readouterr().out)
    assert record["Touches"] == [1.0]
    assert record["service"] == "stack"


def test_the_log_line_holds_known_fields_only(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = io.StringIO()
    monkeypatch.setattr(edge, "_logger", Logger(service="test_edge", stream=printed))
    edge.handler(lambda event, context: {"result": "opened", "attributes": {"name": "Ann"}})({}, None)
    assert json.loads(printed.getvalue())["result"] == "opened"
    assert "Ann" not in printed.getvalue()
