"""Pause, resume, extend and end: the state is committed, and the timer agrees with it afterwards."""

from typing import Any

import pytest

from idle_timer.errors import InvalidEventError
from tests.fakes.steps import answering, failing, losing_the_answer, preceded_by
from tests.fakes.system import NOON
from tests.fakes.world import World, settings
from tests.unit.nth_step import CrashError, at_each_step, finish
from tests.unit.test_touch import at, later, opened, wire

DAY = 86_400


def test_a_pause_arms_the_timer_for_its_own_end_and_is_reported() -> None:
    world = opened()
    answer = world.lifecycle("pause", occurred_at=wire(0))
    assert (answer["result"], answer["state"], answer["timer"]) == ("applied", "paused", "updated")
    assert answer["due_at"] == wire(DAY)
    assert world.scheduled_for() == at(DAY + 1)
    finish(world)
    assert world.outcomes.types() == ["ConversationPaused"]
    assert world.scheduled_for() == at(DAY + 1)


def test_a_pause_without_an_end_deletes_the_schedule() -> None:
    world = opened()
    answer = world.lifecycle("pause", pause_timeout=0)
    assert (answer["due_at"], answer["timer"]) == (None, "none")
    assert world.scheduler.schedules == {}


def test_a_newer_pause_brings_its_own_timeout_and_is_no_second_outcome() -> None:
    world = opened()
    world.lifecycle("pause")
    answer = later(world, 10).lifecycle("pause", pause_timeout=60)
    assert (answer["result"], answer["due_at"]) == ("repeat", wire(70))
    finish(world)
    assert (world.scheduled_for(), world.outcomes.types()) == (at(71), ["ConversationPaused"])


def test_a_pause_that_is_never_handed_back_ends_as_paused_too_long() -> None:
    world = opened()
    world.lifecycle("pause", pause_timeout="PT1H")
    assert world.fire()["decision"] == "ended"
    assert world.item().end_reason == "paused_too_long"


def test_a_resume_counts_as_activity_and_arms() -> None:
    world = opened()
    world.lifecycle("pause")
    answer = later(world, 1_000).lifecycle("resume")
    assert (answer["result"], answer["state"], answer["due_at"]) == ("applied", "active", wire(1_300))
    assert world.scheduled_for() == at(1_301)


def test_a_repeated_pause_after_its_resume_changes_neither_state_nor_timer() -> None:
    world = opened()
    later(world, 30)
    world.lifecycle("pause", occurred_at=wire(10))
    world.lifecycle("resume", occurred_at=wire(20))
    finish(world)
    seen = world.item()
    answer = world.lifecycle("pause", occurred_at=wire(10))
    assert (answer["result"], answer["state"], answer["due_at"]) == ("stale", "active", wire(320))
    assert (world.item(), world.scheduled_for()) == (seen, at(321))
    assert world.telemetry.totals["StaleEvents"] == 1


@pytest.mark.parametrize("first", ["pause", "extend"])
def test_whatever_arms_later_gives_way_to_what_was_made_due_earlier_meanwhile(first: str) -> None:
    world = later(opened(), 10)
    if first == "pause":
        world.steps.twist("scheduler.update", preceded_by(lambda: later(world, 1).lifecycle("resume")))
        world.lifecycle("pause", occurred_at=wire(10))
        assert world.scheduled_for() == at(312)
    else:
        rival = preceded_by(lambda: world.lifecycle("pause", pause_timeout=60))
        world.steps.twist("scheduler.update", rival)
        world.lifecycle("extend", until=wire(9_000))
        assert world.scheduled_for() == at(71)


def test_an_extension_only_ever_lengthens() -> None:
    world = opened()
    assert world.lifecycle("extend", until=wire(900))["due_at"] == wire(900)
    assert world.scheduled_for() == at(901)
    answer = world.lifecycle("extend", until=wire(600))
    assert (answer["result"], answer["due_at"]) == ("repeat", wire(900))
    assert world.fire()["decision"] == "ended"
    assert world.clock.time == at(901)


def test_an_extension_counts_while_active_only() -> None:
    world = opened()
    world.lifecycle("pause", pause_timeout=60)
    answer = world.lifecycle("extend", until=wire(900))
    assert (answer["result"], answer["due_at"]) == ("applied", wire(60))
    assert later(world, 10).lifecycle("resume")["due_at"] == wire(900)


def test_an_extension_beyond_the_longest_timeout_is_refused() -> None:
    world = opened()
    seen = world.item()
    with pytest.raises(InvalidEventError, match=r"^invalid event: until: "):
        world.lifecycle("extend", until=wire(2_592_001))
    assert world.item() == seen


@pytest.mark.parametrize(
    "event",
    [
        {"action": "pause"},
        {"action": "resume"},
        {"action": "end"},
        {"action": "extend", "until": "2026-01-01T12:30:00Z"},
    ],
)
def test_an_event_about_an_unknown_conversation_leaves_nothing_behind(event: dict[str, Any]) -> None:
    world = World()
    answer = world.lifecycle(**event)
    assert (answer["result"], answer["state"], answer["timer"]) == ("unknown", None, "none")
    assert (world.store.items, world.scheduler.schedules) == ({}, {})
    assert world.handover.handed == []


def test_an_end_deletes_the_schedule_then_commits_and_leaves_the_rest_to_cleanup() -> None:
    world = opened()
    del world.steps.calls[:]
    answer = world.lifecycle("end", reason="customer_left")
    assert (answer["result"], answer["state"], answer["due_at"]) == ("applied", "ended", None)
    assert world.steps.names("store", "scheduler", "handover") == [
        "store.read",
        "scheduler.delete",
        "store.save",
        "handover.to_cleanup",
    ]
    finish(world)
    [outcome] = world.outcomes.published
    assert (outcome["type"], outcome["reason"]) == ("ConversationEnded", "customer_left")
    assert world.scheduled_for() is None


def test_an_end_without_a_reason_is_ended_and_one_in_the_future_is_now() -> None:
    world = opened()
    world.lifecycle("end", occurred_at=wire(3_600))
    assert (world.item().end_reason, world.item().ended_at) == ("ended", NOON)


def test_an_end_holds_even_if_scheduler_refuses_to_delete() -> None:
    world = opened()
    world.steps.twist("scheduler.delete", answering(False))
    assert world.lifecycle("end")["state"] == "ended"
    finish(world)
    assert world.outcomes.types() == ["ConversationEnded"]


def test_an_end_stands_against_a_newer_message_but_not_against_a_newer_opening() -> None:
    world = opened()
    later(world, 20).touch()
    assert world.lifecycle("end", occurred_at=wire(10))["state"] == "ended"
    assert later(world, 10).touch()["result"] == "reopened"
    finish(world)
    answer = world.lifecycle("end", occurred_at=wire(10))
    assert (answer["result"], answer["state"]) == ("stale", "active")
    assert world.scheduled_for() == at(331)


def test_an_end_of_what_the_timer_ended_is_a_repeat_and_explicit_from_then_on() -> None:
    world = opened()
    world.fire()
    ended_at = later(world, 10).clock.time
    assert world.lifecycle("end")["result"] == "repeat"
    finish(world)
    assert world.outcomes.types() == ["ConversationEnded"]
    assert later(world, 10).touch(occurred_at=wire((ended_at - NOON) / 1_000))["result"] == "stale"


def test_an_end_that_loses_to_a_reopening_message_gives_it_its_timer_back() -> None:
    world = opened()
    world.fire()
    later(world, 10)
    world.steps.twist("scheduler.delete", preceded_by(world.touch))
    answer = world.lifecycle("end", occurred_at=wire(305))
    assert (answer["result"], answer["state"], answer["timer"]) == ("stale", "active", "created")
    assert world.scheduled_for() == at(311 + 301)


@pytest.mark.parametrize("twist", [failing(CrashError()), losing_the_answer(CrashError())])
@pytest.mark.parametrize(
    ("event", "told", "due"),
    [
        ({"action": "pause"}, ["ConversationPaused"], 10 + DAY),
        ({"action": "resume"}, ["ConversationPaused", "ConversationResumed"], 310),
        ({"action": "extend", "until": wire(900)}, [], 900),
        ({"action": "end"}, ["ConversationEnded"], None),
    ],
)
def test_an_event_retried_after_a_crash_anywhere_is_applied_armed_and_told_once(
    twist: Any, event: dict[str, Any], told: list[str], due: int | None
) -> None:
    def prepare(world: World) -> None:
        world.touch()
        if event["action"] == "resume":
            world.lifecycle("pause", occurred_at=wire(5))
            finish(world)
        world.clock.advance(10)

    event = {"occurred_at": wire(10)} | event
    for world, step in at_each_step(
        settings(), prepare, lambda _: twist, lambda world: world.lifecycle(**event)
    ):
        assert world.lifecycle(**event)["result"] in ("applied", "repeat"), step
        finish(world)
        assert world.outcomes.types() == told, step
        assert world.scheduled_for() == (None if due is None else at(due + 1)), step


@pytest.mark.parametrize("slack", [0, 60])
@pytest.mark.parametrize("action", ["pause", "resume", "end"])
def test_a_message_at_any_moment_of_an_event_is_recorded_and_the_timer_agrees_with_the_state(
    action: str, slack: int
) -> None:
    def prepare(world: World) -> None:
        world.touch()
        if action == "resume":
            world.lifecycle("pause", occurred_at=wire(5))
            finish(world)
        world.clock.advance(20)

    def run(world: World) -> None:
        world.lifecycle(action, occurred_at=wire(10))

    stack = settings(timer_slack_seconds=slack)
    for world, step in at_each_step(stack, prepare, lambda world: preceded_by(world.touch), run):
        finish(world)
        item = world.item()
        assert item.last_activity_at == at(20), step
        assert item.state == {"pause": "paused", "resume": "active"}.get(action, item.state), step
        # Ended by an event older than the message, or reopened by the message after it: both are in order.
        due = {"active": 320, "paused": 20 + DAY, "ended": None}[item.state]
        armed = world.scheduled_for()
        assert armed is not None if due else armed is None, step
        assert due is None or armed is None or armed <= at(due + 1), step
