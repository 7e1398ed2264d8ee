"""The yardstick: boto3, the clients that a function needs (BENCH_CLIENTS), and the two calls that a touch makes."""

import os
import time
from typing import Any

import boto3

make: Any = boto3.client
clients = {name: make(name) for name in os.environ["BENCH_CLIENTS"].split()}
TABLE, GROUP = os.environ["CONVERSATIONS_TABLE"], os.environ["SCHEDULE_GROUP"]
NAMES = [
    *("attempts", "last_activity_at", "not_before", "outbox", "stage", "stage_at"),
    *("state", "sweep_after_ms", "sweep_at", "version"),
]


def handler(event: Any, context: Any) -> dict[str, Any]:
    """Both calls with touch's own parameters, and no more."""
    now = time.time_ns() // 1_000_000
    clients["dynamodb"].update_item(
        TableName=TABLE,
        Key={"conversation_id": {"S": event["conversation_id"]}},
        UpdateExpression="SET #last_activity_at = :at, #version = #version + :one, #stage = :zero,"
        " #sweep_at = :bucket + #sweep_after_ms REMOVE #stage_at",
        ConditionExpression="#state = :active AND #last_activity_at < :at AND size(#outbox) = :zero"
        " AND #attempts = :zero AND attribute_exists(#sweep_after_ms) AND attribute_not_exists(#not_before)",
        ExpressionAttributeNames={f"#{name}": name for name in NAMES},
        ExpressionAttributeValues={
            ":active": {"S": "active"},
            ":at": {"N": str(now)},
            ":zero": {"N": "0"},
            ":one": {"N": "1"},
            ":bucket": {"N": str(now // 60_000 * 60_000)},
        },
        ReturnValues="ALL_OLD",
        ReturnValuesOnConditionCheckFailure="ALL_OLD",
    )
    clients["scheduler"].update_schedule(
        Name=event["conversation_id"],
        GroupName=GROUP,
        ScheduleExpression=time.strftime("at(%Y-%m-%dT%H:%M:%S)", time.gmtime(now / 1_000 + 301)),
        ScheduleExpressionTimezone="UTC",
        FlexibleTimeWindow={"Mode": "OFF"},
        State="ENABLED",
        ActionAfterCompletion="NONE",
        Target={
            "Arn": os.environ["CLEANUP_FUNCTION_ARN"],
            "RoleArn": os.environ["SCHEDULE_ROLE_ARN"],
            "Input": '{"conversation_id":"' + event["conversation_id"] + '"}',
            "RetryPolicy": {"MaximumEventAgeInSeconds": 60, "MaximumRetryAttempts": 3},
            "DeadLetterConfig": {"Arn": os.environ["FAILURE_QUEUE_ARN"]},
        },
    )
    return {"conversation_id": event["conversation_id"]}
