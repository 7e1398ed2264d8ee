"""Replaying real timings: what is read, when it is sent, and what is held against the service."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.local import trace
from tests.local.promises import due_ms, to_wire

START = 1_800_000_000_250  # epoch ms
TIMEOUT = 5


def written(folder: Path, text: str) -> Path:
    file = folder / "timings.csv"
    file.write_text(text)
    return file


def end(at: int, late_ms: int = 1_100, seq: int = 2, **fields: Any) -> dict[str, Any]:
    decided = due_ms(at, TIMEOUT) + late_ms
    proof = {"last_activity_at": to_wire(at), "decided_at": to_wire(decided)}
    return {"type": "ConversationEnded", "seq": seq, "opening_id": f"opening-{seq}", "proof": proof, **fields}


def reopening(seq: int) -> dict[str, Any]:
    return {"type": "ConversationReopened", "seq": seq, "opening_id": f"opening-{seq + 1}"}


def checked(sent: list[int], outcomes: list[Mapping[str, Any]]) -> trace.Findings:
    found = trace.Findings()
    trace.check("c-1", sent, outcomes, TIMEOUT, found)
    return found


def test_conversations_are_read_up_to_the_limit_wherever_their_lines_are(tmp_path: Path) -> None:
    file = written(tmp_path, "conversation,minute,speaker\na,0,0\nb,0,0\na,7,1\n\nc,0,0\nb,1,0\n")
    assert trace.read_minutes(file, 2) == [[0, 7], [0, 1]]
    assert trace.read_minutes(file, 40) == [[0, 7], [0, 1], [0]]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "the first line must be conversation,minute,speaker"),
        ("Dear reader,\nthis is a letter.\n", "the first line must be conversation,minute,speaker"),
        ("conversation,seconds,sender\n0,0,client\n", "the first line must be conversation,minute,speaker"),
        ("conversation,minute,speaker\n", "holds no messages"),
        ("conversation,minute,speaker\na,0,0\na,soon,0\n", "line 3: must be a conversation, a whole minute"),
        ("conversation,minute,speaker\na,-1,0\n", "line 2: must be a conversation, a whole minute"),
        ("conversation,minute,speaker\na,0\n", "line 2: must be a conversation, a whole minute"),
        ("conversation,minute,speaker\na,²,0\n", "line 2: must be a conversation, a whole minute"),
    ],
)
def test_what_is_no_such_file_is_refused_in_one_line(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(trace.TraceError, match=problem) as refused:
        trace.read_minutes(written(tmp_path, text), 40)
    assert "\n" not in str(refused.value)


def test_a_missing_file_a_folder_and_a_picture_are_refused_by_name(tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n\0\0\xff")
    for file, problem in (
        (tmp_path / "none.csv", "none.csv: No such file"),
        (tmp_path, "Is a directory"),
        (picture, "not a CSV file"),
    ):
        with pytest.raises(trace.TraceError, match=problem):
            trace.read_minutes(file, 40)


@pytest.mark.parametrize("text", ["0", "-1", "fast", "nan", "inf", "", "1,5"])
def test_a_speed_is_a_number_above_zero(text: str) -> None:
    with pytest.raises(trace.TraceError, match="SPEED must be a number above 0"):
        trace.parse_speed(text)


@pytest.mark.parametrize("text", ["0", "-3", "1.5", "all", "1001", "99999999999999", "²"])
def test_a_limit_is_a_whole_number_from_one(text: str) -> None:
    with pytest.raises(trace.TraceError, match="LIMIT must be a whole number from 1 to 1000"):
        trace.parse_limit(text)


@pytest.mark.parametrize(("speed", "timeout"), [(1, 300), (7, 43), (30, 10), (60, 5), (600, 5)])
def test_the_timeout_is_300_seconds_at_that_speed_and_at_least_5(speed: float, timeout: int) -> None:
    assert trace.timeout_seconds(speed) == timeout


def test_messages_stay_in_their_minute_in_order_and_starts_are_staggered() -> None:
    minutes = [0, 0, 0, 4, 4, 90]
    plan = trace.spread([minutes] * 20, speed=1)
    for number, times in enumerate(plan):
        assert times == sorted(times)
        assert number * trace.STAGGER_SECONDS <= times[0] < (number + 1) * trace.STAGGER_SECONDS
        for at, minute in zip(times, minutes, strict=True):
            assert abs(at - times[0] - 60 * minute) < 60
    assert len({times[1] - times[0] for times in plan}) == 20


def test_the_same_seed_gives_the_same_plan_and_speed_only_shrinks_it() -> None:
    slow, fast = trace.spread([[0, 3, 3]], speed=1), trace.spread([[0, 3, 3]], speed=60)
    assert slow == trace.spread([[0, 3, 3]], speed=1)
    assert slow != trace.spread([[0, 3, 3]], speed=1, seed=1)
    assert fast == [[pytest.approx(at / 60) for at in slow[0]]]


@pytest.mark.parametrize(
    ("gap", "verdict"), [(0, "short"), (4.99, "short"), (5, "unclear"), (10, "unclear"), (10.01, "long")]
)
def test_a_gap_between_the_timeout_and_the_latest_end_is_left_out(gap: float, verdict: str) -> None:
    assert trace.judge(gap, TIMEOUT) == verdict


def test_the_busiest_seconds_count_ends_as_more_than_a_message() -> None:
    assert trace.busiest([[0.0, 1.0, 2.0]], timeout=5) == pytest.approx((3 + trace.END_WORK) / 10)
    assert trace.busiest([[0.0], [100.0], [200.0]], timeout=5) == pytest.approx((1 + trace.END_WORK) / 10)


def test_the_speed_that_would_do_does_and_the_next_does_not() -> None:
    conversations = [[0, 0, 1, 2, 2, 9]] * 30
    fits = trace.fitting_speed(conversations, usable=8)

    def work(speed: int) -> float:
        return trace.busiest(trace.spread(conversations, speed), trace.timeout_seconds(speed))

    assert work(fits) <= 8 < work(fits + 1)
    assert trace.fitting_speed(conversations, usable=0) == 0


def test_a_replay_that_takes_too_long_is_refused_before_anything_is_built(tmp_path: Path) -> None:
    file = written(tmp_path, "conversation,minute,speaker\na,0,0\na,700,1\n")
    with pytest.raises(
        trace.TraceError, match=r"1 conversations take \d+ minutes, more than 15: raise SPEED"
    ):
        trace.prepare(file, speed=1, limit=40)


def test_an_end_for_each_long_silence_is_as_promised() -> None:
    sent = [START, START + 2_000, START + 20_000, START + 27_000]  # the last gap is too close to call
    found = checked(sent, [end(START + 2_000), reopening(3), end(START + 27_000, seq=4)])
    assert found.problems == []
    assert found.verdicts == {"short": 1, "long": 1, "unclear": 1}
    assert (found.ends, found.reopenings) == (2, 1)
    assert found.lateness == [1.1, 1.1]


def test_a_gap_that_is_left_out_may_have_ended_the_conversation_or_not() -> None:
    sent = [START, START + 7_000]
    assert checked(sent, [end(START + 7_000)]).problems == []
    assert checked(sent, [end(START), reopening(3), end(START + 7_000, seq=4)]).problems == []


@pytest.mark.parametrize(
    ("outcomes", "problem"),
    [
        ([], "0 ends for the silence after the last message"),
        ([end(START)], "0 ends for the silence after the last message"),
        ([end(START), reopening(3), end(START + 4_000, seq=4)], "ended although the next message came after 4.0 s"),
        ([end(START + 4_000), end(START + 4_000, seq=3)], "2 ends for the silence after the last message"),
        ([end(START + 4_000, late_ms=-900)], "ended 0.15 s early"),
        ([end(START + 4_000, late_ms=4_001)], "ended 4.00 s after it was due"),
        ([end(START + 4_000), end(START + 1, seq=3)], "ended for an activity that was none"),
        ([end(START + 4_000), reopening(2)], r"outcomes are numbered \[2, 2\]"),
        ([reopening(1), end(START + 4_000)], "wrong order"),
    ],
)  # fmt: skip
def test_whatever_is_not_as_promised_is_named(outcomes: list[Mapping[str, Any]], problem: str) -> None:
    found = checked([START, START + 4_000], outcomes)
    assert any(re.search(problem, text) for text in found.problems), found.problems


def test_percentiles_and_the_histogram_cover_every_value() -> None:
    values = [number / 100 for number in range(100, 200)]
    assert [trace.percentile(values, share) for share in (0.01, 0.5, 0.9, 1)] == [1.0, 1.49, 1.89, 1.99]
    lines = list(trace.histogram(values))
    assert len(lines) <= 12
    assert sum(int(line.split()[4]) for line in lines) == 100
    assert list(trace.histogram([1.5])) == [f" 1.50 to  1.51 s  {1:5d}  {'#' * 50}"]
