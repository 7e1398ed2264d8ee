"""What the service promises about an end, checked from outside: times are computed again here, from what was sent."""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

SKEW_SECONDS = 1.0  # the stack's clock skew allowance: waited for after the due time, by design
LATEST_SECONDS = 3.0  # after that; the schedule's rounding up to a whole second is part of it


@dataclass(frozen=True)
class Promise:
    """Something that the run has shown, or not."""

    text: str
    kept: bool
    figures: str = ""


def now_ms() -> int:
    """Epoch milliseconds."""
    return time.time_ns() // 1_000_000


def to_wire(milliseconds: int) -> str:
    """Epoch milliseconds -> RFC 3339."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")


def from_wire(text: str) -> int:
    """RFC 3339 -> epoch milliseconds."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def due_ms(since: int, timeout_seconds: int) -> int:
    """When a silence that began then (epoch ms) is over: rounded up to a whole second."""
    return -(-(since + timeout_seconds * 1000) // 1000) * 1000


def lateness_seconds(end: Mapping[str, Any], due: int) -> float:
    """From the due time (epoch ms) to the decision to end."""
    return (from_wire(end["proof"]["decided_at"]) - due) / 1000


def margin_seconds(end: Mapping[str, Any], last_activity: int, timeout_seconds: int) -> float:
    """How long after the whole timeout it was ended; below zero: early."""
    return (from_wire(end["proof"]["decided_at"]) - last_activity) / 1000 - timeout_seconds


def note_failing_threads() -> list[str]:
    """What ends a thread from now on is noted in this list, and no longer printed."""
    noted: list[str] = []

    def note(failure: threading.ExceptHookArgs) -> None:
        name = failure.thread.name if failure.thread else "a thread"
        noted.append(f"{name}: {failure.exc_type.__name__}: {failure.exc_value}")

    threading.excepthook = note
    return noted
