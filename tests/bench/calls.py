"""AWS calls and HTTP round trips of whole conversations, on the real adapters over moto, for every mode."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3
from moto import mock_aws

from idle_timer import messages
from idle_timer.adapters.aws import client
from idle_timer.adapters.dynamodb import DynamoDBStore
from idle_timer.adapters.scheduler import EventBridgeScheduler
from idle_timer.timer import Timer, Timers
from tests.fakes.services import MemoryHandover
from tests.fakes.system import CountingTelemetry, ManualClock, SeededChance
from tests.fakes.world import settings

MESSAGES = 20
GAP_SECONDS = 20
ID = "c-1"
ARN = "arn:aws:lambda:us-east-1:123456789012:function:cleanup:live"
ROLE = "arn:aws:iam::123456789012:role/schedule"
QUEUE = "arn:aws:sqs:us-east-1:123456789012:failure"


@dataclass(frozen=True)
class Mode:
    """How a stack is configured and what its messages bring."""

    name: str
    stack: dict[str, Any]
    event: dict[str, Any]


MODES = (
    Mode("default", {}, {}),
    Mode("with attributes and a session key", {}, {"attributes": {"a": "b"}, "session_key": "s"}),
    Mode("with Lex and Connect links", {}, {"connect_contact_id": "contact-1"}),
    Mode("with two warnings", {"idle_stages": "one=PT1M,two=PT2M"}, {}),
    Mode("with its own timeout", {}, {"idle_timeout": "PT10M"}),
    Mode("never ends", {}, {"idle_timeout": 0}),
    Mode("bot's messages, ResetOn customer", {"reset_on": "customer"}, {"sender": "bot"}),
    Mode("slack 60 s", {"timer_slack_seconds": 60}, {}),
    Mode("slack 240 s", {"timer_slack_seconds": 240}, {}),
)


@dataclass(frozen=True)
class Counts:
    """Per message after the first; `first`: calls of the first one."""

    first: int
    calls: float
    round_trips: float
    by_operation: dict[str, int]


def conversation(mode: Mode) -> Counts:
    """Twenty messages, 20 seconds apart, each of which counts what it causes."""
    with mock_aws(), _counted() as (calls, sent):
        clock = ManualClock()
        timer = _timer(mode, clock)
        first = 0
        for number in range(MESSAGES):
            timer.touch(messages.parse(messages.TouchEvent, {"conversation_id": ID, **mode.event}))
            clock.advance(GAP_SECONDS)
            if number == 0:
                first = calls.total()
                calls.clear()
                sent.clear()
        later = MESSAGES - 1
        return Counts(first, calls.total() / later, sent.total() / later, dict(calls))


def _timer(mode: Mode, clock: ManualClock) -> Timer:
    make: Callable[..., Any] = boto3.client
    dynamodb = make("dynamodb", region_name="us-east-1")
    for table, key in (("conversations", "conversation_id"), ("control", "control_id")):
        dynamodb.create_table(
            TableName=table,
            KeySchema=[{"AttributeName": key, "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
    make("scheduler", region_name="us-east-1").create_schedule_group(Name="group")
    scheduler = EventBridgeScheduler(
        client("scheduler"), group="group", target_arn=ARN, role_arn=ROLE, dead_letter_arn=QUEUE
    )
    timers = Timers(
        settings=settings(**mode.stack),
        store=DynamoDBStore(client("dynamodb"), "conversations", "control"),
        scheduler=scheduler,
        clock=clock,
        chance=SeededChance(),
        telemetry=CountingTelemetry(),
    )
    return Timer(timers=timers, handover=MemoryHandover())


@contextmanager
def _counted() -> Iterator[tuple[Counter[str], Counter[str]]]:
    """Calls by operation, and requests that left for the network, retries included."""
    client.cache_clear()
    calls: Counter[str] = Counter()
    sent: Counter[str] = Counter()
    for service in ("dynamodb", "scheduler"):
        events = client(service).meta.events
        events.register("before-call", lambda model, **_: calls.update([model.name]))
        events.register_first("before-send", lambda request, **_: sent.update([request.method]))
    yield calls, sent
    client.cache_clear()
