"""What operators see and may do; looking changes nothing."""

import base64
import copy
import json
from typing import Any

import pytest

from idle_timer.conversation import Hold
from idle_timer.errors import InvalidEventError
from tests.fakes import steps
from tests.fakes.operations import Operations
from tests.fakes.sessions import Session
from tests.fakes.world import World, settings

SESSION_URL_ARN = "arn:aws:secretsmanager:us-east-1:123456789012:secret:url"


def stack(*conversation_ids: str, **changed: Any) -> Operations:
    world = World(settings(**changed))
    for conversation_id in conversation_ids:
        world.touch(conversation_id)
    return Operations(world)


def ids(answer: dict[str, Any]) -> list[str]:
    return sorted(row["conversation_id"] for row in answer["conversations"])


# --- status, explain ---


def test_status_tells_how_a_conversation_stands_with_one_read() -> None:
    operations = stack("c-1", idle_stages="still_there=PT2M")
    operations.world.clock.advance(60)
    operations.world.steps.calls.clear()
    answer = operations.inspect("status", conversation_id="c-1")
    assert answer["state"] == "active"
    assert answer["next"] == "still_there"
    assert answer["due_at"] == "2026-01-01T12:02:00.000Z"
    assert answer["remaining_seconds"] == 60
    assert answer["history"] == [{"at": "2026-01-01T12:00:00.000Z", "what": "opened"}]
    assert (answer["outbox"], answer["attempts"], answer["parked"], answer["hold"]) == ([], 0, False, False)
    assert operations.world.steps.names("store", "overview", "leases") == ["store.read"]
    json.dumps(answer)


def test_status_of_an_ended_one_says_why_and_what_is_still_owed() -> None:
    operations = stack("c-1")
    operations.world.lifecycle("end", reason="customer_left")
    answer = operations.inspect("status", conversation_id="c-1")
    assert (answer["state"], answer["end_reason"]) == ("ended", "customer_left")
    assert (answer["due_at"], answer["remaining_seconds"], answer["next"]) == (None, None, None)
    assert answer["outbox"] == ["ConversationEnded"]


def test_an_unknown_conversation_has_no_state() -> None:
    assert stack().inspect("status", conversation_id="nobody") == {"conversation_id": "nobody", "state": None}
    assert "no such conversation" in stack().inspect("explain", conversation_id="nobody")["why"][0]


def explain(operations: Operations) -> str:
    return " ".join(operations.inspect("explain", conversation_id="c-1")["why"])


def test_explain_says_why_it_did_not_end_yet() -> None:
    operations = stack("c-1")
    operations.world.clock.advance(100)
    assert "silent for 100 s" in explain(operations)
    assert "due at 2026-01-01T12:05:00.000Z, in 200 s" in explain(operations)
    operations.world.clock.advance(300)
    assert "Its timer is on the way or was lost: the sweep looks at it from" in explain(operations)
    operations.world.store.hold = Hold(((operations.world.clock.time, None),))
    assert "a hold is open" in explain(operations)


def test_explain_says_why_it_ended() -> None:
    operations = stack("c-1")
    operations.world.fire()
    assert "301 s after its last activity at 2026-01-01T12:00:00.000Z" in explain(operations)
    operations = stack("c-1")
    operations.world.lifecycle("end", reason="customer_left")
    assert "with the reason customer_left" in explain(operations)
    assert "Still owed: ConversationEnded" in explain(operations)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"idle_timeout": 0}, "never ends by itself"),
        ({}, "is active"),
    ],
)
def test_explain_of_an_open_one(given: dict[str, Any], expected: str) -> None:
    operations = stack()
    operations.world.touch("c-1", **given)
    assert expected in explain(operations)


def test_explain_of_paused_extended_shadowed_and_failing_ones() -> None:
    operations = stack("c-1")
    operations.world.lifecycle("pause")
    assert "a person has it" in explain(operations)
    operations = stack("c-1")
    operations.world.lifecycle("extend", until="2026-01-01T13:00:00Z")
    assert "asked not to end before 2026-01-01T13:00:00.000Z" in explain(operations)
    operations = stack("c-1", mode="shadow")
    operations.world.clock.advance(400)
    assert "shadow mode" in explain(operations)
    operations = stack("c-1", max_attempts=2)
    operations.world.clock.advance(900)
    operations.attempts.failed("c-1")
    assert "1 of 2 attempts" in explain(operations)
    operations.attempts.failed("c-1")
    assert "parked after 2 failed attempts" in explain(operations)


# --- list ---


def everybody() -> Operations:
    """One of each kind, and their time is long over but for `young`."""
    operations = stack("overdue", "failed", "parked", max_attempts=2)
    world = operations.world
    world.touch("paused")
    world.lifecycle("pause", "paused")
    world.drain()
    world.clock.advance(1_000)
    world.touch("young")
    world.touch("ended")
    world.lifecycle("end", "ended", reason="agent_ended")
    for conversation_id in ("failed", "parked", "parked"):
        operations.attempts.failed(conversation_id)
    return operations


@pytest.mark.parametrize(
    ("which", "filters", "expected"),
    [
        ("overdue", {}, ["overdue"]),
        ("pending", {}, ["ended", "failed", "paused", "young"]),
        ("pending", {"state": "paused"}, ["paused"]),
        ("pending", {"state": "ended", "reason": "agent_ended"}, ["ended"]),
        ("pending", {"reason": "customer_left"}, []),
        ("pending", {"since": "2026-01-01T12:10:00Z"}, ["ended", "young"]),
        ("failed", {}, ["failed"]),
        ("failed", {"attempts_at_least": 2}, []),
        ("parked", {}, ["parked"]),
        ("parked", {"attempts_at_least": 2}, ["parked"]),
    ],
)
def test_lists_show_what_matches(which: str, filters: dict[str, Any], expected: list[str]) -> None:
    answer = everybody().inspect("list", which=which, **filters)
    assert ids(answer) == expected
    assert answer["next"] is None


def test_pages_together_are_the_whole_list_and_no_page_repeats_another() -> None:
    operations = stack(*(f"c-{number}" for number in range(57)), sweep_shards=3)
    operations.world.clock.advance(1_000)
    seen, next_page, pages = [], None, 0
    while True:
        given: dict[str, Any] = {"next": next_page} if next_page else {}
        answer = operations.inspect("list", which="overdue", limit=10, **given)
        seen += ids(answer)
        pages += 1
        next_page = answer["next"]
        if next_page is None:
            break
    assert pages == 6
    assert sorted(seen) == sorted(f"c-{number}" for number in range(57))


def test_a_filter_that_matches_nothing_ends_with_a_next_page_rather_than_a_time_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("idle_timer.inspection.LOOK_AT_MOST", 10)
    operations = stack(*(f"c-{number}" for number in range(25)), sweep_shards=1)
    pages, next_page = 0, None
    while pages == 0 or next_page:
        given: dict[str, Any] = {"next": next_page} if next_page else {}
        answer = operations.inspect("list", which="pending", state="paused", **given)
        assert answer["conversations"] == []
        next_page, pages = answer["next"], pages + 1
    assert pages == 3


def test_what_waits_in_the_parked_queue_is_listed_and_put_back() -> None:
    operations = stack()
    operations.queues.parked_events = [("{}", "invalid_event"), ("x", "unreadable")]
    expected = [
        {"message_id": "0", "why": "invalid_event", "event": "{}"},
        {"message_id": "1", "why": "unreadable", "event": "x"},
    ]
    assert operations.inspect("list", which="events")["events"] == expected
    assert operations.inspect("retry", which="events", dry_run=True)["events"] == expected
    assert operations.queues.returned == []
    assert operations.inspect("retry", which="events", limit=1)["put_back"] == 1
    assert operations.queues.returned == ["{}"]


# --- retry ---


def everything(world: World) -> tuple[Any, ...]:
    """All that could be changed."""
    store = world.store
    return store.items, store.hold, store.contacts, world.scheduler.schedules, world.handover.handed


def test_a_dry_run_says_for_each_what_would_happen_and_changes_nothing() -> None:
    operations = everybody()
    world = operations.world
    before = copy.deepcopy(everything(world))
    [overdue] = operations.inspect("retry", which="overdue", dry_run=True)["retried"]
    assert overdue["would"] == "end"
    assert "silent for 1000 s" in overdue["why"]
    [parked] = operations.inspect("retry", which="parked", dry_run=True)["retried"]
    assert parked["would"] == "end"
    would = {
        row["conversation_id"]: row["would"]
        for row in operations.inspect("retry", which="pending", dry_run=True)["retried"]
    }
    assert would == {"young": "re_arm", "paused": "re_arm", "ended": "work_off", "failed": "end"}
    [nobody] = operations.inspect("retry", conversation_id="nobody", dry_run=True)["retried"]
    assert nobody == {
        "conversation_id": "nobody",
        "would": "skip",
        "why": "there is no such conversation",
    }
    assert everything(world) == before
    assert operations.functions.called == []
    assert world.outcomes.types() == ["ConversationPaused"]  # from the preparation


@pytest.mark.parametrize(
    "changed",
    [{}, {"idle_stages": "still_there=PT2M"}, {"mode": "shadow"}, {"end_when_idle": False}],
    ids=str,
)
@pytest.mark.parametrize("seconds", [0, 130, 400])
@pytest.mark.parametrize("hold", [False, True])
@pytest.mark.parametrize("action", [None, "pause", "end"])
def test_what_a_dry_run_says_is_what_then_happens(
    changed: dict[str, Any], seconds: int, hold: bool, action: str | None
) -> None:
    operations = stack("c-1", **changed)
    world = operations.world
    if action:
        world.lifecycle(action)
    world.clock.advance(seconds)
    if hold:
        world.store.hold = Hold(((world.clock.time, None),))
    [said] = operations.inspect("retry", conversation_id="c-1", dry_run=True)["retried"]
    [done] = operations.inspect("retry", conversation_id="c-1")["retried"]
    expected = {
        "ended": {"end"},
        "warned": {"warn"},
        "rearmed": {"re_arm"},
        "held": {"skip"},
        "would_end": {"skip"},
        "nothing": {"skip", "work_off"},
    }
    assert said["would"] in expected[done["decision"]]


def test_retrying_all_that_are_parked_ends_and_unparks_them_and_reports_each() -> None:
    operations = stack("c-1", "c-2", "c-3", max_attempts=1)
    operations.world.clock.advance(1_000)
    for conversation_id in ("c-1", "c-2"):
        operations.attempts.failed(conversation_id)
    operations.functions.broken["c-2"] = "UnavailableError"
    answer = operations.inspect("retry", which="parked")
    assert sorted(answer["retried"], key=str) == [
        {"conversation_id": "c-1", "decision": "ended"},
        {"conversation_id": "c-2", "error": "UnavailableError", "message": "it failed"},
    ]
    assert operations.world.item("c-1").attempts == 0
    assert ids(operations.inspect("list", which="parked")) == ["c-2"]
    assert operations.world.item("c-3").state == "active"


# --- forget ---


def test_forgetting_erases_item_schedule_session_and_link() -> None:
    operations = stack(session_url_secret_arn=SESSION_URL_ARN)
    world = operations.world
    world.touch("c-1", connect_contact_id="contact-1", attributes={"name": "somebody"})
    world.sessions.live["session:c-1"] = Session("secret")
    answer = operations.inspect("forget", conversation_id="c-1")
    assert answer == {"conversation_id": "c-1", "found": True, "forgotten": True}
    assert world.store.items == {}
    assert world.store.contacts == {}
    assert world.scheduler.schedules == {}
    assert world.sessions.live == {}
    assert world.sessions.tombstones == {}
    [outcome] = world.outcomes.published
    assert (outcome["type"], outcome["reason"]) == ("ConversationEnded", "forgotten")


def test_forgetting_an_ended_one_erases_its_tombstone_and_reports_no_second_end() -> None:
    operations = stack(session_url_secret_arn=SESSION_URL_ARN)
    world = operations.world
    world.sessions.live["session:c-1"] = Session("secret")
    world.touch("c-1")
    world.fire()
    assert world.sessions.tombstones
    operations.inspect("forget", conversation_id="c-1")
    assert world.sessions.tombstones == {}
    assert world.outcomes.types() == ["ConversationEnded"]
    assert world.store.items == {}


def test_forgetting_what_is_not_there_still_takes_its_schedule_away() -> None:
    operations = stack("c-1")
    del operations.world.store.items["c-1"]
    answer = operations.inspect("forget", conversation_id="c-1")
    assert answer == {"conversation_id": "c-1", "found": False, "forgotten": True}
    assert operations.world.scheduler.schedules == {}


def test_a_forgetting_that_fails_is_finished_by_the_sweep() -> None:
    operations = stack("c-1", session_url_secret_arn=SESSION_URL_ARN)
    world = operations.world
    world.steps.twist("sessions.forget", steps.failing(ConnectionError()))
    answer = operations.inspect("forget", conversation_id="c-1")
    assert (answer["forgotten"], answer["error"]) == (False, "ConnectionError")
    world.clock.advance(1_000)
    operations.sweep()
    assert world.store.items == {}


def test_a_message_during_the_forgetting_keeps_the_new_opening() -> None:
    operations = stack("c-1", session_url_secret_arn=SESSION_URL_ARN)
    world = operations.world

    def message() -> None:
        world.clock.advance(1)
        world.touch("c-1")

    world.steps.twist("store.delete", steps.preceded_by(message))
    answer = operations.inspect("forget", conversation_id="c-1")
    assert answer["forgotten"] is False
    assert "forget it again" in answer["why"]
    assert world.item().state == "active"
    assert world.item().outbox == {}


# --- hold ---


def test_the_hold_is_switched_on_and_off_and_its_windows_shown() -> None:
    operations = stack("c-1")
    assert operations.inspect("hold") == {"hold": False, "windows": []}
    on = operations.inspect("hold", on=True)
    assert on == {"hold": True, "windows": [{"from": "2026-01-01T12:00:00.000Z", "until": None}]}
    operations.world.clock.advance(600)
    assert operations.inspect("hold", on=True) == on
    off = operations.inspect("hold", on=False)
    assert off["hold"] is False
    assert off["windows"] == [{"from": "2026-01-01T12:00:00.000Z", "until": "2026-01-01T12:10:00.000Z"}]
    assert operations.inspect("hold", on=False) == off
    assert operations.inspect("status", conversation_id="c-1")["due_at"] == "2026-01-01T12:15:00.000Z"


def test_windows_that_can_credit_nobody_any_more_are_dropped() -> None:
    operations = stack()
    for _ in range(2):
        operations.inspect("hold", on=True)
        operations.world.clock.advance(60)
        operations.inspect("hold", on=False)
        operations.world.clock.advance(20 * 86_400)
    assert len(operations.inspect("hold", on=True)["windows"]) == 2


def test_two_who_switch_at_once_make_one_window() -> None:
    operations = stack()
    operations.world.steps.twist(
        "holds.write", steps.preceded_by(lambda: operations.inspect("hold", on=True))
    )
    assert len(operations.inspect("hold", on=True)["windows"]) == 1


# --- mistakes ---


@pytest.mark.parametrize(
    ("event", "problem"),
    [
        ({"action": "delete"}, "action: must be one of status, explain, list, retry, forget, hold"),
        ({}, "action: must be one of"),
        ("text", "action: must be one of"),
        ({"action": ["status"]}, "action: must be one of"),
        ({"action": "status"}, "conversation_id: is needed"),
        ({"action": "list"}, "which: is needed"),
        ({"action": "list", "which": "all"}, "which: "),
        ({"action": "list", "which": "failed", "since": "yesterday"}, "since: must be an RFC 3339 time"),
        ({"action": "list", "which": "failed", "next": "nonsense"}, "next: is not one that a list"),
        ({"action": "list", "which": "failed", "limit": 1_000}, "limit: "),
        ({"action": "retry"}, "give either conversation_id or which"),
        ({"action": "retry", "which": "failed", "conversation_id": "c"}, "give either"),
        ({"action": "hold", "on": "yes"}, "on: "),
        ({"action": "forget", "conversation_id": "c", "sure": True}, "sure: is not a known field"),
    ],
    ids=str,
)
def test_an_operators_mistake_is_told_in_one_line(event: object, problem: str) -> None:
    operations = stack("c-1")
    with pytest.raises(InvalidEventError) as mistake:
        operations.inspection.inspect(event)
    assert problem in str(mistake.value)
    assert "\n" not in str(mistake.value)


@pytest.mark.parametrize("moment", ["Infinity", "-1", "1" + "0" * 400, "null", '"x"'])
def test_a_next_that_no_list_has_answered_is_refused(moment: str) -> None:
    forged = base64.urlsafe_b64encode(f'["00", {moment}, "c-1"]'.encode()).decode()
    with pytest.raises(InvalidEventError, match="next: is not one that a list has answered"):
        stack("c-1").inspect("list", which="pending", next=forged)


def test_a_next_from_beyond_now_is_no_reason_to_fail() -> None:
    operations = stack(*(f"c-{number}" for number in range(30)))
    further = operations.inspect("list", which="pending", limit=5)["next"]
    assert operations.inspect("list", which="overdue", next=further)["conversations"] == []


def test_a_page_of_another_list_is_refused() -> None:
    operations = stack(*(f"c-{number}" for number in range(30)))
    further = operations.inspect("list", which="pending", limit=5)["next"]
    with pytest.raises(InvalidEventError, match="belongs to another list"):
        operations.inspect("list", which="parked", next=further)
