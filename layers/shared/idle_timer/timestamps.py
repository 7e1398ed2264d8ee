"""Time on the wire and in store: RFC 3339 with a zone outside, integer epoch milliseconds (UTC) inside."""

import re
from datetime import UTC, datetime, timedelta

SECOND_MS = 1_000
MINUTE_MS = 60_000

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_DURATION = re.compile(r"P(?:(\d{1,6})D)?(?:T(?:(\d{1,8})H)?(?:(\d{1,8})M)?(?:(\d{1,8})S)?)?", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MS = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z


def parse_time(text: object) -> int:
    """RFC 3339 with a zone -> epoch milliseconds, fractions of a millisecond cut off.

    Raises ValueError with a text for people, without the value.
    """
    if not isinstance(text, str) or not _RFC3339.fullmatch(text):
        raise ValueError("must be an RFC 3339 time with a zone, like 2026-01-31T12:00:00.000Z")
    try:
        since_epoch = datetime.fromisoformat(text.upper()) - _EPOCH
    except (ValueError, OverflowError):
        raise ValueError("is not a time that exists") from None
    milliseconds = (
        since_epoch.days * 86_400_000 + since_epoch.seconds * 1_000 + since_epoch.microseconds // 1_000
    )
    if milliseconds < 0:
        raise ValueError("must not be before 1970")
    if milliseconds > _LAST_MS:
        raise ValueError("is not a time that exists")  # in UTC: it could not be formatted again
    return milliseconds


def format_time(milliseconds: int) -> str:
    """Epoch milliseconds -> RFC 3339 in UTC with milliseconds and Z."""
    at = _EPOCH + timedelta(milliseconds=milliseconds)
    return f"{at.isoformat(timespec='milliseconds')[:-6]}Z"  # without +00:00


def parse_duration(value: object) -> int:
    """Whole seconds, as a number or ISO 8601 (`PT5M`, `P1DT2H`) -> seconds.

    Years and months have no fixed length, so `P5M` (five months, where five minutes were meant) is refused.
    Raises ValueError with a text for people, without the value.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None or not any(found.groups()):
        raise ValueError(
            "must be whole seconds or an ISO 8601 duration of days, hours, minutes, seconds, like PT5M"
        )
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def ceil_to(value: int, step: int) -> int:
    """The smallest multiple of `step` that is not below `value`."""
    return -(-value // step) * step


def floor_to(value: int, step: int) -> int:
    """The largest multiple of `step` that is not above `value`."""
    return value // step * step
