"""What is usual: boto3, Powertools' Logger and Metrics, and a pydantic model of the event. Only its start is measured."""

import os
from typing import Any

import boto3
from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import Metrics, MetricUnit
from pydantic import BaseModel, Field

logger, metrics = Logger(), Metrics()
make: Any = boto3.client
clients = {name: make(name) for name in os.environ["BENCH_CLIENTS"].split()}


class Touch(BaseModel):
    """The event."""

    conversation_id: str = Field(min_length=1, max_length=512)
    occurred_at: str | None = None


@logger.inject_lambda_context
@metrics.log_metrics
def handler(event: Any, context: Any) -> dict[str, Any]:
    """Never called."""
    metrics.add_metric(name="Touches", unit=MetricUnit.Count, value=1)
    return Touch.model_validate(event).model_dump()
