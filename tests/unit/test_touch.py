"""Touch: each message is recorded and leaves a timer behind, whatever happens on the way."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idle_timer.errors import ContendedError, InvalidEventError, TimerNotArmedError
from idle_timer.ports import Saved
from idle_timer.timestamps import format_time
from tests.fakes.steps import answering, failing, losing_the_answer, preceded_by
from tests.fakes.system import NOON
from tests.fakes.world import World, settings
from tests.unit.nth_step import CrashError, at_each_step, finish

AWS = ("store", "scheduler", "handover")


def at(seconds: float) -> int:
    return NOON + round(seconds * 1_000)


def wire(seconds: float) -> str:
    return format_time(at(seconds))


def opened(**stack: Any) -> World:
    world = World(settings(**stack))
    world.touch()
    return world


def later(world: World, seconds: float) -> World:
    world.clock.advance(seconds)
    return world


def test_the_first_message_opens_the_conversation_and_arms_its_timer() -> None:
    world = World()
    assert world.touch(occurred_at=wire(-10.5)) == {
        "conversation_id": "c-1",
        "state": "active",
        "generation": 1,
        "opening_id": "opening-1",
        "last_activity_at": wire(-10.5),
        "due_at": wire(290),
        "result": "opened",
        "timer": "created",
        "ignored": [],
    }
    assert world.scheduled_for() == at(291), "the clock skew allowance is asked of Scheduler, not told"
    assert world.handover.handed == []


@pytest.mark.parametrize("fields", [{}, {"idle_timeout": 60, "stages": [], "attributes": {"a": "1"}}])
def test_after_the_first_message_a_touch_is_exactly_two_calls(fields: dict[str, Any]) -> None:
    world = World()
    world.touch(**fields)
    del world.steps.calls[:]
    later(world, 10)
    answer = world.touch(occurred_at=wire(10), **fields)
    assert (answer["result"], answer["timer"]) == ("recorded", "updated")
    assert world.steps.names(*AWS) == ["store.record", "scheduler.update"]


@pytest.mark.parametrize(
    ("fields", "looks"), [({}, []), ({"attributes": {"a": "1"}}, []), ({"idle_timeout": 60}, ["store.read"])]
)
def test_a_repeat_arms_again_and_looks_again_if_it_may_have_made_the_timer_later(
    fields: dict[str, Any], looks: list[str]
) -> None:
    world = World()
    world.touch(**fields)
    del world.steps.calls[:]
    assert world.touch(occurred_at=wire(0), **fields)["result"] == "repeat"
    assert world.steps.names(*AWS) == ["store.record", "scheduler.update", *looks]


def test_a_message_of_the_future_or_without_a_time_counts_as_of_now() -> None:
    assert World().touch(occurred_at=wire(3_600))["last_activity_at"] == wire(0)
    assert later(opened(), 10).touch()["last_activity_at"] == wire(10)


def test_a_bad_event_changes_nothing() -> None:
    world = World()
    with pytest.raises(InvalidEventError):
        world.touch(occurred_at="yesterday", idle_timeout=60)
    assert world.steps.calls == []


@given(st.lists(st.integers(0, 200), min_size=1, max_size=6), st.randoms())
def test_repeated_late_and_reordered_messages_leave_the_newest_activity_and_its_timer(
    sent: list[int], order: Any
) -> None:
    world = World()
    world.clock.advance(200)
    delivered = sent + sent
    order.shuffle(delivered)
    for seconds in delivered:
        world.touch(occurred_at=wire(seconds))
    assert world.item().last_activity_at == at(max(sent))
    assert world.scheduled_for() == at(max(sent) + 301)
    assert (world.item().generation, world.item().outbox) == (1, {})


@pytest.mark.parametrize("twist", [failing(CrashError()), losing_the_answer(CrashError())])
@pytest.mark.parametrize("again", [False, True])
def test_a_message_retried_after_a_crash_anywhere_is_recorded_once_and_armed(twist: Any, again: bool) -> None:
    def prepare(world: World) -> None:
        if again:
            world.touch()
            finish(world)
            world.clock.advance(10)

    stack = settings(publish_opened=True)
    now = wire(10 if again else 0)
    for world, step in at_each_step(
        stack, prepare, lambda _: twist, lambda world: world.touch(occurred_at=now)
    ):
        world.touch(occurred_at=now)
        finish(world)
        assert world.item().last_activity_at == world.clock.time, step
        assert world.scheduled_for() == world.clock.time + 301_000, step
        assert world.outcomes.types() == ["ConversationOpened"], step


@pytest.mark.parametrize("lost", ["update", "create"])
def test_whichever_call_scheduler_refuses_the_other_is_tried(lost: str) -> None:
    world = World() if lost == "create" else opened()
    if lost == "create":
        world.scheduler.create("c-1", at(9_999))  # left behind by an earlier opening
    else:
        world.scheduler.delete("c-1")
    answer = later(world, 10).touch()
    assert answer["timer"] == ("updated" if lost == "create" else "created")
    assert world.scheduled_for() == at(311)


def test_a_schedule_that_is_being_changed_is_waited_for_but_not_for_ever() -> None:
    world = later(opened(), 10)
    world.steps.twist("scheduler.update", *[answering("conflict")] * 2)
    assert world.touch()["timer"] == "updated"
    assert world.steps.names("clock").count("clock.sleep") == 2
    world.clock.advance(10)
    world.steps.twist("scheduler.update", *[answering("conflict")] * 6)
    with pytest.raises(TimerNotArmedError):
        world.touch(occurred_at=wire(15))
    assert world.touch(occurred_at=wire(15))["result"] == "repeat"
    assert world.scheduled_for() == at(316)


def test_throttled_behind_a_timer_that_fires_in_time_is_deferred_and_that_timer_arms_again() -> None:
    world = later(opened(), 10)
    world.steps.twist("scheduler.update", answering("throttled"))
    answer = world.touch()
    assert (answer["result"], answer["timer"], answer["due_at"]) == ("recorded", "deferred", wire(310))
    assert world.telemetry.totals["TimersDeferred"] == 1
    assert world.fire()["decision"] == "rearmed"
    assert world.scheduled_for() == at(311)
    assert world.fire()["decision"] == "ended"


@pytest.mark.parametrize(
    ("earlier", "wait", "message", "call"),
    [
        (None, 0, {}, "create"),
        (
            "",
            10,
            {"occurred_at": wire(0)},
            "update",
        ),  # a repeat: the first attempt may have died before it armed
        ("", 10, {"idle_timeout": 60}, "update"),
        ("never", 10, {"idle_timeout": 60}, "update"),
        ("", 300, {}, "update"),  # that timer's time has come: it may be on its way already
        ("extend", 10, {}, "update"),
        ("end", 10, {}, "create"),
    ],
)
def test_throttled_without_such_a_timer_raises_and_the_retry_arms(
    earlier: str | None, wait: float, message: dict[str, Any], call: str
) -> None:
    world = World()
    if earlier is not None:
        world.touch(idle_timeout=0 if earlier == "never" else None)
    if earlier == "extend":
        world.lifecycle("extend", until=wire(600))
    if earlier == "end":
        world.lifecycle("end")
        finish(world)
    message = {"occurred_at": wire(wait)} | message
    later(world, wait)
    world.steps.twist(f"scheduler.{call}", answering("throttled"))
    with pytest.raises(TimerNotArmedError):
        world.touch(**message)
    answer = world.touch(**message)
    assert answer["result"] == "repeat"
    assert answer["due_at"] == format_time((world.scheduled_for() or 0) - 1_000)


def test_a_timeout_of_zero_means_never_and_null_is_the_stacks_again() -> None:
    world = later(opened(), 10)
    never = world.touch(idle_timeout=0)
    assert (never["due_at"], never["timer"]) == (None, "none")
    assert later(world, 10).touch()["due_at"] is None
    assert world.fire()["decision"] == "nothing"
    assert (world.item().sweep_at, world.scheduled_for()) == (None, None)
    back = later(world, 10).touch(idle_timeout=None)
    assert back["due_at"] == format_time(world.clock.time + 300_000)
    assert world.scheduled_for() == world.clock.time + 301_000


def test_an_override_stays_until_it_is_changed() -> None:
    world = World()
    world.touch(idle_timeout="PT10M")
    assert later(world, 10).touch()["due_at"] == wire(610)
    assert later(world, 10).touch(idle_timeout=60)["due_at"] == wire(80)
    assert world.scheduled_for() == at(81)


def test_a_longer_timeout_does_not_outlive_a_shorter_one_set_at_the_same_moment() -> None:
    world = later(opened(), 10)
    shorter = preceded_by(lambda: later(world, 1).touch(idle_timeout=60))
    world.steps.twist("scheduler.update", shorter)
    world.touch(idle_timeout=3_600, occurred_at=wire(10))
    assert world.item().idle_timeout_seconds == 60
    assert world.scheduled_for() == at(72)


@pytest.mark.parametrize("result", ["repeat", "stale"])
def test_policy_of_a_repeated_or_stale_message_is_ignored_and_listed(result: str) -> None:
    world = opened()
    if result == "stale":
        world.fire()
    seen = world.item()
    answer = world.touch(occurred_at=wire(0), idle_timeout=60, attributes={"a": "1"})
    assert (answer["result"], answer["ignored"]) == (result, ["attributes", "idle_timeout"])
    assert (world.item(), world.telemetry.totals["StaleEvents"]) == (seen, int(result == "stale"))


def test_a_message_while_paused_is_recorded_and_arms_nothing() -> None:
    world = opened()
    world.lifecycle("pause", occurred_at=wire(0))
    del world.steps.calls[:]
    answer = later(world, 10).touch()
    assert (answer["result"], answer["timer"], answer["due_at"]) == ("paused", "none", wire(10 + 86_400))
    assert world.item().last_activity_at == at(10)
    assert world.steps.names("scheduler") == []


def test_a_message_after_the_end_reopens_and_is_reported_with_its_gap() -> None:
    world = opened()
    world.fire()
    answer = later(world, 9).touch()
    assert (answer["result"], answer["timer"], answer["generation"]) == ("reopened", "created", 2)
    assert answer["opening_id"] != "opening-1"
    assert world.handover.handed == [("c-1", "outbox")]
    finish(world)
    assert world.outcomes.published[-1]["gap_seconds"] == 310.0
    assert world.outcomes.published[-1]["previous_end_reason"] == "idle_timeout"
    assert world.telemetry.totals["ConversationsReopened"] == 1
    assert world.scheduled_for() == at(310 + 301)


def test_a_stack_that_rejects_keeps_it_ended() -> None:
    world = opened(on_message_after_end="reject")
    world.fire()
    seen = world.item()
    answer = later(world, 9).touch()
    assert (answer["result"], answer["state"], answer["due_at"], answer["timer"]) == (
        "rejected",
        "ended",
        None,
        "none",
    )
    assert (world.item(), world.scheduled_for()) == (seen, None)


def test_with_reset_on_customer_a_bots_message_neither_counts_nor_arms_unless_it_brings_policy() -> None:
    world = later(opened(reset_on="customer"), 10)
    answer = world.touch(sender="bot")
    assert (answer["result"], answer["timer"], answer["due_at"]) == ("not_counted", "kept", wire(300))
    answer = later(world, 10).touch(sender="bot", idle_timeout=60)
    assert (answer["result"], answer["timer"], answer["due_at"]) == ("not_counted", "updated", wire(60))
    assert world.scheduled_for() == at(61)


def test_two_first_messages_at_once_are_one_opening() -> None:
    world = later(World(), 10)
    world.steps.twist("store.save", preceded_by(lambda: world.touch(occurred_at=wire(5))))
    assert world.touch(occurred_at=wire(10))["result"] == "recorded"
    assert (world.item().generation, world.item().opened_at, world.item().last_activity_at) == (
        1,
        at(5),
        at(10),
    )
    assert world.scheduled_for() == at(311)


def test_a_conversation_that_never_stops_changing_is_left_to_the_retry() -> None:
    world = opened()
    world.lifecycle("extend", until=wire(900))
    world.steps.twist("store.save", *[answering(Saved(done=False, current=world.item()))] * 10)
    with pytest.raises(ContendedError):
        later(world, 10).touch()


def test_a_connect_contact_is_linked_before_the_conversation_names_it() -> None:
    world = World()
    world.touch(connect_contact_id="contact-1")
    assert world.steps.names("store") == ["store.record", "store.link_contact", "store.save"]
    conversation_id, expires_at = world.store.contacts["contact-1"]
    assert conversation_id == "c-1"
    assert expires_at > at(30 * 86_400) // 1_000, "no contact lives that long"
    world.touch(connect_contact_id="contact-2", occurred_at=wire(0))  # a repeat: ignored
    later(world, 10).touch(connect_contact_id="contact-3")
    assert list(world.store.contacts) == ["contact-1", "contact-3"]


def test_within_the_slack_a_message_is_one_call_and_the_end_does_not_move() -> None:
    world = later(opened(timer_slack_seconds=60), 60)
    del world.steps.calls[:]
    assert world.touch()["timer"] == "kept"
    assert world.steps.names(*AWS) == ["store.record"]
    assert world.fire()["decision"] == "rearmed"
    assert world.scheduled_for() == at(361)
    assert world.fire()["decision"] == "ended"


@pytest.mark.parametrize(
    ("wait", "fields", "due"),
    [
        (61, {}, 361),
        (10, {"idle_timeout": 290}, 300),
        (10, {"idle_timeout": 310}, 320),
        (10, {"stages": []}, 310),
    ],
)
def test_beyond_the_slack_or_with_another_policy_the_timer_is_set_anew(
    wait: float, fields: dict[str, Any], due: int
) -> None:
    world = later(opened(timer_slack_seconds=60), wait)
    assert world.touch(**fields)["timer"] == "updated"
    assert world.scheduled_for() == at(due + 1)


def test_a_message_never_leaves_half_an_index_key_behind() -> None:
    """DynamoDB indexes an item with both halves only: with `sweep_at` alone, no sweep would find it."""
    world = opened(end_when_idle=False, idle_stages="still_there=PT2M")
    assert world.fire()["decision"] == "warned"
    assert (world.item().sweep_at, world.item().sweep_shard) == (None, None)
    later(world, 10).touch()
    assert world.item().sweep_at is not None
    assert world.item().sweep_shard is not None


@pytest.mark.parametrize(
    "conversation_id", ["é😀" * 80, "e\u0301", "é", "\0\n", "hold", "contact#c", "<aws.x>"]
)
def test_any_unicode_id_is_a_conversation_of_its_own(conversation_id: str) -> None:
    world = opened()
    assert world.touch(conversation_id)["conversation_id"] == conversation_id
    assert world.fire(conversation_id)["decision"] == "ended"
    assert world.outcomes.published[0]["conversation_id"] == conversation_id
    assert world.item().state == "active"
