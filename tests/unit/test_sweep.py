"""Nobody is forgotten, whatever was lost on the way; and one conversation's trouble is its own."""

from collections import Counter
from dataclasses import replace

import pytest

from idle_timer import conversation as rules
from idle_timer.conversation import Hold
from idle_timer.errors import InvalidEventError, UnavailableError
from idle_timer.upkeep_ports import IndexEntry
from tests.fakes import steps
from tests.fakes.operations import Operations, handed_over
from tests.fakes.world import World, settings

OVERDUE_SECONDS = 300 + 180 + 60 + 1  # the stack's timeout, grace and bucket


def overdue(count: int, **changed: int | str) -> Operations:
    """So many conversations whose schedules are lost, and whose time is over."""
    world = World(settings(**changed))
    for number in range(count):
        world.touch(f"c-{number}")
        if number % 2:
            world.clock.advance(1)
            world.touch(f"c-{number}")
    world.scheduler.schedules.clear()
    world.clock.advance(OVERDUE_SECONDS)
    return Operations(world)


def ended(operations: Operations) -> Counter[str]:
    """How often the end of each conversation was published."""
    return Counter(
        str(outcome["conversation_id"])
        for outcome in operations.world.outcomes.published
        if outcome["type"] == "ConversationEnded"
    )


def test_every_conversation_whose_schedule_was_lost_ends_once_and_is_counted_with_its_cause() -> None:
    operations = overdue(45)
    answer = operations.sweep()
    assert answer["result"] == "finished"
    assert answer["overdue"] == 45
    assert ended(operations) == {f"c-{number}": 1 for number in range(45)}
    assert operations.world.telemetry.totals["SweepRepaired"] == 45
    assert operations.world.telemetry.by["SweepRepaired", "never_armed"] == 23
    assert operations.world.telemetry.by["SweepRepaired", "lost"] == 22
    assert operations.sweep()["overdue"] == 0


def test_it_heals_with_scheduler_absent() -> None:
    operations = overdue(5)
    operations.timetable.absent = True
    operations.world.steps.twist("scheduler.delete", *[steps.answering(False)] * 5)
    assert operations.sweep()["result"] == "finished"
    assert len(ended(operations)) == 5


def test_what_is_not_overdue_is_left_to_its_schedule() -> None:
    operations = overdue(0)
    operations.world.touch("young")
    operations.world.clock.advance(301)  # due, but still within the grace of its schedule
    assert operations.sweep()["overdue"] == 0
    assert operations.functions.called == []


def test_one_failure_does_not_touch_the_others_and_waits_longer_each_time() -> None:
    operations = overdue(30)
    operations.functions.broken["c-7"] = "UnavailableError"
    answer = operations.sweep()
    assert (answer["overdue"], answer["failed"]) == (30, 1)
    assert len(ended(operations)) == 29
    waits = []
    for attempt in (1, 2, 3):
        item = operations.world.item("c-7")
        assert item.attempts == attempt
        assert item.sweep_at is not None
        waits.append(item.sweep_at - operations.world.clock.time)
        operations.world.clock.time = item.sweep_at
        operations.sweep()
    assert waits == [180_000, 360_000, 720_000]
    operations.functions.broken.clear()
    operations.world.clock.advance(3_600)
    operations.sweep()
    assert operations.world.telemetry.by["SweepRepaired", "failed"] == 1
    assert operations.world.item("c-7").attempts == 0


def test_a_failure_that_somebody_else_has_made_good_meanwhile_is_not_counted() -> None:
    operations = overdue(1)
    operations.world.cleanup("c-0")
    assert operations.world.item("c-0").state == "ended"
    assert operations.attempts.failed("c-0") == "gone"
    assert operations.world.item("c-0").attempts == 0


def test_what_never_stops_failing_is_parked_after_exactly_the_configured_attempts_and_told() -> None:
    operations = overdue(3, max_attempts=3)
    operations.functions.broken["c-1"] = "UnavailableError"
    for _ in range(6):
        operations.sweep()
        operations.world.clock.advance(86_400)
    calls = [call for call in operations.functions.called if call.key == "c-1"]
    assert len([call for call in calls if call.event["source"] == "sweep"]) == 3
    assert operations.world.item("c-1").attempts == 3
    assert str(operations.world.item("c-1").sweep_shard).startswith("parked#")
    assert operations.world.handover.handed == [("c-1", "outbox")]
    operations.world.drain()
    assert operations.world.outcomes.types().count("ConversationEndFailed") == 1
    assert operations.world.item("c-1").state == "active"  # a person decides
    assert operations.world.telemetry.totals["Parked"] == 1


def test_a_parking_that_could_not_be_told_is_told_by_a_later_sweep() -> None:
    operations = overdue(1, max_attempts=1)
    operations.functions.broken["c-0"] = "UnavailableError"
    operations.sweep()
    operations.world.handover.handed.clear()  # the asynchronous invocation is lost
    operations.functions.broken.clear()
    operations.world.clock.advance(86_400)
    assert operations.sweep()["notices"] == 1
    assert operations.world.outcomes.types() == ["ConversationEndFailed"]
    operations.world.clock.advance(86_400)
    assert operations.sweep()["notices"] == 0


def test_a_lowered_limit_parks_nobody_without_a_word() -> None:
    operations = overdue(1, max_attempts=5)
    operations.functions.broken["c-0"] = "UnavailableError"
    for _ in range(3):
        operations.sweep()
        operations.world.clock.advance(86_400)
    world = World(settings(max_attempts=2))
    world.store.items, world.clock.time = operations.world.store.items, operations.world.clock.time
    world.touch("c-1")
    lowered = Operations(world)
    lowered.functions.broken["c-0"] = "UnavailableError"
    lowered.sweep()
    assert world.handover.handed == [("c-0", "outbox")]
    world.drain()
    assert "ConversationEndFailed" in world.outcomes.types()


def test_activity_unparks() -> None:
    operations = overdue(1, max_attempts=1)
    operations.functions.broken["c-0"] = "UnavailableError"
    operations.sweep()
    operations.world.touch("c-0")
    operations.functions.broken.clear()
    operations.world.scheduler.schedules.clear()
    operations.world.clock.advance(OVERDUE_SECONDS)
    operations.sweep()
    assert operations.world.item("c-0").state == "ended"


def test_a_left_outbox_is_worked_off_and_counted_as_such() -> None:
    operations = overdue(0)
    world = operations.world
    world.touch("c-1")
    world.lifecycle("end", "c-1", reason="customer_left")
    world.handover.handed.clear()  # the asynchronous invocation is lost
    world.clock.advance(181)
    operations.sweep()
    assert world.outcomes.types() == ["ConversationEnded"]
    assert world.telemetry.by["SweepRepaired", "outbox"] == 1
    assert world.item("c-1").sweep_shard is None


def test_a_late_index_is_not_believed() -> None:
    operations = overdue(1)
    item = operations.world.item("c-0")
    assert item.sweep_shard is not None
    assert item.sweep_at is not None
    operations.sweep()
    operations.overview.stale = [
        IndexEntry(item.sweep_shard, item.sweep_at, "c-0"),
        IndexEntry(item.sweep_shard, item.sweep_at, "gone"),
    ]
    operations.functions.called.clear()
    assert operations.sweep()["overdue"] == 0
    assert operations.functions.called == []


def test_a_batch_is_twenty_and_pages_go_forward_only() -> None:
    operations = overdue(50, sweep_shards=1)
    operations.sweep()
    pages = [call for call in operations.world.steps.calls if call.name == "overview.entries"]
    first_shard = [call.args for call in pages if call.args[0] == "00"]
    assert [args[-1] for args in first_shard] == [20, 20, 20]
    starts = [args[3] for args in first_shard]
    assert starts[0] is None
    assert starts[1].sweep_at <= starts[2].sweep_at
    batches = [call for call in operations.world.steps.calls if call.name == "overview.read_each"]
    assert max(len(call.args) for call in batches) == 20


# --- the deadline ---


def slow(count: int, max_handovers: int, monkeypatch: pytest.MonkeyPatch) -> Operations:
    """Each page takes 0.2 s, and an invocation is given time for about two."""
    monkeypatch.setattr("idle_timer.sweep.LEAST_PAGE_SECONDS", 0.1)
    prepared = overdue(count, sweep_shards=1)
    operations = Operations(prepared.world, max_handovers)
    operations.functions.seconds = 0.01
    return operations


def test_work_longer_than_a_lambda_goes_on_in_fresh_invocations(monkeypatch: pytest.MonkeyPatch) -> None:
    operations = slow(140, 10, monkeypatch)
    answers = operations.sweep_to_the_end(seconds=3.6)
    assert [answer["result"] for answer in answers[:-1]] == ["handed_over"] * (len(answers) - 1)
    assert answers[-1]["result"] == "finished"
    assert 3 <= len(answers) <= 8
    assert len({answer["run"] for answer in answers}) == 1
    assert [answer["handovers"] for answer in answers] == list(range(len(answers)))
    assert ended(operations) == {f"c-{number}": 1 for number in range(140)}
    assert operations.world.telemetry.totals["SweepRepaired"] == 140


def test_hand_overs_are_bounded_and_the_next_sweep_goes_on_at_the_cursor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    operations = slow(140, 1, monkeypatch)
    answers = operations.sweep_to_the_end(seconds=3.6)
    assert [answer["result"] for answer in answers] == ["handed_over", "stopped"]
    done = len(ended(operations))
    assert 0 < done < 140
    assert operations.control.lease is not None
    assert operations.control.lease.cursor is not None
    assert operations.control.until == 0  # the next one may begin
    operations.functions.called.clear()
    operations.functions.seconds = 0
    assert operations.sweep()["result"] == "finished"
    assert len(operations.functions.called) == 140 - done
    assert ended(operations) == {f"c-{number}": 1 for number in range(140)}


def test_an_alarm_in_the_middle_of_a_page_hands_over_and_nothing_counts_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    operations = slow(30, 10, monkeypatch)
    operations.functions.seconds = 0.1  # a page takes 2 s, an invocation has 1
    answers = operations.sweep_to_the_end(seconds=4.0)
    assert answers[-1]["result"] == "finished"
    assert len(answers) > 2
    assert ended(operations) == {f"c-{number}": 1 for number in range(30)}
    assert 30 - len(answers) < operations.world.telemetry.totals["SweepRepaired"] <= 30


# --- the lease ---


def test_two_sweeps_are_kept_apart() -> None:
    operations = overdue(2)
    taken = operations.control.take("other", 0, now=operations.world.clock.time, until=10**15)
    assert taken is not None
    assert operations.sweep()["result"] == "busy"
    assert operations.functions.called == []


def test_a_lease_that_was_never_given_back_runs_out() -> None:
    operations = overdue(2)
    soon = operations.world.clock.time + 60_000
    operations.control.take("died", 0, now=operations.world.clock.time, until=soon)
    assert operations.sweep()["result"] == "busy"
    operations.world.clock.advance(61)
    assert operations.sweep()["result"] == "finished"


def test_a_hand_over_that_arrives_twice_is_one_sweep() -> None:
    operations = overdue(2)
    operations.control.take("run", 0, now=0, until=10**15)
    assert operations.sweep(handed_over("run", 1))["result"] == "finished"
    assert operations.sweep(handed_over("run", 1))["result"] == "busy"
    assert operations.sweep(handed_over("another", 1))["result"] == "busy"


def test_a_hand_over_with_something_else_in_it_is_refused() -> None:
    with pytest.raises(InvalidEventError, match="run: is needed"):
        overdue(0).sweep({"version": 1, "source": "handover", "handovers": 1})


# --- what it does not do ---


def test_it_rests_while_a_hold_is_open_and_counts_what_is_overdue() -> None:
    operations = overdue(5)
    operations.world.store.hold = Hold(((operations.world.clock.time - 1_000, None),))
    assert operations.sweep() == {"result": "resting", "overdue": 5}
    assert operations.functions.called == []
    assert operations.world.telemetry.values["Overdue"] == [5]


def test_it_rests_in_shadow_mode() -> None:
    assert overdue(5, mode="shadow").sweep() == {"result": "resting", "overdue": 5}


def test_after_a_hold_nobody_ends_before_the_credited_time_and_is_handed_over_only_once() -> None:
    operations = overdue(0)
    world = operations.world
    world.touch("c-1")
    world.clock.advance(240)  # one minute from its end
    start = world.clock.time
    world.store.hold = Hold(((start, None),))
    world.clock.advance(600)
    world.store.hold = Hold(((start, world.clock.time),))
    world.scheduler.schedules.clear()
    operations.sweep()
    assert world.item("c-1").state == "active"
    assert operations.sweep()["overdue"] == 0  # the index knows of the credit now
    world.clock.advance(59)
    operations.sweep()
    assert world.item("c-1").state == "active"
    world.clock.advance(OVERDUE_SECONDS)
    world.scheduler.schedules.clear()
    operations.sweep()
    assert world.item("c-1").state == "ended"


def test_where_cleanup_cannot_be_invoked_it_stops_without_counting_and_says_so() -> None:
    operations = overdue(30)
    operations.functions.unreachable = {f"c-{number}" for number in range(30)}
    with pytest.raises(UnavailableError, match="could not be invoked"):
        operations.sweep()
    assert {item.attempts for item in operations.world.store.items.values()} == {0}
    assert len(operations.functions.called) <= 20
    operations.functions.unreachable.clear()
    operations.sweep()
    assert len(ended(operations)) == 30


def test_one_shards_trouble_does_not_keep_the_others_from_being_swept() -> None:
    operations = overdue(30)
    operations.world.steps.twist("overview.entries", steps.failing(RuntimeError("unreadable")))
    with pytest.raises(UnavailableError, match="1 shards were not swept"):
        operations.sweep()
    assert 20 < len(ended(operations)) < 30
    operations.sweep()
    assert len(ended(operations)) == 30


# --- the audit ---


def test_schedules_of_conversations_that_are_over_or_gone_are_taken_away() -> None:
    operations = overdue(0)
    world = operations.world
    for name in ("over", "gone", "alive"):
        world.touch(name)
    world.lifecycle("end", "over")
    world.drain()
    world.scheduler.create("over", world.clock.time + 60_000)
    del world.store.items["gone"]
    assert operations.sweep()["audited"] == 2
    assert set(world.scheduler.schedules) == {"alive"}


def test_a_schedule_that_should_have_fired_long_ago_is_looked_after() -> None:
    operations = overdue(0)
    world = operations.world
    world.touch("c-1")
    schedule = world.scheduler.schedules["c-1"]
    world.clock.advance(100)
    world.touch("c-1")
    world.scheduler.schedules["c-1"] = replace(schedule, at=world.clock.time - 181_000)
    operations.sweep()
    assert (world.scheduled_for("c-1") or 0) > world.clock.time


def test_the_audit_goes_on_where_it_was() -> None:
    operations = overdue(0)
    operations.timetable.page_size = 2
    for number in range(5):
        operations.world.touch(f"c-{number}")
    tokens = []
    for _ in range(4):
        operations.sweep()
        assert operations.control.lease is not None
        tokens.append(operations.control.lease.audit_token)
    assert tokens == ["2", "4", None, "2"]


def test_that_it_failed_is_told_before_what_fails_is_tried_again() -> None:
    operations = overdue(1, max_attempts=1)
    world = operations.world
    world.steps.twist("outcomes.publish", steps.failing(RuntimeError("refused")))
    operations.sweep()  # ended, and its outcome not published
    assert world.item("c-0").state == "ended"
    kinds = [entry.body.get("type") for _, entry in rules.owed(world.item("c-0"))]
    assert kinds == ["ConversationEndFailed", "ConversationEnded"]
    world.drain()
    assert world.outcomes.types() == ["ConversationEndFailed"]
    operations.inspect("retry", conversation_id="c-0")
    assert world.outcomes.types() == ["ConversationEndFailed", "ConversationEnded"]
