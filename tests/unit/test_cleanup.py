"""Cleanup: never early, never forgotten, once, nothing lost; each with the faults and rivals that would break it."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idle_timer import conversation as rules
from idle_timer.conversation import Hold
from idle_timer.errors import ContendedError, TimerNotArmedError, UnavailableError
from idle_timer.ports import Saved
from idle_timer.timestamps import format_time
from tests.fakes.sessions import Session
from tests.fakes.steps import Effect, answering, failing, followed_by, losing_the_answer, normal, preceded_by
from tests.fakes.world import World, settings
from tests.unit.nth_step import CrashError, at_each_step, finish
from tests.unit.test_touch import at, later, opened, wire

KEY = "session:c-1"
CART = Session("cart", expires_at=at(10_000))
LEX = {"bot_id": "BOT1234567", "bot_alias_id": "ALIAS12345", "locale_id": "en_US", "session_id": "s-1"}
SESSIONS: dict[str, Any] = {"session_url_secret_arn": "arn:secret"}
EVERYTHING: dict[str, Any] = SESSIONS | {"end_hook_function_arn": "arn:hook", "stop_connect_contact": True}
WARNING: dict[str, Any] = {"idle_stages": "still_there=PT2M,offer_call=PT4M"}
CRASHES = [failing(CrashError()), losing_the_answer(CrashError())]


def chatting(world: World) -> None:
    """A conversation with all that an end has to tidy up."""
    world.touch(lex=LEX, connect_contact_id="contact-1", attributes={"channel": "web"})
    world.sessions.live[KEY] = CART


def unfinished() -> World:
    """Ended, but nothing of what is owed for it is done yet."""
    world = World(settings(**EVERYTHING))
    chatting(world)
    world.steps.twist("bots.stop_contact", failing(UnavailableError("not now")))
    with pytest.raises(UnavailableError):
        world.fire()
    assert world.item().state == "ended"
    assert world.item().sweep_at is not None, "the sweep would find it"
    return world


# --- the end ---------------------------------------------------------------------------------------------------------


def test_an_idle_conversation_is_ended_tidied_up_and_reported_with_its_proof() -> None:
    world = World(settings(**EVERYTHING))
    chatting(world)
    del world.steps.calls[:]
    answer = world.fire()
    assert (answer["decision"], answer["state"], answer["due_at"]) == ("ended", "ended", None)
    assert world.steps.names("store", "scheduler")[:3] == ["scheduler.delete", "store.read", "store.save"]
    assert world.sessions.live == {}
    assert (world.bots.deleted_lex_sessions, world.bots.stopped_contacts) == ([LEX], ["contact-1"])
    assert world.callers_code.hooked == world.outcomes.published
    [outcome] = world.outcomes.published
    assert (outcome["type"], outcome["reason"], outcome["attributes"]) == (
        "ConversationEnded",
        "idle_timeout",
        {"channel": "web"},
    )
    assert outcome["proof"] == {
        "last_activity_at": wire(0),
        "idle_timeout_seconds": 300,
        "hold_credit_seconds": 0.0,
        "due_at": wire(300),
        "fired_at": wire(301),
        "decided_at": wire(301),
        "lateness_seconds": 1.0,
        "source": "schedule",
    }
    assert (world.item().outbox, world.item().sweep_at, world.scheduled_for()) == ({}, None, None)
    assert world.item().expires_at is not None
    assert world.telemetry.by["ConversationsEnded", "idle_timeout"] == 1
    assert world.telemetry.values["EndLatenessSeconds"] == [1.0]


@given(st.lists(st.tuples(st.integers(0, 90), st.booleans()), max_size=8), st.integers(0, 120))
def test_no_firing_ever_ends_a_conversation_early(gaps: list[tuple[int, bool]], last: int) -> None:
    world = World(settings(idle_timeout_seconds=60))
    world.touch()
    for gap, is_message in [*gaps, (last, False)]:
        world.clock.advance(gap)
        silence = world.clock.time - world.item().last_activity_at
        if is_message:
            world.touch()
        elif world.item().state == "active":
            expected = "ended" if silence >= 61_000 else "rearmed"
            assert world.cleanup()["decision"] == expected
            assert (world.scheduled_for() is None) is (expected == "ended")


@pytest.mark.parametrize(("wait", "decision"), [(300.999, "rearmed"), (301, "ended")])
def test_the_end_waits_for_the_clock_skew_allowance(wait: float, decision: str) -> None:
    assert later(opened(), wait).cleanup()["decision"] == decision


def test_a_firing_that_is_not_due_arms_a_fresh_schedule() -> None:
    world = later(opened(), 10)
    world.scheduler.schedules.clear()
    assert world.cleanup()["decision"] == "rearmed"
    assert world.scheduled_for() == at(301)
    assert world.telemetry.totals["Rearmed"] == 1


@pytest.mark.parametrize("held", [False, True])
def test_an_outbox_is_worked_off_without_touching_the_timer_of_what_is_not_due(held: bool) -> None:
    world = World(settings(publish_opened=True))
    world.touch()
    world.store.hold = Hold(((at(0), None),) if held else ())
    later(world, 10)
    assert world.cleanup(source="outbox")["decision"] == "nothing"
    assert world.outcomes.types() == ["ConversationOpened"]
    assert world.steps.names("scheduler") == ["scheduler.create"], "touch's"
    assert world.scheduled_for() == at(301)
    assert "Rearmed" not in world.telemetry.totals


def test_an_outbox_finds_what_is_due_and_ends_it_all_the_same() -> None:
    world = later(opened(), 400)
    assert world.cleanup(source="outbox")["decision"] == "ended"
    assert world.scheduler.schedules == {}


def test_a_repeated_firing_does_nothing_more() -> None:
    world = opened()
    world.fire()
    seen = world.item()
    assert [world.cleanup()["decision"] for _ in range(3)] == ["nothing"] * 3
    assert (world.item(), world.outcomes.types()) == (seen, ["ConversationEnded"])


def test_two_firings_at_once_are_one_end() -> None:
    for world, step in at_each_step(
        settings(**EVERYTHING), chatting, lambda world: preceded_by(world.cleanup), lambda world: world.fire()
    ):
        assert {outcome["id"] for outcome in world.outcomes.published} == {"opening-1-2"}, step
        assert {outcome["id"] for outcome in world.callers_code.hooked} == {"opening-1-2"}, step
        assert (world.item().seq, world.item().outbox, world.sessions.live) == (2, {}, {}), step


@pytest.mark.parametrize("idle_timeout", [0, None])
def test_what_is_unknown_or_never_due_is_left_alone(idle_timeout: int | None) -> None:
    world = World()
    if idle_timeout is not None:
        world.touch(idle_timeout=idle_timeout)
    world.scheduler.create("c-1", at(301))
    assert later(world, 10_000).cleanup()["decision"] == "nothing"
    assert world.scheduler.schedules == {}


def test_a_schedule_that_cannot_be_deleted_does_not_stop_the_end() -> None:
    world = opened()
    world.steps.twist("scheduler.delete", answering(False))
    assert world.fire()["decision"] == "ended"
    assert world.scheduler.schedules["c-1"].fired
    assert world.cleanup()["decision"] == "nothing"
    assert world.scheduler.schedules == {}


@pytest.mark.parametrize("refusal", ["throttled", "conflict"])
def test_a_timer_that_cannot_be_armed_again_raises_and_the_retry_arms_it(refusal: str) -> None:
    world = later(opened(), 10)
    world.steps.twist("scheduler.create", answering(refusal))
    if refusal == "conflict":
        world.steps.twist("scheduler.update", *[answering(refusal)] * 5)
    with pytest.raises(TimerNotArmedError):
        world.cleanup()
    assert world.cleanup()["decision"] == "rearmed"
    assert world.scheduled_for() == at(301)


def test_a_conversation_that_never_stops_changing_is_left_to_the_retry() -> None:
    world = opened()
    world.steps.twist("store.save", *[answering(Saved(done=False, current=world.item()))] * 10)
    with pytest.raises(ContendedError):
        world.fire()
    assert world.cleanup()["decision"] == "ended"


def test_success_forgives_failed_attempts() -> None:
    world = opened()
    world.store.items["c-1"] = replace(world.item(), attempts=5)
    assert world.fire()["decision"] == "ended"
    assert world.item().attempts == 0


# --- rivals and crashes ----------------------------------------------------------------------------------------------


def test_message_during_cleanup_keeps_the_conversation_open_with_timer_and_session() -> None:
    for world, step in at_each_step(
        settings(**EVERYTHING), chatting, lambda world: preceded_by(world.touch), lambda world: world.fire()
    ):
        finish(world)
        item = world.item()
        assert (item.state, item.last_activity_at, item.outbox) == ("active", at(301), {}), step
        assert world.scheduled_for() == at(602), step
        assert world.sessions.live == {KEY: CART}, step
        ends = world.outcomes.types().count("ConversationEnded")
        assert (ends, world.outcomes.types().count("ConversationReopened")) == (item.generation - 1,) * 2, (
            step
        )


@pytest.mark.parametrize("slack", [0, 60])
@pytest.mark.parametrize("crash", [None, *CRASHES])
def test_message_during_an_early_cleanup_has_a_timer_afterwards(slack: int, crash: Any) -> None:
    def prepare(world: World) -> None:
        world.touch()
        world.clock.advance(10)

    def twist(world: World) -> Any:
        return preceded_by(world.touch) if crash is None else crash

    stack = settings(timer_slack_seconds=slack)
    for world, step in at_each_step(stack, prepare, twist, lambda world: world.cleanup(source="sweep")):
        if crash is not None:
            world.touch()
            world.cleanup(source="sweep")
        armed = world.scheduled_for()
        assert armed is not None, step
        assert armed <= at(311), step
        assert world.item().last_activity_at == at(10), step


@pytest.mark.parametrize("crash", CRASHES)
def test_a_crash_anywhere_ends_once_and_the_retry_does_what_is_left_under_the_same_id(crash: Any) -> None:
    for world, step in at_each_step(
        settings(**EVERYTHING), chatting, lambda _: crash, lambda world: world.fire()
    ):
        world.cleanup()
        item = world.item()
        assert (item.state, item.seq, item.outbox, item.attempts) == ("ended", 2, {}, 0), step
        assert {outcome["id"] for outcome in world.outcomes.published} == {"opening-1-2"}, step
        assert {outcome["id"] for outcome in world.callers_code.hooked} == {"opening-1-2"}, step
        assert (world.sessions.live, world.scheduled_for()) == ({}, None), step
        assert world.bots.stopped_contacts, step


@pytest.mark.parametrize("crash", CRASHES)
def test_message_after_a_crash_anywhere_is_not_ended_by_the_retry_and_keeps_its_session(crash: Any) -> None:
    for world, step in at_each_step(
        settings(**EVERYTHING), chatting, lambda _: crash, lambda world: world.fire()
    ):
        world.touch()
        world.cleanup()
        finish(world)
        assert (world.item().state, world.item().outbox) == ("active", {}), step
        assert world.scheduled_for() == at(602), step
        assert world.sessions.live == {KEY: CART}, step


def test_a_rival_end_during_cleanup_is_one_end() -> None:
    for world, step in at_each_step(
        settings(**SESSIONS),
        chatting,
        lambda world: preceded_by(lambda: world.lifecycle("end", reason="agent_ended")),
        lambda world: world.fire(),
    ):
        finish(world)
        assert {outcome["id"] for outcome in world.outcomes.published} == {"opening-1-2"}, step
        assert (world.item().state, world.item().ended_explicitly, world.sessions.live) == (
            "ended",
            True,
            {},
        ), step


# --- what is owed ----------------------------------------------------------------------------------------------------


def test_an_outcome_that_sns_refuses_is_published_by_the_retry_under_the_same_id() -> None:
    world = opened()
    world.steps.twist("outcomes.publish", failing(UnavailableError("refused")))
    with pytest.raises(UnavailableError):
        world.fire()
    owed = list(world.item().outbox)
    assert world.item().expires_at is None
    assert world.cleanup(source="sweep")["decision"] == "nothing"
    assert [outcome["id"] for outcome in world.outcomes.published] == owed == ["opening-1-2"]


def test_end_actions_of_an_opening_that_is_over_are_dropped_and_counted_its_outcome_is_not() -> None:
    world = unfinished()
    world.touch()
    finish(world)
    assert world.telemetry.totals["EndActionsDropped"] == 4
    assert (world.callers_code.hooked, world.bots.deleted_lex_sessions, world.bots.stopped_contacts) == (
        [],
        [],
        [],
    )
    assert world.outcomes.types() == ["ConversationEnded", "ConversationReopened"]
    assert world.sessions.live == {KEY: CART}


def test_that_it_was_parked_is_told_before_anything_is_tried_once_more() -> None:
    world = unfinished()
    seen = world.item()
    parked = rules.failed_attempt(replace(seen, attempts=4), world.clock.time, world.settings)
    assert world.cleaner.timers.save(parked, seen).done
    world.cleanup(source="outbox")
    assert (world.outcomes.types(), world.bots.stopped_contacts) == (["ConversationEndFailed"], [])
    world.cleanup(source="redrive")
    assert world.outcomes.types() == ["ConversationEndFailed", "ConversationEnded"]
    assert (world.bots.stopped_contacts, world.item().attempts) == (["contact-1"], 0)


@pytest.mark.parametrize(
    ("event", "told"),
    [
        ({"action": "extend", "until": wire(9_000)}, []),
        ({"action": "pause"}, ["ConversationPaused"]),
        ({"action": "end"}, ["ConversationEnded"]),
    ],
)
def test_an_event_after_it_was_parked_gives_it_a_timer_and_is_reported(
    event: dict[str, Any], told: list[str]
) -> None:
    world = later(opened(), 400)
    seen = world.item()
    parked = rules.failed_attempt(replace(seen, attempts=4), world.clock.time, world.settings)
    assert world.cleaner.timers.save(parked, seen).done
    due = world.lifecycle(**event)["due_at"]
    finish(world)
    assert (world.item().outbox, world.item().attempts) == ({}, 0)
    assert world.outcomes.types() == ["ConversationEndFailed", *told]
    armed = world.scheduled_for()
    assert (armed and format_time(armed - 1_000)) == due


def test_the_end_hook_is_called_again_with_the_same_id_if_its_answer_was_lost() -> None:
    world = opened(**EVERYTHING)
    world.steps.twist("callers_code.run_end_hook", losing_the_answer(CrashError()))
    with pytest.raises(CrashError):
        world.fire()
    world.cleanup()
    assert [outcome["id"] for outcome in world.callers_code.hooked] == ["opening-1-2"] * 2
    world.cleanup()
    assert len(world.callers_code.hooked) == 2


def test_a_session_moved_away_while_a_message_reopens_comes_back_with_its_time_to_live() -> None:
    world = World(settings(**SESSIONS))
    chatting(world)
    world.steps.twist("sessions.remove", followed_by(lambda: later(world, 50).touch()))
    world.fire()
    assert world.sessions.live[KEY] == Session("cart", expires_at=at(10_050))
    assert world.sessions.tombstones == {}


def test_a_session_is_not_moved_by_a_cleanup_that_comes_after_it_was_restored_and_crashes() -> None:
    world = World(settings(**SESSIONS))
    chatting(world)

    def late(effect: Effect) -> None:
        later(world, 50).touch()
        finish(world)
        effect()
        raise CrashError

    world.steps.twist("sessions.remove", late)
    with pytest.raises(CrashError):
        world.fire()
    assert world.item().state == "active"
    assert not world.item().outbox, "nobody will look again"
    assert world.sessions.live[KEY] == CART


def test_a_session_is_not_restored_by_a_cleanup_that_comes_after_the_next_end() -> None:
    world = World(settings(**SESSIONS))
    chatting(world)
    world.fire()
    world.sessions.live[KEY] = Session("new")  # the backend's, before its message
    later(world, 50).touch()

    def end_once_more() -> None:
        later(world, 400).cleanup(source="sweep")

    world.steps.twist("sessions.restore", preceded_by(end_once_more))
    finish(world)
    assert world.item().state == "ended"
    assert not world.item().outbox
    assert KEY not in world.sessions.live


def test_a_session_that_the_application_made_anew_is_not_overwritten() -> None:
    world = World(settings(**SESSIONS))
    chatting(world)
    world.fire()
    later(world, 9).touch()
    world.sessions.live[KEY] = Session("new")
    finish(world)
    assert world.sessions.live == {KEY: Session("new")}


# --- warnings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("late", [0, 100_000])
def test_each_firing_does_one_stage_however_late_and_the_next_keeps_its_distance(late: int) -> None:
    world = later(opened(**WARNING), late)
    fired = []
    for decision in ("warned", "warned", "ended"):
        assert world.fire()["decision"] == decision
        fired.append((world.clock.time - at(max(late, 121))) // 1_000)
    assert fired == [0, 121, 182]  # each firing a clock skew allowance after its due time
    assert [outcome.get("stage") for outcome in world.outcomes.published] == [
        "still_there",
        "offer_call",
        None,
    ]


@pytest.mark.parametrize("crash", CRASHES)
def test_a_crash_anywhere_in_a_warning_warns_once_and_leaves_a_timer(crash: Any) -> None:
    def run(world: World) -> None:
        world.fire()

    for world, step in at_each_step(settings(**WARNING), lambda world: world.touch(), lambda _: crash, run):
        world.cleanup()
        assert {outcome["id"] for outcome in world.outcomes.published} == {"opening-1-2"}, step
        assert (world.item().stage, world.item().outbox) == (1, {}), step
        assert world.scheduled_for() in (at(242), at(241)), step


def test_a_warning_that_a_message_has_overtaken_is_dropped_and_counted() -> None:
    world = opened(**WARNING)
    world.steps.twist("outcomes.publish", failing(UnavailableError("refused")))
    with pytest.raises(UnavailableError):
        world.fire()
    world.touch()
    assert world.cleanup(source="sweep")["decision"] == "rearmed"
    assert (world.outcomes.types(), world.item().outbox) == ([], {})
    assert world.telemetry.totals["WarningsSuperseded"] == 1


@pytest.mark.parametrize("step", ["scheduler.create", "store.save"])
def test_a_message_between_the_warnings_commit_and_its_publication_stops_it(step: str) -> None:
    world = opened(**WARNING)
    world.steps.twist(step, followed_by(world.touch))
    world.fire()
    assert world.outcomes.types() == []
    assert world.scheduled_for() == at(121 + 121)


# --- the end check ---------------------------------------------------------------------------------------------------

CHECKED: dict[str, Any] = {"end_check_function_arn": "arn:check"}


@pytest.mark.parametrize("state", ["active", "paused"])
def test_an_end_that_the_callers_check_puts_off_comes_later(state: str) -> None:
    world = opened(**CHECKED)
    if state == "paused":
        world.lifecycle("pause", pause_timeout=290, occurred_at=wire(0))
        later(world, 10).touch()  # counts from here
        finish(world)
    world.callers_code.wait_seconds = 600
    world.clock.time = at(301)
    assert world.cleanup()["decision"] == "rearmed"
    assert world.item().state == state
    assert world.scheduled_for() == at(301 + 600 + 1)
    world.callers_code.wait_seconds = 0
    assert world.fire()["decision"] == "ended"
    assert [asked["state"] for asked in world.callers_code.asked] == [state] * 2
    assert world.callers_code.asked[0]["due_at"] == wire(300)


def test_a_message_while_the_check_is_asked_keeps_it_open() -> None:
    world = opened(**CHECKED)
    world.steps.twist("callers_code.may_end", followed_by(world.touch))
    assert world.fire()["decision"] == "rearmed"
    assert (world.item().state, world.scheduled_for()) == ("active", at(602))


def test_a_check_that_fails_leaves_it_open_for_the_retry() -> None:
    world = opened(**CHECKED)
    world.steps.twist("callers_code.may_end", failing(UnavailableError("the end check failed")), normal())
    with pytest.raises(UnavailableError):
        world.fire()
    assert world.item().state == "active"
    assert world.cleanup()["decision"] == "ended"


# --- hold and shadow -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stack", "left", "next_"), [({}, 240, "ended"), (WARNING, 60, "warned")])
def test_while_a_hold_is_open_nothing_is_due_and_lifting_it_gives_the_time_back(
    stack: dict[str, Any], left: int, next_: str
) -> None:
    world = opened(**stack)
    world.store.hold = Hold(((at(60), None),))
    seen = world.item()
    for _ in range(5):
        assert world.fire()["decision"] == "held"
        assert (world.item(), world.outcomes.published) == (seen, [])
        assert 120_000 <= (world.scheduled_for() or 0) - world.clock.time <= 242_000
    lifted = world.clock.time
    world.store.hold = Hold(((at(60), lifted),))
    assert world.cleanup()["decision"] == "rearmed"
    assert world.scheduled_for() == lifted + (left + 1) * 1_000
    assert (world.item().sweep_at or 0) > lifted + left * 1_000, "or the sweep would find it again and again"
    assert world.fire()["decision"] == next_
    assert world.outcomes.published[0]["proof"]["hold_credit_seconds"] == (lifted - at(60)) / 1_000
    assert world.outcomes.published[0]["proof"]["lateness_seconds"] == 1.0


def test_a_hold_stops_neither_an_explicit_end_nor_what_is_owed() -> None:
    world = opened()
    world.store.hold = Hold(((at(0), None),))
    assert world.lifecycle("end")["state"] == "ended"
    finish(world)
    assert world.outcomes.types() == ["ConversationEnded"]


def test_shadow_mode_says_what_it_would_end_and_changes_nothing() -> None:
    world = opened(mode="shadow", **EVERYTHING, **WARNING)
    world.sessions.live[KEY] = CART
    seen = world.item()
    assert world.fire()["decision"] == "would_end"
    assert world.telemetry.totals["WouldEnd"] == 1
    assert world.clock.time == at(301), "warnings are not due either"
    assert (world.item(), world.sessions.live, world.outcomes.published) == (seen, {KEY: CART}, [])
