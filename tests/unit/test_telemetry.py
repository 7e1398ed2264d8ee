"""Metrics and log lines are Powertools' own, whatever is left out on the way."""

import json
import logging
import sys
from typing import Any

import pytest
from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter
from aws_lambda_powertools.metrics import Metrics, MetricUnit

from idle_timer.adapters.telemetry import EmbeddedMetrics, LineFormatter


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "stack")
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "IdleTimer")


def a_record(error: bool = False, **extra: Any) -> logging.LogRecord:
    try:
        raise TimeoutError("late")
    except TimeoutError:
        about = sys.exc_info() if error else None
    return logging.getLogger("a").makeRecord(
        "a", logging.WARNING, "app.py", 34, "%s of two", ("one",), about, "handle", extra
    )


@pytest.mark.parametrize("trace", ["", "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=5;Sampled=1"])
@pytest.mark.parametrize("error", [False, True])
@pytest.mark.parametrize("extra", [{}, {"result": "opened", "due_at": None, "ids": ["é", "<"], "left": 3}])
def test_a_log_line_is_the_one_that_powertools_writes(
    trace: str, error: bool, extra: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_X_AMZN_TRACE_ID", trace)
    record = a_record(error, **extra)
    theirs, ours = LambdaPowertoolsFormatter(), LineFormatter()
    for each in (theirs, ours):
        each.append_keys(service="stack", sampling_rate=None, correlation_id="1")
    assert ours.format(record) == theirs.format(record)


def printed(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for line in lines:
        del line["_aws"]["Timestamp"]
    return lines


def test_metrics_are_the_lines_that_powertools_writes(capsys: pytest.CaptureFixture[str]) -> None:
    theirs, ours = Metrics(), EmbeddedMetrics()
    for _ in range(2):
        theirs.add_metric("Touches", MetricUnit.Count, 1)
    theirs.add_metric("MessageGapSeconds", MetricUnit.Seconds, 1.5)
    theirs.flush_metrics()
    expected = printed(capsys)
    for _ in range(2):
        ours.count("Touches")
    ours.count("MessageGapSeconds", 1.5)
    ours.flush()
    ours.flush()
    assert printed(capsys) == expected


def test_a_line_of_metrics_holds_at_most_100_values_of_each(capsys: pytest.CaptureFixture[str]) -> None:
    ours = EmbeddedMetrics()
    for _ in range(250):
        ours.count("SweepRepaired")
    ours.flush()
    assert [len(line["SweepRepaired"]) for line in printed(capsys)] == [100, 100, 50]


def test_a_reason_is_a_data_point_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    ours = EmbeddedMetrics()
    ours.count("Ended", by="idle_timeout")
    ours.flush()
    reason, total = printed(capsys)
    assert reason["reason"] == "idle_timeout"
    assert "reason" not in total
    assert reason["service"] == total["service"] == "stack"
    assert reason["Ended"] == total["Ended"] == [1.0]
