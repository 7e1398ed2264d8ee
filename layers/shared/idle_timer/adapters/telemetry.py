"""Metrics in CloudWatch's embedded metric format: lines on standard output, no call."""

from aws_lambda_powertools.metrics import Metrics, MetricUnit, single_metric

_UNITS = {"EndLatenessSeconds": MetricUnit.Seconds, "MessageGapSeconds": MetricUnit.Seconds}


class EmbeddedMetrics:
    """See `ports.Telemetry`. Dimension `service` = the stack's name; a reason or cause gets a data point of its own."""

    def __init__(self) -> None:
        self._metrics = (
            Metrics()
        )  # namespace and service come from POWERTOOLS_METRICS_NAMESPACE, POWERTOOLS_SERVICE_NAME

    def count(self, metric: str, value: float = 1, *, by: str | None = None) -> None:
        """Kept until `flush`."""
        unit = _UNITS.get(metric, MetricUnit.Count)
        self._metrics.add_metric(name=metric, unit=unit, value=value)
        if by is not None:
            with single_metric(name=metric, unit=unit, value=value) as point:
                point.add_dimension("service", self._metrics.service or "")
                point.add_dimension("reason", by)

    def flush(self) -> None:
        """Print what was counted during this invocation."""
        if self._metrics.metric_set:
            self._metrics.flush_metrics()
