"""Times and durations at the border: what is read, what is refused, and that nothing is lost in between."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idle_timer.timestamps import ceil_to, floor_to, format_time, parse_duration, parse_time

NOON = 1_769_860_800_000
YEAR_9999 = 253_402_300_799_999


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("2026-01-31T12:00:00Z", NOON),
        ("2026-01-31t12:00:00z", NOON),
        ("2026-01-31 12:00:00.000+00:00", NOON),
        ("2026-01-31T14:30:00+02:30", NOON),
        ("2026-01-30T23:00:00.25-13:00", NOON + 250),
        ("2026-01-31T12:00:00.1239999Z", NOON + 123),
        ("2026-01-31T12:00:00.999999999Z", NOON + 999),
        ("1970-01-01T00:00:00Z", 0),
    ],
)
def test_rfc3339_in_any_zone_is_read_as_utc_milliseconds(text: str, milliseconds: int) -> None:
    assert parse_time(text) == milliseconds


@pytest.mark.parametrize(
    "value",
    [
        "2026-01-31T12:00:00",
        "2026-01-31",
        "2026-02-30T12:00:00Z",
        "2026-01-31T12:00:60Z",
        "2026-01-31T12:00:00+25:00",
        "0000-01-31T12:00:00Z",
        "1969-12-31T23:59:59.999Z",
        "9999-12-31T23:59:59.000-00:01",
        "1970-01-01T00:59:00+01:00",
        "٢٠٢٦-01-31T12:00:00Z",
        " 2026-01-31T12:00:00Z",
        "2026-01-31T12:00:00Z\n",
        "",
        NOON,
        None,
        True,
    ],
)
def test_anything_but_an_existing_time_with_a_zone_is_refused_without_repeating_it(value: object) -> None:
    with pytest.raises(ValueError, match=r"must|exists") as caught:
        parse_time(value)
    assert value == "" or str(value).strip() not in str(caught.value).replace("2026-01-31T12:00:00.000Z", "")


@given(st.integers(0, YEAR_9999))
def test_a_formatted_time_is_read_back_to_the_millisecond(milliseconds: int) -> None:
    assert parse_time(format_time(milliseconds)) == milliseconds


def test_times_are_written_in_utc_with_milliseconds() -> None:
    assert format_time(NOON + 7) == "2026-01-31T12:00:00.007Z"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("PT5M", 300),
        ("P1DT2H3M4S", 93_784),
        ("P30D", 2_592_000),
        ("PT0S", 0),
        ("PT90S", 90),
        (300, 300),
        (0, 0),
    ],
)
def test_durations_are_whole_seconds_or_iso8601(value: object, seconds: int) -> None:
    assert parse_duration(value) == seconds


@pytest.mark.parametrize(
    "value",
    ["P5M", "P1Y", "PT", "P", "pt5m", "PT5.5S", "-PT5M", "PT٥M", "300", "", 300.0, True, None, ["PT5M"]],
)
def test_a_duration_without_a_fixed_length_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="must be whole seconds or an ISO 8601 duration"):
        parse_duration(value)


@given(st.integers(-(10**15), 10**15), st.integers(1, 10**6))
def test_rounding_never_leaves_the_step_nor_goes_the_wrong_way(value: int, step: int) -> None:
    up, down = ceil_to(value, step), floor_to(value, step)
    assert up % step == down % step == 0
    assert value - step < down <= value <= up < value + step
