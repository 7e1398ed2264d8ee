"""What DynamoDB and Scheduler answer to a message in an active conversation, for stubs below botocore and on the wire."""

import json
import os
import time
from typing import Any

HEADERS = {"content-type": "application/json", "x-amzn-requestid": "8a5e4f7f-9a53-4b1e-2f6f-7a105d3c0a4e"}


def _item() -> dict[str, Any]:
    now = time.time_ns() // 1_000_000
    item: dict[str, Any] = {
        "conversation_id": {"S": "c-5d3c0a4e-8a5e-4f7f-9a53-4b1e2f6f7a10"},
        "opening_id": {"S": "5d3c0a4e8a5e4f7f9a534b1e"},
        "state": {"S": "active"},
        "outbox": {"M": {}},
        "attributes": {"M": {"tenant": {"S": "a"}}},
        "history": {"L": [{"S": f"{now - 60_000} opened"}]},
        "sweep_shard": {"S": "03"},
        "ended_explicitly": {"BOOL": False},
    }
    numbers = {
        "opened_at": now - 60_000,
        "last_activity_at": now - 20_000,
        "state_since": now - 60_000,
        "schema_version": 1,
        "version": 4,
        "generation": 1,
        "seq": 1,
        "stage": 0,
        "attempts": 0,
        "sweep_at": now + 460_000,
        "sweep_after_ms": 480_000,
    }
    if os.environ.get("TIMER_SLACK_SECONDS", "0") != "0":
        numbers["armed_for"] = (now + 240_000) // 1_000 * 1_000  # set a minute ago: no write is needed
    return item | {name: {"N": str(value)} for name, value in numbers.items()}


_UPDATED = json.dumps({"Attributes": _item()}).encode()
_SCHEDULED = b'{"ScheduleArn":"arn:aws:scheduler:us-east-1:123456789012:schedule/idle-timer/c-1"}'


def answer(target: str | None) -> tuple[dict[str, str], bytes]:
    """Headers and body; `target`: DynamoDB's header, None for Scheduler."""
    body = _UPDATED if target else _SCHEDULED
    return HEADERS | {"content-length": str(len(body))}, body
