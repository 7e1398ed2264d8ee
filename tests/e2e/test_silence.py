"""The main job on the deployed local stack: silence ends a conversation, once, never early, and everybody is told."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import pytest

from tests.local.stack import FunctionError, LocalStack, Outcome, eventually

NewId = Callable[[str], str]
TIMEOUT = "PT5S"
LATEST_SECONDS = 3.0  # after the due time: one second of clock skew allowance, one firing, one cold start


def of(stack: LocalStack, conversation_id: str, type_: str = "ConversationEnded") -> list[Outcome]:
    """The outcomes of one conversation, so far."""
    return [o for o in stack.outcomes() if o.body["conversation_id"] == conversation_id and o.type == type_]


def wait_for_end(stack: LocalStack, conversation_id: str, *, timeout: float = 25.0) -> Outcome:
    """The first end of a conversation."""
    eventually(lambda: of(stack, conversation_id), timeout, "the conversation to end")
    return of(stack, conversation_id)[0]


def seconds(time_: str) -> float:
    """RFC 3339 -> epoch seconds."""
    return datetime.fromisoformat(time_).timestamp()


def check_in_time(outcome: Outcome, answer: dict[str, Any], timeout_seconds: float = 5.0) -> None:
    """Never early by the outcome's own proof, nor by the answer of the last touch; and soon after."""
    proof = outcome.body["proof"]
    assert proof["last_activity_at"] == answer["last_activity_at"]
    assert seconds(proof["decided_at"]) >= seconds(answer["last_activity_at"]) + timeout_seconds
    assert seconds(proof["decided_at"]) - seconds(answer["due_at"]) <= LATEST_SECONDS


def test_silence_ends_the_conversation_and_leaves_nothing_behind(stack: LocalStack, new_id: NewId) -> None:
    talking, silent = new_id("talking"), new_id("silent")
    for conversation_id in (talking, silent):
        stack.redis.set(f"session:{conversation_id}", "state", ex=600)
    stack.invoke("touch", {"conversation_id": silent, "idle_timeout": TIMEOUT, "attributes": {"tenant": "a"}})
    for _ in range(4):
        answer = stack.invoke("touch", {"conversation_id": talking, "idle_timeout": TIMEOUT})
        time.sleep(1.5)
    silent_end, talking_end = wait_for_end(stack, silent), wait_for_end(stack, talking)
    check_in_time(talking_end, answer)
    assert silent_end.body["attributes"] == {"tenant": "a"}
    assert silent_end.attributes == {"type": "ConversationEnded", "reason": "idle_timeout"}
    assert seconds(silent_end.body["proof"]["decided_at"]) < seconds(talking_end.body["proof"]["decided_at"])
    assert not {talking, silent} & set(stack.schedules())
    assert not stack.redis.exists(f"session:{talking}", f"session:{silent}")
    time.sleep(1.5)
    assert len(of(stack, silent)) == len(of(stack, talking)) == 1


def test_a_message_during_the_firing_keeps_the_conversation_open(stack: LocalStack, new_id: NewId) -> None:
    """Promises 1 and 3: cleanup's conditional write is held until touch has answered; it must lose."""
    conversation_id = new_id("held")
    stack.redis.set(f"session:{conversation_id}", "state", ex=600)
    stack.invoke("touch", {"conversation_id": conversation_id, "idle_timeout": TIMEOUT})
    with stack.faults.hold("dynamodb", "PutItem", function="cleanup", contains=conversation_id) as hold:
        hold.wait_held(timeout=20)
        answer = stack.invoke("touch", {"conversation_id": conversation_id})
        assert answer["result"] == "recorded"
        hold.release()
    assert not of(stack, conversation_id)
    check_in_time(wait_for_end(stack, conversation_id), answer)
    time.sleep(1)
    assert len(of(stack, conversation_id)) == 1
    assert stack.schedules().count(conversation_id) == 0


def test_every_later_touch_makes_exactly_two_aws_calls(stack: LocalStack, new_id: NewId) -> None:
    conversation_id = new_id("counted")
    stack.invoke("touch", {"conversation_id": conversation_id})
    before = stack.last_call
    messages = 5
    for _ in range(messages):
        stack.invoke(
            "touch",
            {"conversation_id": conversation_id, "session_key": conversation_id, "attributes": {"a": "b"}},
        )
    made = stack.calls(function="touch", contains=conversation_id, since=before)
    assert [(call.service, call.operation) for call in made] == messages * [
        ("dynamodb", "UpdateItem"),
        ("scheduler", "UpdateSchedule"),
    ]


def test_a_refused_deletion_of_the_schedule_does_not_stop_the_end(stack: LocalStack, new_id: NewId) -> None:
    conversation_id = new_id("undeleted")
    stack.invoke("touch", {"conversation_id": conversation_id, "idle_timeout": TIMEOUT})
    with stack.faults.refuse("scheduler", "DeleteSchedule", contains=conversation_id, times=0) as refused:
        wait_for_end(stack, conversation_id)
        assert refused.hits
    assert conversation_id in stack.schedules()
    stack.invoke("cleanup", {"version": 1, "conversation_id": conversation_id, "source": "schedule"})
    assert conversation_id not in stack.schedules()
    assert len(of(stack, conversation_id)) == 1


def test_an_outcome_that_sns_refused_is_published_by_the_retry_under_the_same_id(
    stack: LocalStack, new_id: NewId
) -> None:
    """Promise 4: the end is committed, the duty to report it with it."""
    conversation_id = new_id("unpublished")
    answer = stack.invoke("touch", {"conversation_id": conversation_id, "idle_timeout": TIMEOUT})
    # Two of the SDK's own tries make one failed invocation.
    with stack.faults.refuse("sns", "Publish", contains=conversation_id, times=2) as refused:
        outcome = wait_for_end(stack, conversation_id, timeout=40)
        assert refused.hits == 2
    assert outcome.body["id"] == f"{answer['opening_id']}-2"
    attempts = stack.calls("sns", "Publish", contains=conversation_id)
    assert len(attempts) == 3
    assert len({call.params["Message"] for call in attempts}) == 1  # word for word


def test_a_session_of_a_conversation_reopened_before_its_removal_stays(
    stack: LocalStack, new_id: NewId
) -> None:
    """Reopened between the commit and the removal: nothing is taken away."""
    conversation_id = new_id("reopened")
    stack.redis.set(f"session:{conversation_id}", "state", ex=500)
    stack.invoke("touch", {"conversation_id": conversation_id, "idle_timeout": TIMEOUT})
    with stack.faults.hold(
        "dynamodb", "PutItem", function="cleanup", contains="idle_timeout", times=1, after=True
    ) as hold:
        hold.wait_held(timeout=20)
        answer = stack.invoke("touch", {"conversation_id": conversation_id, "idle_timeout": "PT1M"})
        hold.release()
    assert answer["result"] == "reopened"
    eventually(lambda: of(stack, conversation_id, "ConversationReopened"), what="the reopening to be told")
    assert wait_for_end(stack, conversation_id)
    assert 0 < stack.redis.ttl(f"session:{conversation_id}") <= 500


def test_a_removal_that_crashed_half_way_puts_the_session_of_a_reopened_conversation_back(
    stack: LocalStack, new_id: NewId
) -> None:
    """Reopened, moved to the tombstone, and the function dies: what the reopening owes puts it back."""
    conversation_id = new_id("crashed")
    key = f"session:{conversation_id}"
    stack.redis.set(key, "state", ex=500)
    stack.invoke("touch", {"conversation_id": conversation_id, "idle_timeout": TIMEOUT})
    of_cleanup = {"function": "cleanup", "contains": conversation_id}
    with ThreadPoolExecutor(1) as backend:
        committed = stack.faults.hold("dynamodb", "PutItem", after=True, times=1, **of_cleanup)
        committed.wait_held(timeout=20)
        looked = stack.faults.hold("dynamodb", "BatchGetItem", after=True, times=1, **of_cleanup)
        committed.release()
        looked.wait_held()
        handover = stack.faults.hold("lambda", "Invoke", function="touch", contains=conversation_id)
        reopening = backend.submit(
            stack.invoke, "touch", {"conversation_id": conversation_id, "idle_timeout": "PT1M"}
        )
        handover.wait_held()
        crash = stack.faults.crash("dynamodb", "PutItem", times=1, **of_cleanup)
        looked.release()
        crash.wait_hit()
        assert not stack.redis.exists(key)
        handover.release()
        answer = reopening.result()
    assert answer["result"] == "reopened"
    assert answer["session"] == "restoring"
    eventually(lambda: stack.redis.exists(key), 30, "the session to come back")
    assert 0 < stack.redis.ttl(key) <= 500


def test_ids_of_every_kind_get_schedules_of_their_own(stack: LocalStack, new_id: NewId) -> None:
    """Cleanup is asked about exactly that id."""
    base = new_id("x")[:20]
    odd = [
        ".",
        "..",
        base.ljust(64, "a"),
        base.ljust(65, "a"),
        "🙂 " + base,
        f"<aws.scheduler.execution-id>{base}",
        "<aws.scheduler.execution-id>",
    ]
    for conversation_id in odd:
        assert (
            stack.invoke("touch", {"conversation_id": conversation_id, "idle_timeout": TIMEOUT})["timer"]
            == "created"
        )
    names = stack.schedules()
    assert len(set(names)) == len(names) >= len(odd)
    with ThreadPoolExecutor(len(odd)) as pool:
        ends = list(pool.map(lambda conversation_id: wait_for_end(stack, conversation_id), odd))
    assert [end.body["conversation_id"] for end in ends] == odd
    assert {end.body["proof"]["source"] for end in ends} == {"schedule"}


def test_a_bad_event_changes_nothing_and_says_what_is_wrong(stack: LocalStack, new_id: NewId) -> None:
    """Promise 6, for a caller that waits and for one that does not."""
    said = "what a customer said"
    bad = {"conversation_id": new_id("bad"), "idle_timeout": said, "colour": said}
    before = stack.last_call
    with pytest.raises(FunctionError) as refused:
        stack.invoke("touch", bad)
    assert refused.value.type == "InvalidEventError"
    assert refused.value.message.startswith(
        "invalid event: idle_timeout: must be whole seconds or an ISO 8601 duration"
    )
    assert "colour: is not a known field" in refused.value.message
    assert said not in refused.value.message
    assert not stack.calls(function="touch", since=before)


def test_a_bad_event_that_nobody_waits_for_ends_in_the_failure_destination_with_its_error(
    stack: LocalStack, new_id: NewId
) -> None:
    """Through the failure queue to the parked one: retrying cannot help it."""
    conversation_id = new_id("bad-event")
    stack.invoke("touch", {"conversation_id": conversation_id, "idle_timeout": -1}, event=True)
    parked: list[dict[str, Any]] = []

    def arrived() -> bool:
        found = stack.client("sqs").receive_message(
            QueueUrl=stack.outputs["ParkedQueueUrl"], MaxNumberOfMessages=10, VisibilityTimeout=0
        )
        parked.extend(json.loads(message["Body"]) for message in found.get("Messages", []))
        return any(conversation_id in json.dumps(record) for record in parked)

    eventually(arrived, 40, "the event to be parked")
    [record] = [record for record in parked if conversation_id in json.dumps(record)][:1]
    assert record["requestPayload"] == {"conversation_id": conversation_id, "idle_timeout": -1}
    assert record["responsePayload"]["errorType"] == "InvalidEventError"
    assert (
        "idle_timeout: Input should be greater than or equal to 0"
        in record["responsePayload"]["errorMessage"]
    )
