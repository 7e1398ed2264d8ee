"""What a message costs and which quotas it uses, from the simulated protocol; and the same for the alternatives."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.bench import gaps

# Seconds that a warm invocation takes, mostly waiting for AWS: two or three calls of 5 to 10 ms each; an assumption.
TOUCH_SECONDS, CLEANUP_SECONDS = 0.025, 0.050
SCHEDULER_CALL_SECONDS = 0.010  # the part of it that an upsert takes
TOUCH_GB, CLEANUP_GB = 0.5, 0.25  # the template's memory sizes
STEPPED_TIMEOUT_SECONDS = 900  # SQS delays a message by 15 minutes at most


@cache
def facts() -> Mapping[str, Any]:
    """Prices and quotas, with their sources."""
    found: Mapping[str, Any] = json.loads((Path(__file__).with_name("aws.json")).read_text())
    return found


def usd(name: str) -> float:
    """A price."""
    return float(facts()["prices"][name]["usd"])


def quotas(region: str) -> Mapping[str, float]:
    """Default quotas of a Region: per second, but for Lambda's concurrency."""
    given = facts()["quotas"]
    found: Mapping[str, float] = given["large" if region in given["large_regions"] else "small"]
    return found


@dataclass(frozen=True)
class Usage:
    """Per message, from a simulation of touch and cleanup over whole conversations."""

    create: float
    update: float
    delete: float
    firings: float
    cleanups: float
    ends: float
    openings: float
    table_writes: float  # write units; index entries included
    timer_writes: float  # of these, what only the timer needs
    table_reads: float
    publishes: float


def usage(talks: Sequence[gaps.Talk], slack_seconds: int, timeout_seconds: int = 300) -> Usage:
    """Play the conversations, count, divide by the messages."""
    tally = gaps.simulate(talks, slack_seconds, timeout_seconds)
    moved = sum(a // 60_000 != b // 60_000 for talk in talks for a, b in pairwise(talk))
    ends = sum(len(each) for each in tally.ends) / tally.messages
    bucket_moves = moved / tally.messages  # an index key that changes costs two writes
    records = tally.per_message("store.record")
    notes, saves = tally.per_message("store.note_timer"), tally.per_message("store.save")
    return Usage(
        create=tally.per_message("scheduler.create"),
        update=tally.per_message("scheduler.update"),
        delete=tally.per_message("scheduler.delete"),
        firings=tally.firings / tally.messages,
        cleanups=(tally.firings + tally.handovers) / tally.messages,
        ends=ends,
        openings=ends,
        table_writes=records + notes + saves + 2 * bucket_moves + 2 * ends,
        timer_writes=notes,
        table_reads=2 * tally.per_message("store.read"),  # the item, and the hold beside it
        publishes=tally.per_message("outcomes.publish"),
    )


def rates(used: Usage, messages_per_second: float) -> dict[str, float]:
    """Use of each quota at so many messages a second."""
    concurrency = TOUCH_SECONDS + used.cleanups * CLEANUP_SECONDS
    per_message = {
        "CreateSchedule": used.create,
        "UpdateSchedule": used.update,
        "DeleteSchedule": used.delete,
        "schedule firings": used.firings,
        "Lambda concurrency": concurrency,
        "DynamoDB table writes": used.table_writes,
        "SNS publishes": used.publishes,
    }
    return {name: each * messages_per_second for name, each in per_message.items()}


def capacity(used: Usage, region: str) -> tuple[float, str]:
    """Messages a second before the first default quota is reached, and which one that is."""
    allowed = quotas(region)
    limits = {name: allowed[name] / each for name, each in rates(used, 1).items() if each}
    first = min(limits, key=lambda name: limits[name])
    return limits[first], first


@dataclass(frozen=True)
class Alternative:
    """A way to build the timer. `keeps`: whether it can keep the promises, with the same item and checks around it."""

    name: str
    usd: float  # of its timers, for a million messages
    keeps: bool
    assumption: str
    source: str


def timer_usd(used: Usage) -> float:
    """What our timers cost for a million messages: firings, the cleanups that only re-arm, the notes of what is armed, and
    the time that touch waits for Scheduler, whose calls themselves are free.

    Not in it, nor in the alternatives: recording the message, and the end itself with its outcome. The alternatives' own
    calls by touch are not in theirs either, in their favour.
    """
    invocation = usd("lambda_request") + CLEANUP_SECONDS * CLEANUP_GB * usd("lambda_gb_second_arm64")
    waiting = (used.create + used.update) * SCHEDULER_CALL_SECONDS
    per_message = (
        used.firings * usd("scheduler_firing")
        + (used.firings - used.ends) * (invocation + 4 * usd("dynamodb_read"))
        + used.timer_writes * usd("dynamodb_write")
        + waiting * TOUCH_GB * usd("lambda_gb_second_arm64")
    )
    return per_message * 1e6


def whole_usd(used: Usage) -> float:
    """Everything for a million messages: touch, table, timers, cleanup, outcomes."""
    touch = usd("lambda_request") + TOUCH_SECONDS * TOUCH_GB * usd("lambda_gb_second_arm64")
    cleanup = usd("lambda_request") + CLEANUP_SECONDS * CLEANUP_GB * usd("lambda_gb_second_arm64")
    per_message = (
        touch
        + used.cleanups * cleanup
        + used.firings * usd("scheduler_firing")
        + used.table_writes * usd("dynamodb_write")
        + used.table_reads * usd("dynamodb_read")
        + used.publishes * usd("sns_publish")
    )
    return per_message * 1e6


def alternatives(used: Usage, timeout_seconds: int = 300) -> list[Alternative]:
    """The same conversations, timed otherwise; each assumption is the one that favours the alternative."""
    prices = facts()["prices"]
    million = 1e6
    transition, operation = usd("step_functions_transition"), usd("lambda_durable_operation")
    invocation = usd("lambda_request") + CLEANUP_SECONDS * CLEANUP_GB * usd("lambda_gb_second_arm64")
    return [
        Alternative(
            "Step Functions, wait restarted",
            million * (transition + used.ends * transition),
            True,
            "a standard execution per message: one transition into its wait, one more where it is the last",
            prices["step_functions_transition"]["source"],
        ),
        Alternative(
            "Step Functions, heartbeat",
            million * used.openings * 3 * transition,
            True,
            "a task with a token per opening, 3 transitions; heartbeats are free; the token is kept at no extra cost;"
            " a changed timeout or a pause needs a new execution, not counted",
            prices["step_functions_transition"]["source"],
        ),
        Alternative(
            "Lambda durable, wait restarted",
            million * (2 * operation + 2 * invocation),
            True,
            "an execution per message: its start and its wait, 2 operations, and 2 invocations",
            prices["lambda_durable_operation"]["source"],
        ),
        Alternative(
            "Lambda durable, callback heartbeat",
            million * used.openings * (4 * operation + 2 * invocation),
            True,
            "an execution per opening: start, callback, the step that keeps its id, the step that ends; heartbeats taken as"
            " free, which no page says",
            prices["lambda_durable_operation"]["source"],
        ),
        Alternative(
            "SQS delay",
            million * (3 * usd("sqs_request") + invocation),
            False,
            "a delayed message per message (send, receive, delete) and an invocation; 15 minutes at most: longer timeouts and"
            " pauses need a chain, which Lambda stops after about 16",
            prices["sqs_request"]["source"],
        ),
        Alternative(
            "DynamoDB TTL",
            0.0,
            False,
            "deletions are free, and come within days: an end in minutes cannot be promised",
            "https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/TTL.html",
        ),
        Alternative(
            "Temporal Cloud",
            million * 2 * usd("temporal_action"),
            True,
            "a signal and a timer per message, 2 actions; storage and the workers that you run not counted",
            prices["temporal_action"]["source"],
        ),
    ]
