"""Metrics in CloudWatch's embedded metric format and log lines: both are lines on standard output, no call."""

import json
import logging
import os
import sys
from typing import Any

from aws_lambda_powertools.logging.formatter import RESERVED_LOG_ATTRS, LambdaPowertoolsFormatter
from aws_lambda_powertools.metrics import Metrics, MetricUnit, single_metric

_UNITS = {"EndLatenessSeconds": MetricUnit.Seconds, "MessageGapSeconds": MetricUnit.Seconds}
_MOST_VALUES = 100  # of one metric in one line: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
_to_json = json.JSONEncoder(default=str, separators=(",", ":"), ensure_ascii=False).encode


class EmbeddedMetrics:
    """See `ports.Telemetry`. Dimension `service` = the stack's name; a reason or cause gets a data point of its own."""

    def __init__(self) -> None:
        self._metrics = (
            Metrics()
        )  # namespace and service come from POWERTOOLS_METRICS_NAMESPACE, POWERTOOLS_SERVICE_NAME
        self._counted: dict[str, dict[str, Any]] = {}

    def count(self, metric: str, value: float = 1, *, by: str | None = None) -> None:
        """Kept until `flush`."""
        unit = _UNITS.get(metric, MetricUnit.Count)
        # Handed to Powertools once, at the end: its `add_metric` checks each of our own names and units again and again.
        counted = self._counted.setdefault(metric, {"Unit": unit.value, "Value": []})["Value"]
        counted.append(float(value))
        if len(counted) == _MOST_VALUES:
            self.flush()
        if by is not None:
            with single_metric(name=metric, unit=unit, value=value) as point:
                point.add_dimension("service", self._metrics.service or "")
                point.add_dimension("reason", by)

    def flush(self) -> None:
        """Print what was counted during this invocation."""
        if self._counted:
            sys.stdout.write(_to_json(self._metrics.serialize_metric_set(metrics=self._counted)) + "\n")
            self._counted.clear()


class LineFormatter(LambdaPowertoolsFormatter):
    """Powertools' log line, word for word, at a third of its cost: what nothing here uses is not looked for.

    That is: a JSON document as the message, keys that are templates, keys per thread.
    """

    def __init__(self) -> None:
        super().__init__(json_serializer=_to_json)

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON."""
        if record.exc_info:
            return super().format(record)
        line = self.get_current_keys() | {
            "level": record.levelname,
            "location": f"{record.funcName}:{record.lineno}",
            "message": record.getMessage(),
            "timestamp": self.formatTime(record),
        }
        line |= {name: value for name, value in record.__dict__.items() if name not in _STANDARD}
        line["xray_trace_id"] = (
            os.environ.get("_X_AMZN_TRACE_ID", "").split(";")[0].replace("Root=", "") or None
        )
        return self.serialize({name: value for name, value in line.items() if value is not None})


_STANDARD = {*RESERVED_LOG_ATTRS}
