"""Each failed event goes back to the function that it was meant for, on its own, until it works or is parked."""

import json
from typing import Any

import pytest

from idle_timer.conversation import Hold
from idle_timer.errors import InvalidEventError
from tests.fakes import steps
from tests.fakes.operations import ARN, Context, Operations
from tests.fakes.system import NOON
from tests.fakes.world import World, settings


def record(body: object, message_id: str = "m-1") -> dict[str, Any]:
    """A message of the failure queue, as Lambda hands it over."""
    return {
        "messageId": message_id,
        "receiptHandle": f"receipt of {message_id}",
        "body": body if isinstance(body, str) else json.dumps(body),
        "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": str(NOON + 5_000)},
    }


def from_schedule(conversation_id: str = "c-1", message_id: str = "m-1") -> dict[str, Any]:
    """What Scheduler could not deliver."""
    event = {
        "version": 1,
        "conversation_id": conversation_id,
        "scheduled_for": "2026-01-01T12:05:01Z",
        "execution_id": "e-1",
        "source": "schedule",
    }
    return record(event, message_id)


def from_function(
    function: str,
    payload: object,
    *,
    error: str = "TimerNotArmedError",
    message_id: str = "m-1",
    **changed: Any,
) -> dict[str, Any]:
    """What a function failed on after all retries."""
    body = {
        "version": "1.0",
        "timestamp": "2026-01-01T12:00:02.500Z",
        "requestContext": {
            "requestId": "r-1",
            "functionArn": ARN.format(function).replace(":live", ":$LATEST"),
            "condition": "RetriesExhausted",
            "approximateInvokeCount": 3,
        },
        "requestPayload": payload,
        "responseContext": {"statusCode": 200, "executedVersion": "1", "functionError": "Unhandled"},
        "responsePayload": {"errorMessage": "…", "errorType": error},
    }
    return record(body | changed, message_id)


def redrive(operations: Operations, *records: dict[str, Any]) -> list[str]:
    """One batch; the ids of the messages that stay in the queue."""
    answer = operations.redriver.redrive({"Records": list(records)}, Context())
    assert answer.keys() == {"batchItemFailures"}
    return [item["itemIdentifier"] for item in answer["batchItemFailures"]]


def idle(*conversation_ids: str, **changed: Any) -> Operations:
    """Conversations whose time is over."""
    world = World(settings(**changed))
    for conversation_id in conversation_ids:
        world.touch(conversation_id)
    world.clock.advance(400)
    return Operations(world)


def test_a_firing_that_scheduler_could_not_deliver_ends_its_conversation() -> None:
    operations = idle("c-1")
    assert redrive(operations, from_schedule()) == []
    assert operations.world.item().state == "ended"
    [outcome] = operations.world.outcomes.published
    assert outcome["proof"]["source"] == "redrive"
    assert outcome["proof"]["scheduled_for"] == "2026-01-01T12:05:01Z"


def test_a_redriven_event_is_verified_as_if_it_had_just_arrived() -> None:
    operations = idle("c-1")
    operations.world.touch("c-1")
    assert redrive(operations, from_schedule()) == []
    assert operations.world.item().state == "active"


def test_a_cleanup_that_failed_after_its_retries_is_tried_again() -> None:
    operations = idle("c-1")
    event = {"version": 1, "conversation_id": "c-1", "source": "outbox"}
    assert redrive(operations, from_function("cleanup", event, error="UnavailableError")) == []
    assert operations.world.item().state == "ended"


def test_a_lost_message_counts_at_the_time_it_had() -> None:
    operations = idle()
    lost = {"conversation_id": "c-9", "occurred_at": "2026-01-01T12:00:01.000Z"}
    assert redrive(operations, from_function("touch", lost)) == []
    assert operations.world.item("c-9").last_activity_at == NOON + 1_000


def test_a_lost_message_without_a_time_of_its_own_does_not_look_new() -> None:
    operations = idle()
    assert redrive(operations, from_function("touch", {"conversation_id": "c-9"})) == []
    assert operations.world.item("c-9").last_activity_at == NOON + 2_500
    assert redrive(operations, from_function("touch", {"conversation_id": "c-8"}, timestamp=None)) == []
    assert operations.world.item("c-8").last_activity_at == NOON + 5_000


def test_a_lost_pause_is_as_bad_as_a_lost_cleanup() -> None:
    operations = idle("c-1")
    pause = {"action": "pause", "conversation_id": "c-1", "occurred_at": "2026-01-01T12:00:01.000Z"}
    assert redrive(operations, from_function("lifecycle", pause)) == []
    assert operations.world.item().state == "paused"


@pytest.mark.parametrize(
    ("event", "problem"),
    [
        ("not a batch", "event: must be a JSON object"),
        ({"Records": None}, "Records: "),
        (
            {"Records": [{**from_schedule(), "body": None}]},
            "Records.0.body: Input should be an instance of str",
        ),
        (
            {"Records": [{**from_schedule(), "attributes": {}}]},
            "Records.0.attributes.SentTimestamp: is needed",
        ),
    ],
    ids=str,
)
def test_what_is_no_batch_of_messages_is_refused(event: Any, problem: str) -> None:
    with pytest.raises(InvalidEventError, match=problem):
        idle().redriver.redrive(event, Context())


def test_an_event_of_another_shape_goes_to_lifecycle_as_it_came() -> None:
    operations = idle()
    contact_event = {"source": "aws.connect", "detail": {"contactId": "x"}}
    operations.functions.broken[""] = "UnavailableError"
    assert redrive(operations, from_function("lifecycle", contact_event)) == ["m-1"]
    [call] = operations.functions.called
    assert (call.function, call.event) == ("lifecycle", contact_event)


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (record("not JSON"), "unreadable"),
        (record('["a list"]'), "unreadable"),
        (record("[" * 100_000), "unreadable"),
        (record("\ud800"), "unreadable"),
        (record({"version": 1, "source": "schedule"}), "invalid_event"),
        (record({"version": 1, "conversation_id": "", "source": "schedule"}), "invalid_event"),
        (from_function("stranger", {"conversation_id": "c-1"}), "unknown_function"),
        (from_function("touch", {"conversation_id": "c-1"}, requestContext=None), "unknown_function"),
        (from_function("touch", {"nonsense": 1}, error="InvalidEventError"), "invalid_event"),
        (from_function("touch", "text"), "invalid_event"),
        (from_function("touch", {"conversation_id": "c-1", "nonsense": 1}), "invalid_event"),
    ],
)
def test_what_no_retry_can_mend_is_parked_at_once(message: dict[str, Any], why: str) -> None:
    operations = idle("c-1")
    assert redrive(operations, message) == []
    assert operations.queues.parked_events == [(message["body"], why)]


def test_each_record_is_on_its_own() -> None:
    operations = idle("c-1", "c-2", "c-3")
    operations.functions.broken["c-2"] = "UnavailableError"
    batch = [
        from_schedule("c-1", "m-1"),
        record("not JSON", "m-2"),
        from_schedule("c-2", "m-3"),
        from_function("touch", {"conversation_id": "c-4"}, message_id="m-4"),
        from_schedule("c-3", "m-5"),
    ]
    assert redrive(operations, *batch) == ["m-3"]
    assert operations.queues.delayed == {"receipt of m-3": 300}
    states = {name: operations.world.item(name).state for name in ("c-1", "c-2", "c-3", "c-4")}
    assert states == {"c-1": "ended", "c-2": "active", "c-3": "ended", "c-4": "active"}
    assert {name: operations.world.item(name).attempts for name in ("c-1", "c-2", "c-3")} == {
        "c-1": 0,
        "c-2": 1,
        "c-3": 0,
    }


def test_a_cleanup_that_never_stops_failing_is_parked_after_exactly_the_configured_attempts() -> None:
    operations = idle("c-1", "c-2", max_attempts=3)
    operations.functions.broken["c-1"] = "UnavailableError"
    stays = []
    while stays := redrive(operations, from_schedule("c-1", "m-1"), from_schedule("c-2", "m-2")):
        assert stays == ["m-1"]
    assert len([call for call in operations.functions.called if call.event["conversation_id"] == "c-1"]) == 3
    assert operations.world.item("c-1").attempts == 3
    assert [why for _, why in operations.queues.parked_events] == ["max_attempts"]
    operations.functions.broken.clear()
    operations.world.drain()
    assert operations.world.outcomes.types().count("ConversationEndFailed") == 1
    assert operations.world.item("c-1").state == "active"
    assert operations.world.item("c-2").state == "ended"


def test_sweep_and_redrive_count_together() -> None:
    operations = idle("c-1", max_attempts=2)
    operations.functions.broken["c-1"] = "UnavailableError"
    operations.world.clock.advance(200)
    operations.sweep()
    assert redrive(operations, from_schedule()) == []
    assert operations.world.item("c-1").attempts == 2


def test_what_is_parked_already_is_not_tried_again() -> None:
    operations = idle("c-1", max_attempts=1)
    operations.functions.broken["c-1"] = "UnavailableError"
    redrive(operations, from_schedule())
    operations.functions.called.clear()
    assert redrive(operations, from_schedule("c-1", "m-2")) == []
    assert operations.functions.called == []
    assert len(operations.queues.parked_events) == 2


def test_several_messages_of_one_conversation_are_one_attempt() -> None:
    operations = idle("c-1")
    operations.functions.broken["c-1"] = "UnavailableError"
    assert redrive(operations, from_schedule("c-1", "m-1"), from_schedule("c-1", "m-2")) == ["m-1", "m-2"]
    assert operations.world.item().attempts == 1


def test_a_message_that_fails_again_stays_in_the_queue_and_is_not_counted() -> None:
    operations = idle("c-1")
    operations.functions.broken["c-1"] = "TimerNotArmedError"
    assert redrive(operations, from_function("touch", {"conversation_id": "c-1"})) == ["m-1"]
    assert operations.queues.delayed == {"receipt of m-1": 300}
    assert operations.world.item().attempts == 0


def test_a_function_that_cannot_be_invoked_is_no_failed_attempt() -> None:
    operations = idle("c-1")
    operations.functions.unreachable.add("c-1")
    assert redrive(operations, from_schedule()) == ["m-1"]
    assert operations.world.item().attempts == 0


def test_under_a_hold_nothing_ends_and_nothing_is_counted() -> None:
    operations = idle("c-1")
    operations.world.store.hold = Hold(((operations.world.clock.time - 1, None),))
    assert redrive(operations, from_schedule()) == []
    assert (operations.world.item().state, operations.world.item().attempts) == ("active", 0)


def test_what_could_not_be_parked_stays() -> None:
    operations = idle("c-1")
    operations.world.steps.twist("queues.park", steps.failing(RuntimeError("refused")))
    assert redrive(operations, record("not JSON", "m-1"), from_schedule("c-1", "m-2")) == ["m-1"]
    assert operations.world.item().state == "ended"


def test_a_failure_that_could_not_be_counted_stays_and_the_others_go_on() -> None:
    operations = idle("c-1", "c-2")
    operations.functions.broken["c-1"] = "UnavailableError"
    operations.world.steps.twist("store.save", steps.failing(RuntimeError("refused")))
    assert redrive(operations, from_schedule("c-1", "m-1"), from_schedule("c-2", "m-2")) == ["m-1"]
    assert operations.world.item("c-2").state == "ended"


def test_what_was_not_reached_in_time_stays() -> None:
    operations = idle("c-1", "c-2", "c-3")
    operations.functions.seconds = 0.2
    batch = [from_schedule(f"c-{number}", f"m-{number}") for number in (1, 2, 3)]
    answer = operations.redriver.redrive({"Records": batch}, Context(3.3))
    assert answer == {"batchItemFailures": [{"itemIdentifier": "m-2"}, {"itemIdentifier": "m-3"}]}
    assert operations.world.item("c-1").state == "ended"
