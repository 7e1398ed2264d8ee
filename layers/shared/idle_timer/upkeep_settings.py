"""The parameters that only sweep, redrive and inspect have; apart, since making a model is 0.3 % of a start."""

from pydantic import Field

from idle_timer.settings import Settings


class SweepSettings(Settings):
    """For the sweep; its own ARN it learns from Lambda's context."""

    schedule_group: str
    cleanup_function_arn: str
    # Lambda stops a chain of about 16: https://docs.aws.amazon.com/lambda/latest/dg/invocation-recursion.html
    sweep_max_handovers: int = Field(10, ge=0, le=14)


class RedriveSettings(Settings):
    """For redrive, which gives every event back to the function that it was meant for."""

    touch_function_arn: str
    lifecycle_function_arn: str
    cleanup_function_arn: str
    failure_queue_url: str
    parked_queue_url: str
    redrive_delay_seconds: int = Field(300, ge=0, le=43_200)  # SQS's longest visibility timeout: 12 hours


class InspectSettings(Settings):
    """For operators."""

    cleanup_function_arn: str
    failure_queue_url: str
    parked_queue_url: str
