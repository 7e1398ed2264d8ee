"""Nobody is forgotten on the deployed local stack, whatever is lost on the way: issue by issue, the failures themselves.

A stack of its own, with a small grace and bucket; the tests play the sweep's rule, whose period is a minute at least.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pytest
from samcli.yamlhelper import yaml_parse

from idle_timer import conversation as rules
from idle_timer.adapters.dynamodb import DynamoDBStore, from_item
from idle_timer.conversation import Conversation, Message
from idle_timer.settings import Settings
from idle_timer.sweep import MARGIN_SECONDS
from tests.local.stack import REPOSITORY, FunctionError, LocalStack, Outcome, eventually

GRACE_SECONDS = 5
PERIOD_SECONDS = 60
BOUND_SECONDS = GRACE_SECONDS + GRACE_SECONDS + 2 * PERIOD_SECONDS  # grace + bucket + 2 sweep periods
MAX_ATTEMPTS = 3
RULE = json.loads((REPOSITORY / "events" / "sweep.json").read_text())

NewId = Callable[[str], str]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """Another stack than the other tests': theirs must not be swept."""
    parameters = {
        "IdleTimeoutSeconds": 60,
        "SweepGraceSeconds": GRACE_SECONDS,
        "SweepPeriodMinutes": PERIOD_SECONDS // 60,
        "MaxAttempts": MAX_ATTEMPTS,
        "RedriveDelaySeconds": 1,
    }
    build_directory = tmp_path_factory.mktemp("build") / "build"
    with LocalStack(
        build_directory=build_directory, stack_name="never-forgotten", parameters=parameters
    ) as running:
        yield running


@pytest.fixture
def only_we_sweep(stack: LocalStack) -> Iterator[None]:
    """The sweep's rule, which fires each minute, keeps still."""
    client, name = stack.client("events"), stack.resources["SweepFunctionPeriod"]
    client.disable_rule(Name=name)
    eventually(lambda: lease(stack).get("until", {"N": "0"}) == {"N": "0"}, 60, "a sweep under way to end")
    yield
    client.enable_rule(Name=name)


def of(stack: LocalStack, conversation_id: str, type_: str = "ConversationEnded") -> list[Outcome]:
    """The outcomes of one conversation, so far."""
    return [o for o in stack.outcomes() if o.body["conversation_id"] == conversation_id and o.type == type_]


def ended(stack: LocalStack, ids: set[str]) -> dict[str, Outcome]:
    """The ends so far, by conversation; fails on a second outcome id for one of them."""
    found: dict[str, Outcome] = {}
    for outcome in stack.outcomes():
        conversation_id = outcome.body["conversation_id"]
        if conversation_id in ids and outcome.type == "ConversationEnded":
            assert found.setdefault(conversation_id, outcome).body["id"] == outcome.body["id"]
    return found


def item(stack: LocalStack, conversation_id: str) -> Conversation | None:
    """The conversation as it stands in the table."""
    table = stack.outputs["ConversationsTableName"]
    key = {"conversation_id": {"S": conversation_id}}
    found = stack.client("dynamodb").get_item(TableName=table, Key=key, ConsistentRead=True)
    return from_item(found["Item"]) if "Item" in found else None


SWEPT = Counter[str]()
"""How often the tests themselves have played the rule."""


def sweep(stack: LocalStack) -> dict[str, Any]:
    """As its rule does."""
    SWEPT[stack.endpoint_url] += 1
    answer: dict[str, Any] = stack.invoke("sweep", RULE)
    return answer


def sweep_until(stack: LocalStack, done: Callable[[], bool], timeout: float = 120.0) -> None:
    """A rule that is in a hurry."""
    deadline = time.monotonic() + timeout
    while not done():
        assert time.monotonic() < deadline, "not done in time"
        sweep(stack)
        time.sleep(1)


def metric(stack: LocalStack, function: str, name: str) -> list[dict[str, Any]]:
    """The records (EMF) that carry a metric."""
    lines = [line for line in stack.logs(function).splitlines() if f'"{name}"' in line and '"_aws"' in line]
    return [json.loads(line[line.index("{") :]) for line in lines]


def total(records: list[dict[str, Any]], name: str, *, by: bool) -> float:
    """The sum of a metric, over its records with or without a reason."""
    values = [record[name] for record in records if ("reason" in record) == by]
    return sum(sum(value) if isinstance(value, list) else value for value in values)


def seconds(time_: str) -> float:
    """RFC 3339 -> epoch seconds."""
    return datetime.fromisoformat(time_).timestamp()


def settings_of(stack: LocalStack) -> Settings:
    """What the functions work with."""
    name = stack.function_name("cleanup")
    found = stack.client("lambda").get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    return Settings.from_environment({key: value for key, value in found.items() if value})


def idle_for(stack: LocalStack, ids: list[str], silent_seconds: int) -> None:
    """Conversations that fell silent so long ago, and whose schedules are lost: written as touch would have."""
    settings = settings_of(stack)
    store = DynamoDBStore(
        stack.client("dynamodb"), stack.outputs["ConversationsTableName"], stack.outputs["ControlTableName"]
    )
    at = int((time.time() - silent_seconds) * 1_000)

    def write(numbered: tuple[int, str]) -> None:
        number, conversation_id = numbered
        opened = rules.touched(
            None,
            Message(at=at + number),
            conversation_id=conversation_id,
            opening_id=f"opening-of-{conversation_id}",
            now=at + number,
            settings=settings,
        ).after
        assert opened is not None
        assert store.save(rules.stamped(opened, None, at + number, settings), None).done

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, enumerate(ids)))


@contextmanager
def sweeping_with(stack: LocalStack, *, timeout: int, max_handovers: int) -> Iterator[None]:
    """Another Lambda time and bound for the sweep, as a new version behind its alias."""
    client, name = stack.client("lambda"), stack.function_name("sweep")
    before = client.get_function_configuration(FunctionName=name)
    variables = before["Environment"]["Variables"]

    def configure(seconds: int, environment: Mapping[str, str]) -> None:
        client.update_function_configuration(
            FunctionName=name, Timeout=seconds, Environment={"Variables": dict(environment)}
        )
        version = client.publish_version(FunctionName=name)["Version"]
        client.update_alias(FunctionName=name, Name="live", FunctionVersion=version)

    configure(timeout, {**variables, "SWEEP_MAX_HANDOVERS": str(max_handovers)})
    try:
        yield
    finally:
        configure(before["Timeout"], variables)


def lease(stack: LocalStack) -> dict[str, Any]:
    """The sweep's lease, as DynamoDB has it."""
    key = {"control_id": {"S": "sweep"}}
    found: dict[str, Any] = (
        stack.client("dynamodb")
        .get_item(TableName=stack.outputs["ControlTableName"], Key=key, ConsistentRead=True)
        .get("Item", {})
    )
    return found


def wait_for_the_run(stack: LocalStack, timeout: float = 240.0) -> None:
    """Until the sweep, with all its hand-overs, has given its lease back."""
    eventually(lambda: lease(stack).get("until") == {"N": "0"}, timeout, "the sweep to end")


# --- 1: every schedule lost ---


def test_every_schedule_deleted_behind_its_back_and_all_end_within_the_bound(
    stack: LocalStack, new_id: NewId
) -> None:
    ids = {new_id(f"{number}") for number in range(200)}
    before = total(metric(stack, "sweep", "SweepRepaired"), "SweepRepaired", by=False)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda each: stack.invoke("touch", {"conversation_id": each}), ids))
        client, group = stack.client("scheduler"), stack.outputs["ScheduleGroupName"]
        names = stack.schedules()
        list(pool.map(lambda name: client.delete_schedule(Name=name, GroupName=group), names))
    last_activity = {answer["conversation_id"]: answer["last_activity_at"] for answer in answers}
    assert len(names) >= 200
    assert not ended(stack, ids)
    sweep_until(stack, lambda: len(ended(stack, ids)) == 200, timeout=60 + BOUND_SECONDS)
    for conversation_id, outcome in ended(stack, ids).items():
        proof = outcome.body["proof"]
        assert proof["source"] == "sweep"
        assert proof["last_activity_at"] == last_activity[conversation_id]
        assert seconds(proof["decided_at"]) >= seconds(last_activity[conversation_id]) + 60  # never early
        assert proof["lateness_seconds"] <= BOUND_SECONDS
    records = metric(stack, "sweep", "SweepRepaired")
    assert total(records, "SweepRepaired", by=False) - before == 200
    assert total(records, "SweepRepaired", by=True) - before == 200
    assert not ids & set(stack.schedules())
    runs = '"result":"'  # each sweep logs how it went
    eventually(
        lambda: stack.logs("sweep").count(runs) > SWEPT[stack.endpoint_url],
        PERIOD_SECONDS + 20,
        "the rule itself",
    )


@pytest.mark.deep
def test_with_scheduler_absent_all_conversations_still_end(stack: LocalStack, new_id: NewId) -> None:
    ids = {new_id(f"{number}") for number in range(5)}
    operations = ("CreateSchedule", "UpdateSchedule", "DeleteSchedule", "GetSchedule", "ListSchedules")
    for operation in operations:
        stack.faults.refuse("scheduler", operation, times=0)
    for conversation_id in ids:
        with pytest.raises(FunctionError):  # no timer: the backend is told to come again, and never does
            stack.invoke("touch", {"conversation_id": conversation_id, "idle_timeout": "PT2S"})
    sweep_until(stack, lambda: len(ended(stack, ids)) == 5, timeout=BOUND_SECONDS)
    assert {outcome.body["proof"]["source"] for outcome in ended(stack, ids).values()} == {"sweep"}


# --- 2: failing cleanups ---


@pytest.mark.deep
@pytest.mark.parametrize(
    ("service", "operation"), [("sns", "Publish"), ("dynamodb", "BatchGetItem"), ("dynamodb", "PutItem")]
)
def test_a_cleanup_that_fails_for_a_while_ends_properly_once_the_fault_is_gone(
    stack: LocalStack, new_id: NewId, service: str, operation: str
) -> None:
    conversation_id = new_id(f"{service}-{operation}")
    fault = stack.faults.refuse(service, operation, times=0, contains=conversation_id, function="cleanup")
    stack.invoke("touch", {"conversation_id": conversation_id, "idle_timeout": "PT2S"})

    def was_redriven() -> bool:
        found = item(stack, conversation_id)
        return found is not None and found.attempts >= 1

    eventually(was_redriven, 60, "an attempt by redrive to fail")
    assert not of(stack, conversation_id)
    fault.remove()
    eventually(lambda: of(stack, conversation_id), 60, "the end")
    time.sleep(2)
    assert len({outcome.body["id"] for outcome in of(stack, conversation_id)}) == 1
    eventually(lambda: getattr(item(stack, conversation_id), "attempts", 1) == 0, 20, "the forgiveness")
    assert not of(stack, conversation_id, "ConversationEndFailed")


@pytest.mark.deep
def test_what_never_stops_failing_is_parked_after_exactly_the_attempts_and_the_others_are_untouched(
    stack: LocalStack, new_id: NewId
) -> None:
    bad, good = new_id("bad"), [new_id(f"good-{number}") for number in range(4)]
    idle_for(stack, [bad, *good], 63)
    opening = f"opening-of-{bad}"
    # Only the report of its end fails, so that the report of the failure can be seen to get through.
    stack.faults.refuse("sns", "Publish", times=0, contains=f'{opening}-2\\"', function="cleanup")
    events = [
        {"version": 1, "conversation_id": each, "source": "schedule"} for each in [good[0], bad, *good[1:]]
    ]
    stack.client("sqs").send_message_batch(
        QueueUrl=stack.outputs["FailureQueueUrl"],
        Entries=[{"Id": str(n), "MessageBody": json.dumps(event)} for n, event in enumerate(events)],
    )
    eventually(lambda: of(stack, bad, "ConversationEndFailed"), 90, "the parking to be told")
    parked = item(stack, bad)
    assert parked is not None
    assert parked.attempts == MAX_ATTEMPTS
    assert str(parked.sweep_shard).startswith("parked#")
    assert not of(stack, bad)
    runs = [  # by redrive, and by the sweep if its rule fired meanwhile: they count together
        call
        for call in stack.calls("lambda", "Invoke", contains=bad)
        if call.params.get("InvocationType") == "RequestResponse"
        and call.params["Payload"]["source"] in ("redrive", "sweep")
    ]
    assert len(runs) == MAX_ATTEMPTS
    eventually(lambda: len(ended(stack, set(good))) == 4, 30, "the others to end")
    assert {getattr(item(stack, each), "attempts", None) for each in good} == {0}
    # A person sees it, mends the cause, and retries.
    waiting = stack.invoke("inspect", {"action": "list", "which": "parked"})["conversations"]
    assert bad in {row["conversation_id"] for row in waiting}
    eventually(
        lambda: any(
            bad in event["event"]
            for event in stack.invoke("inspect", {"action": "list", "which": "events"})["events"]
        ),
        30,
        "its event to be in the parked queue",
    )
    stack.faults.clear()
    [retried] = stack.invoke("inspect", {"action": "retry", "conversation_id": bad})["retried"]
    assert "error" not in retried
    assert len({outcome.body["id"] for outcome in of(stack, bad)}) == 1
    after = item(stack, bad)
    assert after is not None
    assert (after.attempts, after.sweep_shard) == (0, None)


def test_every_alarm_on_our_own_metrics_watches_a_record_that_is_really_emitted(
    stack: LocalStack, new_id: NewId
) -> None:
    bad, lost = new_id("bad"), new_id("lost")
    idle_for(stack, [bad, lost], 90)
    stack.faults.refuse("dynamodb", "PutItem", times=0, contains=bad, function="cleanup")
    sweep_until(stack, lambda: getattr(item(stack, bad), "attempts", 0) == MAX_ATTEMPTS, timeout=90)
    emitted = set()
    for function in ("touch", "lifecycle", "cleanup", "sweep", "redrive"):
        for line in stack.logs(function).splitlines():
            if '"_aws"' not in line:
                continue
            record = json.loads(line[line.index("{") :])
            for directive in record["_aws"]["CloudWatchMetrics"]:
                for dimensions in directive["Dimensions"]:
                    values = tuple(sorted((name, record[name]) for name in dimensions))
                    for each in directive["Metrics"]:
                        emitted.add((directive["Namespace"], each["Name"], values))
    template = yaml_parse((REPOSITORY / "template.yaml").read_text())
    alarms = {
        name: resource["Properties"]
        for name, resource in template["Resources"].items()
        if resource["Type"] == "AWS::CloudWatch::Alarm" and resource["Properties"]["Namespace"] == "IdleTimer"
    }
    assert alarms
    for name, alarm in alarms.items():
        dimensions = tuple(
            sorted((each["Name"], _value(stack, each["Value"])) for each in alarm["Dimensions"])
        )
        assert (alarm["Namespace"], alarm["MetricName"], dimensions) in emitted, name


def _value(stack: LocalStack, value: Any) -> str:
    return "never-forgotten" if value == {"Ref": "AWS::StackName"} else str(value)


# --- 3: longer than one Lambda ---


SWEPT_AT_ONCE = 500
CLEANUP_DELAY_SECONDS = 0.3  # makes a sweep of so many take long enough, on a fast machine, too


def seconds_for_all(stack: LocalStack, new_id: NewId) -> float:
    """How long this machine needs, just now, to sweep them all."""
    sample = [new_id(f"sample-{number}") for number in range(100)]
    idle_for(stack, sample, 90)
    sweep_until(
        stack, lambda: len(ended(stack, set(sample[:40]))) == 40
    )  # starts enough of cleanup's processes
    idle_for(stack, [f"{each}-timed" for each in sample], 90)
    started = time.monotonic()
    sweep_until(stack, lambda: len(ended(stack, {f"{each}-timed" for each in sample})) == 100)
    return (time.monotonic() - started) * SWEPT_AT_ONCE / len(sample)


@pytest.mark.deep
@pytest.mark.usefixtures("only_we_sweep")
def test_work_that_needs_several_lambdas_is_handed_on_and_finished(stack: LocalStack, new_id: NewId) -> None:
    ids = [new_id(f"{number}") for number in range(SWEPT_AT_ONCE)]
    stack.faults.delay("dynamodb", "BatchGetItem", CLEANUP_DELAY_SECONDS, times=0, function="cleanup")
    a_fifth = seconds_for_all(stack, new_id) / 5
    idle_for(stack, ids, 90)
    with sweeping_with(stack, timeout=round(MARGIN_SECONDS + 1 + a_fifth), max_handovers=10):
        assert sweep(stack)["result"] == "handed_over"
        wait_for_the_run(stack)
    final = lease(stack)
    assert 1 < int(final["handovers"]["N"]) <= 10
    assert "cursor" not in final
    assert len(ended(stack, set(ids))) == SWEPT_AT_ONCE


@pytest.mark.deep
@pytest.mark.usefixtures("only_we_sweep")
def test_with_too_few_hand_overs_it_stops_with_its_cursor_and_the_next_sweep_finishes(
    stack: LocalStack, new_id: NewId
) -> None:
    ids = [new_id(f"{number}") for number in range(SWEPT_AT_ONCE)]
    stack.faults.delay("dynamodb", "BatchGetItem", CLEANUP_DELAY_SECONDS, times=0, function="cleanup")
    an_eighth = seconds_for_all(stack, new_id) / 8  # four invocations do half of it
    idle_for(stack, ids, 90)
    with sweeping_with(stack, timeout=round(MARGIN_SECONDS + 1 + an_eighth), max_handovers=3):
        assert sweep(stack)["result"] == "handed_over"
        wait_for_the_run(stack)
    stopped = lease(stack)
    assert stopped["handovers"] == {"N": "3"}
    assert "cursor" in stopped
    done = len(ended(stack, set(ids)))
    assert 0 < done < SWEPT_AT_ONCE
    stack.faults.clear()
    sweep_until(stack, lambda: len(ended(stack, set(ids))) == SWEPT_AT_ONCE)
    wait_for_the_run(stack)
    assert "cursor" not in lease(stack)


# --- 4: a dry run ---


def once_quiet(stack: LocalStack) -> dict[str, Any]:
    """Everything, when nothing of the tests before is at work any more."""
    seen: list[dict[str, Any]] = []

    def unchanged() -> bool:
        seen.append(everything(stack))
        time.sleep(2)
        return len(seen) > 2 and seen[-1] == seen[-2] == seen[-3]

    eventually(unchanged, 60, "the stack to be quiet")
    return seen[-1]


def everything(stack: LocalStack) -> dict[str, Any]:
    """Tables, queues and schedule group, in full."""
    dynamodb, scheduler = stack.client("dynamodb"), stack.client("scheduler")
    tables = {
        name: sorted(
            (
                item
                for page in dynamodb.get_paginator("scan").paginate(TableName=name)
                for item in page["Items"]
            ),
            key=str,
        )
        for name in (stack.outputs["ConversationsTableName"], stack.outputs["ControlTableName"])
    }
    queues = {
        name: stack.client("sqs").get_queue_attributes(
            QueueUrl=stack.outputs[name],
            AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesDelayed"],
        )["Attributes"]
        for name in ("FailureQueueUrl", "ParkedQueueUrl")
    }
    group = stack.outputs["ScheduleGroupName"]
    schedules = {
        name: {
            key: value
            for key, value in scheduler.get_schedule(Name=name, GroupName=group).items()
            if key != "ResponseMetadata"
        }
        for name in stack.schedules()
    }
    return {"tables": tables, "queues": queues, "schedules": schedules}


@pytest.mark.usefixtures("only_we_sweep")
def test_a_dry_run_changes_nothing(stack: LocalStack, new_id: NewId) -> None:
    overdue, alive = new_id("overdue"), new_id("alive")
    idle_for(stack, [overdue], 90)
    stack.invoke("touch", {"conversation_id": alive, "idle_timeout": "PT10M"})
    parked_url = stack.outputs["ParkedQueueUrl"]
    stack.client("sqs").send_message(QueueUrl=parked_url, MessageBody="looked at, not moved")
    before = once_quiet(stack)
    said = {}
    for which in ("overdue", "pending", "failed", "parked"):
        stack.invoke("inspect", {"action": "retry", "which": which, "dry_run": True})
    for each in (overdue, alive):
        asked = {"action": "retry", "conversation_id": each, "dry_run": True}
        [said[each]] = stack.invoke("inspect", asked)["retried"]
    stack.invoke("inspect", {"action": "retry", "which": "events", "dry_run": True})
    time.sleep(1.5)  # what was looked at is visible again
    assert everything(stack) == before
    assert said[overdue]["would"] == "end"
    assert said[alive]["would"] == "re_arm"
    assert "silent for" in said[overdue]["why"]
    answer = stack.invoke("inspect", {"action": "retry", "conversation_id": overdue})
    assert answer["retried"] == [{"conversation_id": overdue, "decision": "ended"}]


# --- 5: a hold ---


def test_under_a_hold_nobody_ends_and_its_time_is_credited(stack: LocalStack, new_id: NewId) -> None:
    ids = {new_id(f"{number}") for number in range(5)}
    for conversation_id in ids:
        stack.invoke("touch", {"conversation_id": conversation_id, "idle_timeout": "PT6S"})
    assert stack.invoke("inspect", {"action": "hold", "on": True})["hold"] is True
    assert sweep(stack)["result"] == "resting"
    time.sleep(12)
    assert not ended(stack, ids)
    status = stack.invoke("inspect", {"action": "status", "conversation_id": min(ids)})
    assert (status["state"], status["hold"], status["attempts"]) == ("active", True, 0)
    assert stack.invoke("inspect", {"action": "hold", "on": False})["hold"] is False
    sweep_until(stack, lambda: len(ended(stack, ids)) == 5)
    for outcome in ended(stack, ids).values():
        proof = outcome.body["proof"]
        assert proof["hold_credit_seconds"] >= 12
        credited = seconds(proof["last_activity_at"]) + 6 + proof["hold_credit_seconds"]
        assert seconds(proof["decided_at"]) >= credited


# --- forgetting, malformed events ---


def test_forgetting_erases_every_trace(stack: LocalStack, new_id: NewId) -> None:
    conversation_id = new_id("somebody")
    stack.redis.set(f"session:{conversation_id}", "personal", ex=600)
    stack.invoke("touch", {"conversation_id": conversation_id, "connect_contact_id": "contact-of-somebody"})
    answer = stack.invoke("inspect", {"action": "forget", "conversation_id": conversation_id})
    assert answer == {"conversation_id": conversation_id, "found": True, "forgotten": True}
    assert conversation_id not in json.dumps(everything(stack), default=str)
    assert not [key for key in stack.redis.scan_iter() if conversation_id in key]


def test_a_malformed_event_is_parked_at_once(stack: LocalStack, new_id: NewId) -> None:
    marker = new_id("nonsense")
    stack.invoke("touch", {"conversation_id": marker, "nonsense": 1}, event=True)
    seen: Counter[str] = Counter()

    def is_parked() -> bool:
        events = stack.invoke("inspect", {"action": "list", "which": "events", "limit": 100})["events"]
        seen.update(event["why"] for event in events if marker in event["event"])
        return bool(seen)

    eventually(is_parked, 60, "the event to be parked")
    assert set(seen) == {"invalid_event"}
    assert item(stack, marker) is None
