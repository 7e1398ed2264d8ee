"""The guard rings in time, whatever the function is doing, and never stays armed."""

import hashlib
import signal
import threading
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from idle_timer.deadline import guard, guarded
from idle_timer.errors import DeadlineError, UnguardedError


class Context:
    """Lambda's context, as far as the guard looks at it."""

    def __init__(self, remaining_ms: int) -> None:
        self._ends_at = time.monotonic() + remaining_ms / 1_000

    def get_remaining_time_in_millis(self) -> int:
        return int((self._ends_at - time.monotonic()) * 1_000)


def earlier_handler(number: int, frame: Any) -> None:
    """Somebody else's."""


@pytest.fixture(autouse=True)
def nothing_stays_armed() -> Iterator[None]:
    """After each test: no timer runs, and the handler from before is back."""
    before = signal.signal(signal.SIGALRM, earlier_handler)
    yield
    left = signal.setitimer(signal.ITIMER_REAL, 0)
    handler = signal.signal(signal.SIGALRM, before)
    assert left == (0.0, 0.0)
    assert handler is earlier_handler


def spin(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def test_a_loop_that_never_waits_is_interrupted() -> None:
    started = time.monotonic()
    with pytest.raises(DeadlineError, match="nearly used up"), guard(Context(300), margin_seconds=0.1):
        spin(5)
    assert 0.15 < time.monotonic() - started < 2


def test_a_sleeping_call_is_interrupted() -> None:
    started = time.monotonic()
    with pytest.raises(DeadlineError), guard(Context(300), margin_seconds=0.1):
        time.sleep(5)
    assert time.monotonic() - started < 2


def test_waiting_for_a_thread_is_interrupted() -> None:
    never = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(never.wait, 5)
        with pytest.raises(DeadlineError), guard(Context(200), margin_seconds=0.1):
            waiting.result()
        never.set()


def test_a_call_into_c_that_ends_late_is_interrupted_when_it_returns() -> None:
    lines: list[str] = []

    def late() -> None:
        with guard(Context(150), margin_seconds=0.1):
            hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 1_500_000)  # never looks up for signals
            lines.append("after it")

    started = time.monotonic()
    with pytest.raises(DeadlineError):
        late()
    assert time.monotonic() - started > 0.15  # it did end late
    assert lines == []


def test_nobody_in_between_takes_it_for_an_error_of_theirs() -> None:
    taken = []

    def stubborn() -> None:
        with guard(Context(150), margin_seconds=0.1):
            try:
                time.sleep(5)
            except Exception as error:  # noqa: BLE001 - as botocore does around each request
                taken.append(error)

    with pytest.raises(DeadlineError):
        stubborn()
    assert taken == []


def test_work_that_ends_in_time_is_left_alone() -> None:
    with guard(Context(10_000), margin_seconds=1) as deadline:
        assert 8.5 < deadline.remaining() <= 9
        spin(0.01)


def test_an_error_inside_goes_on_as_it_is() -> None:
    with pytest.raises(ValueError, match="mine"), guard(Context(10_000), margin_seconds=1):
        raise ValueError("mine")


def test_it_is_disarmed_before_a_return_a_break_and_a_generator_that_is_dropped() -> None:
    def returning() -> int:
        with guard(Context(10_000), margin_seconds=1):
            return 1

    def generating() -> Generator[int]:
        with guard(Context(10_000), margin_seconds=1):
            yield 1

    assert returning() == 1
    for _ in range(2):
        with guard(Context(10_000), margin_seconds=1):
            break
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    dropped = generating()
    next(dropped)
    dropped.close()
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_ringing_at_the_very_end_leaves_nothing_armed_either() -> None:
    """Many blocks that end just as the alarm rings: each way out is met, before, in and after the end of the block."""
    rang = 0
    for step in range(300):
        try:
            with guard(Context(1_000), margin_seconds=0.988) as deadline:
                spin(deadline.remaining() - 0.0005 + step % 20 * 0.00005)
        except DeadlineError:
            rang += 1
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
        assert signal.getsignal(signal.SIGALRM) is earlier_handler
    assert 0 < rang < 300


def test_an_alarm_while_the_block_ends_by_itself_disarms_and_says_nothing() -> None:
    """The moment is too short to be met at will, so the handler is called as Python would."""
    ending: Any = SimpleNamespace(f_code=guard.__exit__.__code__)
    with guard(Context(10_000), margin_seconds=1) as deadline:
        deadline._ring(signal.SIGALRM, ending)
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
        assert signal.getsignal(signal.SIGALRM) is earlier_handler


def test_it_refuses_to_start_when_nothing_is_left() -> None:
    with pytest.raises(DeadlineError, match="no time is left"), guard(Context(100), margin_seconds=0.1):
        pytest.fail("it started")


def test_outside_the_main_thread_it_says_so() -> None:
    def start() -> None:
        with guard(Context(1_000), margin_seconds=0.1):
            pytest.fail("it started")

    with ThreadPoolExecutor(1) as pool, pytest.raises(UnguardedError, match="main thread"):
        pool.submit(start).result()


def test_without_a_lambda_context_it_says_so() -> None:
    nothing: Any = None
    with pytest.raises(UnguardedError, match="Lambda's context"):
        guard(nothing, margin_seconds=0.1)


def test_a_timer_that_ran_before_goes_on_with_the_time_it_had_left() -> None:
    signal.setitimer(signal.ITIMER_REAL, 10)
    with guard(Context(5_000), margin_seconds=1):
        spin(0.05)
    left, _ = signal.setitimer(signal.ITIMER_REAL, 0)
    assert 9 < left < 9.96


def test_the_inner_of_two_rings_first_and_the_outer_goes_on() -> None:
    with guard(Context(10_000), margin_seconds=1) as outer:
        with pytest.raises(DeadlineError), guard(Context(150), margin_seconds=0.1):
            spin(5)
        left, _ = signal.getitimer(signal.ITIMER_REAL)
        assert abs(left - outer.remaining()) < 0.1


def test_a_decorated_handler_fails_cleanly_and_answers_as_ever() -> None:
    @guarded(margin_seconds=0.1)
    def handler(event: Any, context: Any) -> str:
        spin(event)
        return "answer"

    assert handler(0, Context(5_000)) == "answer"
    with pytest.raises(DeadlineError):
        handler(5, Context(150))
