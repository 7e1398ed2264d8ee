"""Timings of real conversations, replayed faster: what is sent when, what must then hold, and whether it did.

File -> minutes per conversation -> seconds since the start of the replay -> messages as they were really sent; each
gap and each end is judged by the latter.
"""

import csv
import math
import random
import threading
import time
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tests.local.promises import (
    LATEST_SECONDS,
    SKEW_SECONDS,
    Promise,
    due_ms,
    from_wire,
    lateness_seconds,
    margin_seconds,
    note_failing_threads,
    now_ms,
    to_wire,
)
from tests.local.screen import Screen
from tests.local.stack import FunctionError, Session

SPEED, LIMIT = 60.0, 40
HEADER = ["conversation", "minute", "speaker"]
SEED = 20_261_121
REAL_TIMEOUT_SECONDS, LEAST_TIMEOUT_SECONDS = 300, 5  # Scheduler is never asked for less than 5 s ahead
STAGGER_SECONDS = 120  # real time from one conversation's start to the next one's, on average
MOST_CONVERSATIONS, LONGEST_SECONDS = 1_000, 900  # of a replay
CALLERS = 4  # messages under way at once, as from a backend with so many connections
MEASURE_SECONDS = 3.0
END_WORK = 3.0  # what an end costs, in messages: calls to AWS, counted
BUSY_SECONDS = 10.0  # the window in which the work is greatest
USABLE = 0.7  # of what was measured: ends, sweeps and the watching itself need the rest
MOST_BEHIND_SECONDS = LEAST_TIMEOUT_SECONDS / 2  # behind the plan: beyond it, it is no replay any more
REPORT_SECONDS = 5.0
WIDTHS = (0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0)  # of the histogram's steps, in seconds

Verdict = Literal["short", "long", "unclear"]


class TraceError(Exception):
    """A file or a value that cannot be replayed; one line."""


# --- the plan --------------------------------------------------------------------------------------------------------


def parse_speed(text: str) -> float:
    """A number above 0."""
    try:
        speed = float(text)
    except ValueError:
        speed = math.nan
    if not (math.isfinite(speed) and speed > 0):
        raise TraceError(f"SPEED must be a number above 0, not {text!r}")
    return speed


def parse_limit(text: str) -> int:
    """A whole number from 1."""
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MOST_CONVERSATIONS):
        raise TraceError(f"LIMIT must be a whole number from 1 to {MOST_CONVERSATIONS}, not {text!r}")
    return int(text)


def read_minutes(file: Path, limit: int) -> list[list[int]]:
    """The minutes of the messages of the first so many conversations, each from its first message."""
    minutes: dict[str, list[int]] = {}
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            rows = csv.reader(lines)
            if next(rows, None) != HEADER:
                raise TraceError(f"{file}: the first line must be {','.join(HEADER)}")
            for row in rows:
                if not row:
                    continue
                if len(row) != len(HEADER) or not (row[1].isascii() and row[1].isdigit() and len(row[1]) < 8):
                    raise TraceError(
                        f"{file}, line {rows.line_num}: must be a conversation, a whole minute and a speaker"
                    )
                if row[0] in minutes or len(minutes) < limit:
                    minutes.setdefault(row[0], []).append(int(row[1]))
    except OSError as error:
        raise TraceError(f"{file}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error):
        raise TraceError(f"{file}: is not a CSV file in UTF-8") from None
    if not minutes:
        raise TraceError(f"{file}: holds no messages")
    return list(minutes.values())


def timeout_seconds(speed: float) -> int:
    """The idle timeout at that speed: Lambda is given whole seconds."""
    return max(LEAST_TIMEOUT_SECONDS, math.ceil(REAL_TIMEOUT_SECONDS / speed))


def spread(conversations: Sequence[Sequence[int]], speed: float, seed: int = SEED) -> list[list[float]]:
    """When each message is sent, in seconds since the start: anywhere in its minute, the starts staggered."""
    chance = random.Random(seed)  # noqa: S311 - the same every time, on purpose
    plan: list[list[float]] = []
    for number, minutes in enumerate(conversations):
        start = (number + chance.random()) * STAGGER_SECONDS
        times = sorted(60 * (minute - min(minutes) + chance.random()) for minute in minutes)
        plan.append([(start + at - times[0]) / speed for at in times])
    return plan


def duration(plan: Sequence[Sequence[float]]) -> float:
    """Seconds until the last message."""
    return max(times[-1] for times in plan)


def judge(gap_seconds: float, timeout: int) -> Verdict:
    """What a gap between two messages must do: nothing, an end in between, or one cannot tell."""
    if gap_seconds < timeout:
        return "short"
    latest = timeout + 1 + SKEW_SECONDS + LATEST_SECONDS  # 1: the due time is rounded up to a whole second
    return "long" if gap_seconds > latest else "unclear"


def busiest(plan: Sequence[Sequence[float]], timeout: int) -> float:
    """The most work in any such window, in messages a second, ends included."""
    work = sorted(
        [(at, 1.0) for times in plan for at in times]
        + [
            (at + timeout, END_WORK)
            for times in plan
            for at, following in zip(times, [*times[1:], math.inf], strict=True)
            if judge(following - at, timeout) != "short"
        ]
    )
    sums = [0.0]
    for _, amount in work:
        sums.append(sums[-1] + amount)
    moments = [at for at, _ in work]
    return (
        max(sums[bisect_right(moments, at + BUSY_SECONDS)] - sums[bisect_left(moments, at)] for at in moments)
        / BUSY_SECONDS
    )


def fitting_speed(conversations: Sequence[Sequence[int]], usable: float) -> int:
    """The highest whole speed whose work the machine can do; 0: none."""
    low, high = 0, 10_000
    while low < high:
        speed = (low + high + 1) // 2
        if busiest(spread(conversations, speed), timeout_seconds(speed)) <= usable:
            low = speed
        else:
            high = speed - 1
    return low


# --- what came of it -------------------------------------------------------------------------------------------------


@dataclass
class Findings:
    """What the conversations have shown."""

    problems: list[str] = field(default_factory=list)
    verdicts: Counter[Verdict] = field(default_factory=Counter)
    lateness: list[float] = field(default_factory=list)  # seconds after the due time
    margins: list[float] = field(default_factory=list)  # seconds after the whole timeout
    ends: int = 0
    reopenings: int = 0


def check(
    name: str, sent: Sequence[int], outcomes: Sequence[Mapping[str, Any]], timeout: int, found: Findings
) -> None:
    """Hold one conversation's outcomes, in order of arrival, against its messages (epoch ms, as they were sent)."""
    sent = sorted(set(sent))
    ends = [outcome for outcome in outcomes if outcome["type"] == "ConversationEnded"]
    by_activity = Counter(from_wire(end["proof"]["last_activity_at"]) for end in ends)
    found.ends += len(ends)
    found.reopenings += len(outcomes) - len(ends)

    def problem(text: str) -> None:
        found.problems.append(f"{name}: {text}")

    for at, following in zip(sent, [*sent[1:], None], strict=True):
        count = by_activity.pop(at, 0)
        gap = math.inf if following is None else (following - at) / 1000
        verdict = judge(gap, timeout)
        if following is not None:
            found.verdicts[verdict] += 1
        if verdict == "short" and count:
            problem(f"ended although the next message came after {gap:.1f} s")
        elif verdict == "long" and count != 1:
            silence = (
                "the silence after the last message" if following is None else f"a silence of {gap:.1f} s"
            )
            problem(f"{count} ends for {silence}")
        elif verdict == "unclear" and count > 1:
            problem(f"{count} ends for one silence")
    if by_activity:
        problem("ended for an activity that was none")
    for end in ends:
        activity = from_wire(end["proof"]["last_activity_at"])
        margin = margin_seconds(end, activity, timeout)
        late = lateness_seconds(end, due_ms(activity, timeout))
        found.margins.append(margin)
        found.lateness.append(late)
        if margin < 0:
            problem(f"ended {-margin:.2f} s early")
        if late > SKEW_SECONDS + LATEST_SECONDS:
            problem(f"ended {late:.2f} s after it was due")
    types = [outcome["type"] for outcome in outcomes]
    if types != (["ConversationEnded", "ConversationReopened"] * len(types))[: len(types)]:
        problem(f"outcomes in the wrong order: {', '.join(types)}")
    numbers = [outcome["seq"] for outcome in outcomes]
    if numbers != sorted(set(numbers)):
        problem(f"outcomes are numbered {numbers}")
    if len({end["opening_id"] for end in ends}) != len(ends):
        problem("one opening was ended twice")


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that so large a share does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def histogram(values: Sequence[float], columns: int = 50) -> Iterator[str]:
    """A dozen lines at most, from the smallest to the greatest value (seconds), in steps of a round width."""
    span = max(values) - min(values)
    width = next((width for width in WIDTHS if span <= 11 * width), span / 11)
    counts = Counter(math.floor(value / width) for value in values)
    most = max(counts.values())
    for step in range(min(counts), max(counts) + 1):
        bar = "#" * math.ceil(counts[step] * columns / most)
        yield f"{step * width:5.2f} to {(step + 1) * width:5.2f} s  {counts[step]:5d}  {bar}".rstrip()


def failed_events(stack: Session) -> int:
    """Events that no function could work off."""
    return sum(
        int(
            stack.client("sqs").get_queue_attributes(QueueUrl=stack.outputs[queue], AttributeNames=["All"])[
                "Attributes"
            ][count]
        )
        for queue in ("FailureQueueUrl", "ParkedQueueUrl")
        for count in (
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesDelayed",
            "ApproximateNumberOfMessagesNotVisible",
        )
    )


# --- the replay ------------------------------------------------------------------------------------------------------


def prepare(file: Path, speed: float, limit: int) -> "Replay":
    """Read and plan. Raises TraceError."""
    conversations = read_minutes(file, limit)
    plan = spread(conversations, speed)
    seconds = duration(plan)
    if seconds > LONGEST_SECONDS:
        raise TraceError(
            f"at SPEED={speed:g} these {len(plan)} conversations take {seconds / 60:.0f} minutes, "
            f"more than {LONGEST_SECONDS // 60}: raise SPEED or lower LIMIT"
        )
    return Replay(conversations, plan, speed)


class Replay:
    """A plan, and what was sent by it."""

    def __init__(
        self, conversations: Sequence[Sequence[int]], plan: Sequence[Sequence[float]], speed: float
    ) -> None:
        self.timeout_seconds = timeout_seconds(speed)
        self._conversations = conversations
        self._plan = {f"replay-{number:04d}": times for number, times in enumerate(plan)}
        self._speed = speed
        self._sent: dict[str, list[int]] = {name: [] for name in self._plan}  # epoch ms
        self._failures: list[str] = []
        self._behind = 0.0  # seconds, at most
        self._free = threading.BoundedSemaphore(CALLERS)

    def run(self, stack: Session, screen: Screen) -> list[Promise]:
        """Send it all, wait for the last end, and judge. Raises TraceError where the machine is too slow for it."""
        messages = sum(map(len, self._plan.values()))
        seconds = duration(list(self._plan.values()))
        screen.heading(
            f"Replay: {len(self._plan)} conversations, {messages} messages, {self._speed:g} times faster than real"
        )
        screen.line(
            f"  idle timeout {self.timeout_seconds} s, about {seconds + self.timeout_seconds + 5:.0f} s to go"
        )
        self._refuse_if_too_fast(stack, screen)
        for name in self._plan:
            stack.redis.set(f"session:{name}", "replayed", ex=3_600)
        self._send_all(stack, screen)
        return self._judge(stack, screen)

    def _refuse_if_too_fast(self, stack: Session, screen: Screen) -> None:
        """Measure what the machine can do, and compare with the busiest seconds of the plan."""
        tries = [f"measure-{number}" for number in range(CALLERS)]

        def keep_writing(name: str) -> list[float]:
            until, took = time.monotonic() + MEASURE_SECONDS, []
            while (began := time.monotonic()) < until:
                stack.invoke("touch", {"conversation_id": name, "idle_timeout": 3_600})
                took.append(time.monotonic() - began)
            return took

        with ThreadPoolExecutor(CALLERS) as pool:
            times = [took for each in pool.map(keep_writing, tries) for took in each]
            list(
                pool.map(
                    lambda name: stack.invoke("lifecycle", {"action": "end", "conversation_id": name}), tries
                )
            )
        able = len(times) / MEASURE_SECONDS
        needed = busiest(list(self._plan.values()), self.timeout_seconds)
        screen.line(
            f"  a touch takes {percentile(times, 0.5) * 1000:.0f} ms here, {CALLERS} at a time; "
            f"{able:.0f} a second, {needed:.1f} needed"
        )
        if needed > able * USABLE:
            fits = fitting_speed(self._conversations, able * USABLE)
            feasible = fits and duration(spread(self._conversations, fits)) <= LONGEST_SECONDS
            advice = f"SPEED={fits} would do" if feasible else "lower SPEED and LIMIT"
            raise TraceError(
                f"SPEED={self._speed:g} needs {needed:.1f} messages a second, an end counted as {END_WORK:.0f}, "
                f"and this machine does {able:.1f}, {USABLE:.0%} of them reliably: {advice}"
            )

    def _send_all(self, stack: Session, screen: Screen) -> None:
        self._failures = note_failing_threads()
        start = time.monotonic() + 0.5

        def converse(name: str) -> None:
            for planned in self._plan[name]:
                time.sleep(max(0.0, start + planned - time.monotonic()))
                with self._free:
                    self._behind = max(self._behind, time.monotonic() - start - planned)
                    at = now_ms()
                    self._sent[name].append(at)
                    try:
                        stack.invoke("touch", {"conversation_id": name, "occurred_at": to_wire(at)})
                    except FunctionError as error:
                        self._failures.append(f"{name}: touch failed: {error}")

        threads = [
            threading.Thread(target=converse, args=(name,), name=name, daemon=True) for name in self._plan
        ]
        for thread in threads:
            thread.start()
        messages = sum(map(len, self._plan.values()))
        last = duration(list(self._plan.values()))
        give_up = start + last + self.timeout_seconds + 1 + SKEW_SECONDS + LATEST_SECONDS + 10
        report_at = start
        while time.monotonic() < give_up:
            open_now, ends = self._progress(stack)
            sent = sum(map(len, self._sent.values()))
            if time.monotonic() >= report_at:
                report_at += max(REPORT_SECONDS, last / 20)
                screen.line(
                    f"{time.monotonic() - start:6.0f} s  {sent:{len(str(messages))}d} of {messages} messages sent, "
                    f"{open_now} open, {ends} ends"
                )
            if not any(thread.is_alive() for thread in threads) and not open_now:
                break
            time.sleep(0.5)
        time.sleep(1.5)  # whatever comes twice, or too much, would come

    def _progress(self, stack: Session) -> tuple[int, int]:
        """How many conversations are open as far as has been heard, and how many ends there were."""
        latest = {name: sent[-1] for name, sent in self._sent.items() if sent}
        ends = 0
        for outcome in stack.outcomes():
            name = outcome.body["conversation_id"]
            if name in self._plan and outcome.type == "ConversationEnded":
                ends += 1
                if from_wire(outcome.body["proof"]["last_activity_at"]) >= latest.get(name, math.inf):
                    del latest[name]
        return len(latest), ends

    def _judge(self, stack: Session, screen: Screen) -> list[Promise]:
        found = Findings(problems=list(self._failures))
        bodies = [outcome.body for outcome in stack.outcomes()]
        for name, sent in self._sent.items():
            about = [body for body in bodies if body["conversation_id"] == name]
            check(name, sent, about, self.timeout_seconds, found)
        gaps = found.verdicts
        screen.heading("Gaps between messages")
        screen.line(f"  {gaps['short']:5d}  shorter than the timeout: no end allowed")
        screen.line(
            f"  {gaps['long']:5d}  longer than the timeout and all that may be late: one end, one reopening"
        )
        screen.line(f"  {gaps['unclear']:5d}  too close to the timeout to call: left out")
        if found.lateness:
            marks = [
                f"{name} {percentile(found.lateness, share):.2f} s"
                for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0))
            ]
            screen.heading(f"Lateness of {found.ends} ends after their due time: {', '.join(marks)}")
            for line in histogram(found.lateness):
                screen.line(f"  {line}")
            screen.line(f"  {SKEW_SECONDS:.0f} s of each is waited on purpose: clocks may differ.")
        for text in found.problems[:20]:
            screen.line(f"  {text}", "red")
        if len(found.problems) > 20:
            screen.line(f"  and {len(found.problems) - 20} more", "red")
        sessions = list(stack.redis.scan_iter("session:replay-*"))
        schedules = stack.schedules()
        early = min(found.margins, default=0.0)
        latest = max(found.lateness, default=0.0)
        return [
            Promise(
                f"kept up: sent within {MOST_BEHIND_SECONDS:g} s of the plan (or the machine is too busy)",
                self._behind <= MOST_BEHIND_SECONDS,
                f"at most {self._behind:.2f} s behind",
            ),
            Promise(
                "every message was sent and recorded",
                not self._failures
                and all(len(sent) == len(self._plan[name]) for name, sent in self._sent.items()),
            ),
            Promise(
                "every conversation: ended for each silence, once, in order, and for nothing else",
                not found.problems,
                f"{len(self._sent)} conversations, {found.ends} ends, {found.reopenings} reopenings, "
                f"{len(found.problems)} problems",
            ),
            Promise(
                "never early",
                bool(found.margins) and early >= 0,
                f"the soonest {early:.2f} s after the timeout",
            ),
            Promise(
                f"in time: within {LATEST_SECONDS:.0f} s of the due time and its {SKEW_SECONDS:.0f} s of allowance",
                bool(found.lateness) and latest <= SKEW_SECONDS + LATEST_SECONDS,
                f"the latest {latest:.2f} s after it was due",
            ),
            Promise("no schedule is left", not schedules, f"{len(schedules)}"),
            Promise("no session is left", not sessions, f"{len(sessions)}"),
            Promise("no event has failed", failed_events(stack) == 0),
        ]
