"""The pure rules: what is due and when, and which events move a conversation where."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idle_timer import conversation as rules
from idle_timer.adapters.dynamodb import from_item, to_item
from idle_timer.conversation import NO_HOLD, Change, Conversation, Firing, Hold, Message
from idle_timer.settings import Settings, Stage
from tests.fakes.system import NOON
from tests.fakes.world import settings

SECOND = 1_000
HOUR = 3_600 * SECOND
STACK = settings()
WARNING_TWICE = settings(idle_stages="still_there=PT2M,offer_call=PT4M")


def at(seconds: float) -> int:
    return NOON + round(seconds * SECOND)


def active(**fields: Any) -> Conversation:
    known = {"conversation_id": "c-1", "opening_id": "o-1", "opened_at": NOON, "state_since": NOON}
    return Conversation(**{"last_activity_at": NOON, **known, **fields})


def paused(**fields: Any) -> Conversation:
    return active(**{"state": "paused", "state_since": at(10), **fields})


def ended(**fields: Any) -> Conversation:
    over = {"state": "ended", "state_since": at(301), "ended_at": at(301), "end_reason": "idle_timeout"}
    return active(**(over | fields))


def touched(before: Conversation | None, seconds: float, *, stack: Settings = STACK, **fields: Any) -> Change:
    """A message of that second, arriving at once unless `now` says later."""
    now = fields.pop("now", at(seconds))
    message = Message(at=at(seconds), **fields)
    return rules.touched(before, message, conversation_id="c-1", opening_id="o-2", now=now, settings=stack)


def firing(now: int, hold: Hold = NO_HOLD) -> Firing:
    return Firing(source="schedule", fired_at=now, hold=hold)


# --- due -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("conversation", "due"),
    [
        (active(), at(300)),
        (active(last_activity_at=NOON + 1), at(301)),
        (active(idle_timeout_seconds=60), at(60)),
        (active(idle_timeout_seconds=0), None),
        (active(not_before=at(200)), at(300)),
        (active(not_before=at(900)), at(900)),
        (active(idle_timeout_seconds=0, not_before=at(900)), None),
        (paused(), at(10 + 86_400)),
        (paused(last_activity_at=at(50)), at(50 + 86_400)),
        (paused(not_before=at(900), idle_timeout_seconds=1), at(10 + 86_400)),
        (paused(pause_timeout_seconds=60), at(70)),
        (paused(pause_timeout_seconds=0), None),
        (ended(), None),
    ],
)
def test_due_is_the_later_of_silence_and_extension_in_whole_seconds(
    conversation: Conversation, due: int | None
) -> None:
    assert rules.due_at(conversation, STACK) == due


def test_a_stack_that_only_warns_is_never_due_for_an_end() -> None:
    stack = settings(end_when_idle=False, idle_stages="still_there=PT2M")
    assert rules.due_at(active(), stack) == at(120)
    assert rules.due_at(active(stage=1, stage_at=at(121)), stack) is None


@given(st.integers(0, 10**12), st.integers(0, 60_000), st.integers(0, 10**12))
def test_the_wake_up_never_comes_before_the_decision_may_be_made(due: int, skew: int, now: int) -> None:
    stack = settings(clock_skew_allowance_ms=skew)
    wake = rules.wake_at(due, stack, now)
    assert wake % SECOND == 0
    assert wake >= now + 5 * SECOND
    assert rules.is_due(due, stack, wake)
    assert not rules.is_due(due, stack, due + skew - 1)


@pytest.mark.parametrize(
    ("windows", "credit"),
    [
        ([], 0),
        ([(at(-50), at(-10))], 0),
        ([(at(-50), at(10))], 10),
        ([(at(90), None)], 10),
        ([(at(90), at(200))], 10),
        ([(at(10), at(30)), (at(20), at(40))], 30),
        ([(at(10), at(60)), (at(20), at(30))], 50),
        ([(at(60), at(70)), (at(10), at(20))], 20),
        ([(at(100), None)], 0),
    ],
)
def test_held_time_is_counted_once_and_only_within_the_silence(windows: list[Any], credit: int) -> None:
    hold = Hold(tuple(windows))
    assert hold.credit(NOON, at(100)) == credit * SECOND
    assert rules.due_at(active(), STACK, hold, at(100)) == at(300 + credit)


def test_held_time_counts_for_a_pause_from_its_own_start() -> None:
    hold = Hold(((at(0), at(30)),))
    assert rules.due_at(paused(pause_timeout_seconds=60), STACK, hold, at(100)) == at(10 + 60 + 20)


def test_a_window_is_open_from_its_first_to_before_its_last_millisecond() -> None:
    hold = Hold(((at(10), at(20)),))
    assert [hold.is_open(now) for now in (at(10) - 1, at(10), at(20) - 1, at(20))] == [
        False,
        True,
        True,
        False,
    ]
    assert Hold(((at(10), None),)).is_open(at(10**6))


# --- stages ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("late", [0, 30, 10_000])
def test_a_late_warning_leaves_the_next_its_distance(late: int) -> None:
    first = WARNING_TWICE.idle_stages[0]
    after = rules.warned(active(), first, at(120 + late), firing(at(120 + late)), WARNING_TWICE)
    assert rules.due_at(after, WARNING_TWICE) == at(240 + late)
    assert rules.end_due_at(after, WARNING_TWICE, NO_HOLD, at(120 + late)) == at(300 + late)
    [entry] = after.outbox.values()
    assert entry.body["ends_at"] == at(300 + late)
    assert entry.body["proof"]["lateness_seconds"] == late


def test_an_extension_shifts_the_whole_sequence() -> None:
    assert rules.due_at(active(not_before=at(900)), WARNING_TWICE) == at(720)
    warned = active(not_before=at(900), stage=2, stage_at=at(840))
    assert rules.due_at(warned, WARNING_TWICE) == at(900)


def test_held_time_after_a_warning_is_credited_to_what_follows() -> None:
    warned = active(stage=1, stage_at=at(120))
    hold = Hold(((at(130), at(1_130)),))
    assert rules.due_at(warned, WARNING_TWICE, hold, at(1_200)) == at(240 + 1_000)


def test_own_stages_replace_the_stacks_and_those_at_or_after_the_end_never_come() -> None:
    own = (Stage(name="a", after=30), Stage(name="b", after=60), Stage(name="c", after=90))
    conversation = active(stages=own, idle_timeout_seconds=60)
    assert [stage.name for stage in rules.stages(conversation, WARNING_TWICE)] == ["a"]
    assert rules.stages(active(stages=()), WARNING_TWICE) == ()
    assert rules.stages(active(idle_timeout_seconds=0), WARNING_TWICE) == ()


def test_activity_starts_the_stages_over() -> None:
    change = touched(active(stage=2, stage_at=at(240)), 250, stack=WARNING_TWICE)
    assert change.after is not None
    assert (change.after.stage, change.after.stage_at) == (0, None)
    assert rules.due_at(change.after, WARNING_TWICE) == at(370)


@pytest.mark.parametrize(
    ("overtaken_by", "superseded"),
    [
        (lambda warned: warned, False),
        (lambda warned: replace(warned, stage=2, stage_at=at(240)), False),
        (lambda warned: touched(warned, 130).after, True),
        (lambda warned: rules.paused(warned, at(130), None).after, True),
        (lambda warned: rules.ended_by_event(warned, at(130), "x", STACK).after, True),
        (lambda warned: replace(warned, opening_id="o-2"), True),
    ],
)
def test_a_warning_that_was_overtaken_is_known_as_such(overtaken_by: Any, superseded: bool) -> None:
    stage = WARNING_TWICE.idle_stages[0]
    warned = rules.warned(active(), stage, at(121), firing(at(121)), WARNING_TWICE)
    [entry] = warned.outbox.values()
    assert rules.is_superseded(entry, overtaken_by(warned)) is superseded


# --- messages --------------------------------------------------------------------------------------------------------


def test_the_first_message_opens_however_old_it_is() -> None:
    change = touched(None, -10_000, now=NOON)
    assert change.result == "opened"
    assert change.after is not None
    assert change.after.opened_at == change.after.last_activity_at == change.after.state_since == at(-10_000)
    assert rules.is_due(rules.due_at(change.after, STACK) or 0, STACK, NOON)
    assert (change.after.outbox, change.after.history) == ({}, (f"{at(-10_000)} opened",))


@pytest.mark.parametrize(
    ("before", "seconds", "result"),
    [
        (active(), 1, "recorded"),
        (active(), 0, "repeat"),
        (active(), -1, "repeat"),
        (paused(), 20, "paused"),
        (paused(), 0, "paused"),
    ],
)
def test_only_a_newer_message_moves_the_activity(before: Conversation, seconds: int, result: str) -> None:
    change = touched(before, seconds, changes={"session_key": "k"})
    assert change.result == result
    if seconds > 0:
        assert change.after is not None
        assert (change.after.last_activity_at, change.after.session_key) == (at(seconds), "k")
        assert (change.after.state, change.after.state_since) == (before.state, before.state_since)
        assert change.ignored == ()
    else:
        assert change.after is None
        assert change.ignored == ("session_key",)


@pytest.mark.parametrize(
    ("over", "seconds", "now", "fields", "reopens"),
    [
        ({}, 310, 310, {}, True),
        ({}, 200, 310, {}, True),  # before the timer's end, but fresh: the end was false
        ({}, 200, 500, {}, False),  # at + timeout = now: no longer fresh
        ({}, 200, 499.999, {}, True),
        ({}, 0, 100, {}, False),  # not newer than the last activity
        ({}, 200, 10_000, {"changes": {"idle_timeout_seconds": 20_000}}, True),
        ({}, 299, 310, {"changes": {"idle_timeout_seconds": 10}}, False),
        ({}, 200, 10_000, {"changes": {"idle_timeout_seconds": 0}}, True),
        ({"idle_timeout_seconds": 20_000}, 200, 10_000, {}, True),
        ({"idle_timeout_seconds": 20_000}, 200, 10_000, {"changes": {"idle_timeout_seconds": None}}, False),
        ({"ended_explicitly": True}, 301, 310, {}, False),
        ({"ended_explicitly": True}, 301.001, 310, {}, True),
    ],
)
def test_a_message_after_the_end_reopens_only_if_it_is_newer_and_fresh(
    over: dict[str, Any], seconds: float, now: float, fields: dict[str, Any], reopens: bool
) -> None:
    change = touched(ended(**over), seconds, now=at(now), **fields)
    rejected = touched(
        ended(**over), seconds, now=at(now), stack=settings(on_message_after_end="reject"), **fields
    )
    if reopens:
        assert change.result == "reopened"
        assert change.after is not None
        assert (change.after.opening_id, change.after.generation, change.after.seq) == ("o-2", 2, 2)
        assert change.after.opened_at == change.after.state_since == at(seconds)
        assert (rejected.result, rejected.after) == ("rejected", None)
    else:
        assert (change.result, change.after) == ("stale", None)
        assert rejected.result == "stale"


def test_reopening_keeps_the_overrides_and_drops_what_belonged_to_the_old_opening() -> None:
    own = (Stage(name="a", after=30),)
    old = {
        "attributes": {"a": "1"},
        "lex": {"bot_id": "b"},
        "connect_contact_id": "k",
        "not_before": at(9_000),
    }
    spent = {"stage": 1, "stage_at": at(31), "attempts": 5, "expires_at": 1, "pause_timeout_seconds": 9}
    before = ended(idle_timeout_seconds=600, stages=own, **old, **spent)
    after = touched(before, 310).after
    assert after is not None
    assert (after.idle_timeout_seconds, after.stages) == (600, own)
    assert (after.attributes, after.lex, after.connect_contact_id, after.not_before) == ({}, None, None, None)
    assert (after.stage, after.stage_at, after.attempts, after.expires_at) == (0, None, 0, None)
    assert (after.pause_timeout_seconds, after.ended_at, after.end_reason) == (None, None, None)
    [entry] = after.outbox.values()
    assert entry.body == {
        "type": "ConversationReopened",
        "occurred_at": at(310),
        "generation": 2,
        "gap_seconds": 310.0,
        "previous_end_reason": "idle_timeout",
    }
    brought = touched(before, 310, changes={"attributes": {"b": "2"}, "connect_contact_id": "k2"}).after
    assert brought is not None
    assert (brought.attributes, brought.connect_contact_id, brought.lex) == ({"b": "2"}, "k2", None)


def test_what_was_owed_for_the_old_opening_stays_owed_after_a_reopening() -> None:
    before = rules.ended_by_event(active(), at(100), "agent_ended", STACK).after
    assert before is not None
    after = touched(before, 110).after
    assert after is not None
    assert [entry.body["type"] for _, entry in rules.owed(after)] == [
        "ConversationEnded",
        "ConversationReopened",
    ]


def test_attributes_are_replaced_and_a_null_override_goes_back_to_the_stack() -> None:
    before = active(attributes={"a": "1"}, idle_timeout_seconds=60, stages=())
    after = touched(before, 1, changes={"attributes": {"b": "2"}, "idle_timeout_seconds": None}).after
    assert after is not None
    assert after.attributes == {"b": "2"}
    assert after.stages == ()
    assert rules.idle_timeout_seconds(after, STACK) == 300


def test_a_message_past_an_extension_drops_it_and_one_before_keeps_it() -> None:
    before = active(not_before=at(900))
    kept, dropped = touched(before, 599).after, touched(before, 600).after
    assert kept is not None
    assert dropped is not None
    assert (kept.not_before, rules.due_at(kept, STACK)) == (at(900), at(900))
    assert (dropped.not_before, rules.due_at(dropped, STACK)) == (None, at(900))


CUSTOMER_ONLY = settings(reset_on="customer")


@pytest.mark.parametrize("sender", ["bot", "agent"])
def test_with_reset_on_customer_others_neither_reset_nor_reopen_but_may_open(sender: Any) -> None:
    change = touched(active(), 10, sender=sender, stack=CUSTOMER_ONLY, changes={"idle_timeout_seconds": 60})
    assert change.result == "not_counted"
    assert change.after is not None
    assert (change.after.last_activity_at, change.after.idle_timeout_seconds) == (NOON, 60)
    assert touched(active(), 10, sender=sender, stack=CUSTOMER_ONLY) == Change("not_counted")
    assert touched(ended(), 310, sender=sender, stack=CUSTOMER_ONLY) == Change("not_counted")
    kept_for_later = touched(
        ended(), 310, sender=sender, stack=CUSTOMER_ONLY, changes={"idle_timeout_seconds": 60}
    ).after
    assert kept_for_later == replace(ended(), idle_timeout_seconds=60)
    assert touched(None, 0, sender=sender, stack=CUSTOMER_ONLY).result == "opened"
    assert touched(active(), 10, sender=sender).result == "recorded"
    assert touched(active(), 10, stack=CUSTOMER_ONLY).result == "recorded", "no sender counts as the customer"


# --- lifecycle -------------------------------------------------------------------------------------------------------

SINCE = 100  # second since which the state below holds
EXPLICIT = {"state_since": at(SINCE), "ended_at": at(SINCE), "ended_explicitly": True}
BY_TIMER = {"state_since": at(SINCE), "ended_at": at(SINCE)}


def lifecycle(action: str, before: Conversation, seconds: float) -> Change:
    match action:
        case "pause":
            return rules.paused(before, at(seconds), None)
        case "resume":
            return rules.resumed(before, at(seconds))
        case "end":
            return rules.ended_by_event(before, at(seconds), "agent_ended", STACK)
    return rules.extended(before, at(seconds), at(9_000))


@pytest.mark.parametrize(
    ("action", "before", "older", "equal", "newer"),
    [
        ("pause", active(state_since=at(SINCE)), "stale", "applied", "applied"),
        ("pause", paused(state_since=at(SINCE)), "stale", "repeat", "repeat"),
        ("pause", ended(**EXPLICIT), "stale", "stale", "stale"),
        ("pause", ended(**BY_TIMER), "stale", "stale", "stale"),
        ("resume", active(state_since=at(SINCE)), "stale", "repeat", "repeat"),
        ("resume", paused(state_since=at(SINCE)), "stale", "stale", "applied"),
        ("resume", ended(**EXPLICIT), "stale", "stale", "stale"),
        ("end", active(state_since=at(SINCE)), "applied", "applied", "applied"),
        (
            "end",
            active(state_since=at(SINCE), last_activity_at=at(SINCE + 50)),
            "applied",
            "applied",
            "applied",
        ),
        ("end", paused(state_since=at(SINCE)), "applied", "applied", "applied"),
        ("end", ended(**EXPLICIT), "repeat", "repeat", "repeat"),
        ("end", ended(**BY_TIMER), "repeat", "repeat", "repeat"),
        ("extend", active(state_since=at(SINCE)), "applied", "applied", "applied"),
        ("extend", active(not_before=at(9_000)), "repeat", "repeat", "repeat"),
        ("extend", active(not_before=at(9_001)), "repeat", "repeat", "repeat"),
        ("extend", paused(state_since=at(SINCE)), "applied", "applied", "applied"),
        ("extend", ended(**EXPLICIT), "stale", "stale", "stale"),
    ],
)
def test_the_order_of_lifecycle_events(
    action: str, before: Conversation, older: str, equal: str, newer: str
) -> None:
    told = [lifecycle(action, before, seconds) for seconds in (SINCE - 1, SINCE, SINCE + 1)]
    assert [change.result for change in told] == [older, equal, newer]
    for change in told:
        outcomes = len(change.after.outbox) if change.after else 0
        assert outcomes == (1 if change.result == "applied" and action != "extend" else 0)
    assert lifecycle(action, replace(before, opened_at=at(SINCE + 2)), SINCE + 1).result == "stale"


@pytest.mark.parametrize(
    ("action", "before"),
    [
        ("pause", active()),
        ("pause", paused()),
        ("resume", active()),
        ("resume", paused()),
        ("end", active()),
        ("end", ended(**EXPLICIT)),
    ],
)
def test_a_newer_event_moves_the_time_of_the_state_even_if_the_state_stays(
    action: str, before: Conversation
) -> None:
    after = lifecycle(action, before, SINCE + 1).after
    assert after is not None
    assert after.state_since == at(SINCE + 1)


def test_an_older_or_repeated_end_does_not_move_the_end_back() -> None:
    assert [lifecycle("end", ended(**EXPLICIT), seconds).after for seconds in (SINCE - 1, SINCE)] == [
        None,
        None,
    ]


def test_a_resume_that_overtook_its_pause_makes_the_pause_stale() -> None:
    after = lifecycle("resume", active(), 20).after
    assert after is not None
    assert after.last_activity_at == at(20)
    assert lifecycle("pause", after, 10).result == "stale"


def test_a_resume_counts_as_activity_but_never_moves_it_back() -> None:
    earlier = lifecycle("resume", paused(stage=1, stage_at=at(5)), 20).after
    later = lifecycle("resume", paused(last_activity_at=at(30)), 20).after
    assert earlier is not None
    assert later is not None
    assert (earlier.last_activity_at, earlier.stage, earlier.stage_at) == (at(20), 0, None)
    assert later.last_activity_at == at(30)


def test_an_explicit_end_carries_the_events_own_time_and_a_timers_end_the_decisions() -> None:
    explicit = lifecycle("end", active(last_activity_at=at(50)), 20).after
    timed = rules.ended_by_timer(active(), at(305), firing(at(304)), STACK)
    assert explicit is not None
    assert (explicit.ended_at, explicit.end_reason, explicit.ended_explicitly) == (
        at(20),
        "agent_ended",
        True,
    )
    assert (timed.ended_at, timed.end_reason, timed.ended_explicitly) == (at(305), "idle_timeout", False)
    assert (
        rules.ended_by_timer(paused(), at(90_000), firing(at(90_000)), STACK).end_reason == "paused_too_long"
    )


EVERYTHING = settings(
    session_url_secret_arn="arn",  # noqa: S106
    end_hook_function_arn="arn",
    stop_connect_contact=True,
)
LINKED = {"lex": {"bot_id": "b"}, "connect_contact_id": "contact-1"}


def test_an_end_owes_its_actions_before_its_outcome() -> None:
    timed = rules.ended_by_timer(active(**LINKED), at(301), firing(at(301)), EVERYTHING)
    kinds = [entry.kind for _, entry in rules.owed(timed)]
    assert sorted(kinds[:-1]) == ["connect", "hook", "lex", "session"]
    assert kinds[-1] == "outcome"
    explicit = rules.ended_by_event(active(**LINKED), at(301), "x", EVERYTHING).after
    assert explicit is not None
    assert "connect" not in [entry.kind for _, entry in rules.owed(explicit)], (
        "whoever ended it stops the contact"
    )


def test_in_shadow_mode_an_explicit_end_is_told_but_acts_on_nothing() -> None:
    after = rules.ended_by_event(
        active(**LINKED), at(1), "x", EVERYTHING.model_copy(update={"mode": "shadow"})
    ).after
    assert after is not None
    assert [entry.kind for entry in after.outbox.values()] == ["outcome"]


# --- what is derived at every write ----------------------------------------------------------------------------------

RESULTS = st.sampled_from(
    [active(), paused(), paused(pause_timeout_seconds=60), active(stage=1, stage_at=at(120))]
)


@given(RESULTS, st.integers(0, 10**7), st.integers(1, 86_400), st.sampled_from([20, 60, 180]))
def test_the_sweep_looks_after_the_due_time_within_grace_and_bucket(
    shape: Conversation, offset: int, timeout: int, grace: int
) -> None:
    stack = settings(
        sweep_grace_seconds=grace, idle_stages="still_there=PT2M,offer_call=PT4M", idle_timeout_seconds=300
    )
    shift = {name: getattr(shape, name) + offset for name in ("last_activity_at", "state_since")}
    stage_at = None if shape.stage_at is None else shape.stage_at + offset
    after = rules.stamped(
        replace(shape, **shift, stage_at=stage_at, idle_timeout_seconds=timeout), None, NOON, stack
    )
    due = rules.due_at(after, stack)
    assert due is not None
    assert after.sweep_at is not None
    assert due < after.sweep_at <= due + grace * SECOND + stack.sweep_bucket_ms
    assert after.sweep_at % stack.sweep_bucket_ms == 0


@given(st.integers(0, 10**7), st.integers(0, 10**7))
def test_the_one_update_of_a_message_and_a_whole_write_agree_on_the_sweep(first: int, gap: int) -> None:
    before = rules.stamped(active(last_activity_at=NOON + first), None, NOON, STACK)
    exact = touched(before, (first + gap + 1) / SECOND).after
    assert exact is not None
    bucket = exact.last_activity_at // STACK.sweep_bucket_ms * STACK.sweep_bucket_ms
    assert before.sweep_after_ms is not None
    assert rules.stamped(exact, before, NOON, STACK).sweep_at == bucket + before.sweep_after_ms


@pytest.mark.parametrize(
    "conversation", [active(idle_timeout_seconds=0), paused(pause_timeout_seconds=0), ended()]
)
def test_what_is_never_due_and_owes_nothing_is_not_in_the_index(conversation: Conversation) -> None:
    after = rules.stamped(conversation, None, NOON, STACK)
    assert (after.sweep_at, after.sweep_shard) == (None, None)


def test_an_outbox_is_due_after_its_grace_and_later_writes_do_not_put_it_off() -> None:
    owing = rules.ended_by_event(active(), at(10), "x", STACK).after
    assert owing is not None
    first = rules.stamped(owing, active(), at(10), STACK)
    assert first.sweep_at == at(10 + STACK.sweep_grace_seconds)
    assert rules.stamped(owing, first, at(60), STACK).sweep_at == first.sweep_at


def test_failed_attempts_wait_longer_each_time_until_a_person_has_to_look() -> None:
    conversation, waits = active(), []
    for attempt in range(1, STACK.max_attempts + 2):
        after = rules.stamped(
            rules.failed_attempt(conversation, at(400), STACK), conversation, at(400), STACK
        )
        assert after.sweep_at is not None
        assert after.sweep_shard is not None
        waits.append(after.sweep_at - at(400))
        assert rules.is_parked(after) is (attempt >= STACK.max_attempts)
        conversation = after
    assert waits[:3] == [180_000, 360_000, 720_000]
    told = [entry.body["type"] for entry in conversation.outbox.values()]
    assert told == ["ConversationEndFailed"], "once, at the configured number"
    revived = touched(conversation, 500).after
    assert revived is not None
    assert (rules.stamped(revived, conversation, at(500), STACK).sweep_shard or "parked#").isdigit()


def test_an_item_expires_only_when_it_is_ended_and_owes_nothing() -> None:
    def expires_at(conversation: Conversation) -> int | None:
        return rules.stamped(conversation, None, at(400), STACK).expires_at

    owing = rules.ended_by_timer(active(), at(301), firing(at(301)), STACK)
    assert expires_at(owing) is None
    assert expires_at(active(expires_at=1)) is None
    assert expires_at(paused(expires_at=1)) is None
    [done] = owing.outbox
    assert expires_at(rules.without(owing, done)) == at(400) // SECOND + 30 * 86_400
    assert expires_at(ended(expires_at=1)) == 1, "a later write does not lengthen its life"


@given(st.integers(1, 100), st.text(min_size=1, max_size=50))
def test_every_id_has_one_of_the_shards(shards: int, conversation_id: str) -> None:
    stack = settings(sweep_shards=shards)
    shard = rules.stamped(active(conversation_id=conversation_id), None, NOON, stack).sweep_shard
    assert (
        shard == rules.stamped(active(conversation_id=conversation_id), None, NOON + HOUR, stack).sweep_shard
    )
    assert shard is not None
    assert int(shard) < shards


# --- the item --------------------------------------------------------------------------------------------------------


def size(value: dict[str, Any]) -> int:
    """Bytes as DynamoDB counts them, numbers rounded up.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html
    """
    match value:
        case {"S": str(text)}:
            return len(text.encode())
        case {"N": str(digits)}:
            return (len(digits.strip("-0.")) + 1) // 2 + 1 + digits.startswith("-")
        case {"BOOL": _} | {"NULL": _}:
            return 1
        case {"M": inner}:
            return 3 + sum(1 + len(name.encode()) + size(each) for name, each in inner.items())
        case {"L": inner}:
            return 3 + sum(1 + size(each) for each in inner)
    raise AssertionError(value)


def item_size(conversation: Conversation) -> int:
    return sum(len(name.encode()) + size(value) for name, value in to_item(conversation).items())


def test_a_usual_item_is_written_for_one_write_unit_in_every_state() -> None:
    identity = {"conversation_id": "8b2f1d0e-5c1f-4d8a-9a57-0f6c2f0b7f11", "opening_id": "k3J9s8dLq0_ZxY12"}
    conversation = active(
        **identity, attributes={"channel": "web", "locale": "en-GB"}, idle_timeout_seconds=600
    )
    for hour in range(1, 6):  # a long history
        conversation = rules.paused(conversation, NOON + hour * HOUR, None).after or conversation
        conversation = rules.resumed(conversation, NOON + hour * HOUR + 9_999).after or conversation
    assert [line.split()[1] for line in conversation.history] == ["paused", "resumed"] * 3, "the newest six"
    at_rest = replace(conversation, outbox={})
    done = rules.ended_by_timer(at_rest, NOON + 9 * HOUR, firing(NOON + 9 * HOUR), STACK)
    for state in (at_rest, done, replace(done, outbox={})):
        assert item_size(rules.stamped(state, at_rest, NOON + 9 * HOUR, STACK)) < 1_024


def test_an_item_is_read_back_as_it_was_written() -> None:
    full = rules.ended_by_timer(
        active(**LINKED, conversation_id="é😀\n", stages=(Stage(name="a", after=1),), attributes={"": ""}),
        at(301.5),
        firing(at(301)),
        EVERYTHING,
    )
    for conversation in (active(), ended(), rules.stamped(full, None, at(302), EVERYTHING)):
        assert from_item(to_item(conversation)) == conversation
