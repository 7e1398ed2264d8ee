"""The Lambda's own deadline, watched: an alarm (SIGALRM) rings shortly before Lambda would kill the function.

    with guard(context, margin_seconds=5) as deadline:
        ...            # whatever all records of this invocation need
    # DeadlineError leaves the block `margin_seconds` before the end: time to save, report, hand over

    @guarded(margin_seconds=3)
    def handler(event, context): ...

The alarm interrupts Python code and waiting calls alike; a call into C that does not look up in between is interrupted
when it returns. `except Exception` inside the block does not catch it: botocore and urllib3 would take it for a network
error and try again. Only the block's own end turns it into DeadlineError.
"""

import functools
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Protocol, Self

from idle_timer.errors import DeadlineError, UnguardedError

_LEAST_SECONDS = 0.01  # below this there is no point in starting
_SOON_SECONDS = 0.001  # for an earlier timer whose moment passed meanwhile: 0 would switch it off


class LambdaContext(Protocol):
    """The part of Lambda's context that tells the time that is left."""

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda kills the function."""


class _Alarm(BaseException):
    """Rings inside the block. Not an Exception, so that nobody in between takes it for one of theirs."""


class guard:  # noqa: N801 - used like a function
    """Context manager: DeadlineError leaves the block `margin_seconds` before the Lambda's end.

    Refuses to start (DeadlineError) when nothing is left; raises UnguardedError outside the main thread, where Python
    delivers no signals, and without a Lambda context. Whatever handler and timer were there before are put back.
    """

    def __init__(self, context: LambdaContext, margin_seconds: float) -> None:
        if not callable(getattr(context, "get_remaining_time_in_millis", None)):
            raise UnguardedError(
                "the deadline guard needs Lambda's context, which knows the time that is left"
            )
        self._ends_at = time.monotonic() + context.get_remaining_time_in_millis() / 1_000
        self._margin_seconds = margin_seconds
        self._armed = False
        self._handler_before: Any = None
        self._timer_before = (0.0, 0.0)
        self._started_at = 0.0

    def remaining(self) -> float:
        """Seconds until the alarm rings; not above 0: it has rung."""
        return self._ends_at - self._margin_seconds - time.monotonic()

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            raise UnguardedError("the deadline guard only works in the main thread: no other gets signals")
        if self.remaining() < _LEAST_SECONDS:
            raise DeadlineError("no time is left to start with")
        self._started_at = time.monotonic()
        self._timer_before = signal.setitimer(signal.ITIMER_REAL, 0)
        self._handler_before = signal.signal(signal.SIGALRM, self._ring)
        self._armed = True
        signal.setitimer(signal.ITIMER_REAL, max(self.remaining(), _SOON_SECONDS))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._disarm()
        if isinstance(error, _Alarm):
            raise DeadlineError("the time that Lambda gave is nearly used up") from error

    def _ring(self, _number: int, frame: FrameType | None) -> None:
        self._disarm()
        interrupted = frame and frame.f_code
        if interrupted in (guard.__exit__.__code__, guard._disarm.__code__):
            return  # the block has just ended by itself
        if interrupted is guard.__enter__.__code__:
            raise DeadlineError("no time is left to start with")
        raise _Alarm

    def _disarm(self) -> None:
        if not self._armed:
            return
        signal.setitimer(signal.ITIMER_REAL, 0)
        # Before it changes a handler, Python runs the one of a signal that has come in: `_ring`, at the latest here.
        signal.signal(signal.SIGALRM, self._handler_before)
        self._armed = False
        remaining, interval = self._timer_before
        if remaining:
            passed = time.monotonic() - self._started_at
            signal.setitimer(signal.ITIMER_REAL, max(remaining - passed, _SOON_SECONDS), interval)


def guarded[Answer](
    *, margin_seconds: float
) -> Callable[[Callable[[Any, Any], Answer]], Callable[[Any, Any], Answer]]:
    """Decorate a Lambda handler: the whole of it runs under `guard`."""

    def decorate(function: Callable[[Any, Any], Answer]) -> Callable[[Any, Any], Answer]:
        @functools.wraps(function)
        def handle(event: Any, context: Any) -> Answer:
            with guard(context, margin_seconds):
                return function(event, context)

        return handle

    return decorate
