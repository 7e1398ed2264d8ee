"""Bad input: ids, texts, numbers, dates and events that nobody sends by accident."""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from idle_timer.adapters.scheduler import schedule_name

EVENTS = Path(__file__).parents[2] / "events"
MARK = "zq9xk"  # in values that no error may repeat
MARKED_NUMBER = 8_281_717

NAUGHTY_IDS = (
    *(" ", ".", "..", "...", "\0", "\n", "\x7f\x80", "-", "_", "a/b", "a#b", "a\\b", "%00", "{}", "{conversation_id}"),
    *("😀", "👩‍👩‍👧‍👦", "e\u0301", "\u00e9", "\u202eabc\u202c", "שלום", "مرحبا", "日本", "\ufeff", "\ufffe\uffff", "\U0010ffff"),
    *("null", "true", "0", "1e999", "<aws.scheduler.scheduled-time>", "<aws.scheduler.execution-id>", "\\u003c"),
    *('"', '"}', "'", "<b>", "${x}", "$(x)", "; DROP TABLE", "hold", "sweep", "contact#1", "parked#00", "{0.__class__}"),
    *("a" * 63, "a" * 64, "a" * 65, "a" * 512, "a" * 513, "é" * 256, "😀" * 128, "😀" * 129),
    *("._" + "0" * 32, "a._" + "0" * 32, "a._" + "0" * 31, "a._" + "F" * 32, "a" * 30 + "._" + "f" * 32),
    *("\ud800", "\udfff", "a\ud83d", "\ude00\ud83d"),
)  # fmt: skip
_HOSTILE_TIMES = (
    *("1970-01-01T00:00:00Z", "1969-12-31T23:59:59.999Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999Z"),
    *("9999-12-31T23:59:59-23:59", "2026-02-29T00:00:00Z", "2028-02-29T00:00:00Z", "2026-01-31T24:00:00Z"),
    *("2026-01-31T23:59:60Z", "2026-01-31T12:00:00", "2026-01-31", "2026-01-31T12:00:00+24:00", "2026-01-31T12:00Z"),
    *("2026-01-31T12:00:00.000000001Z", "2026-01-31T12:00:00.0000000001Z", "2026-01-31t12:00:00z", "10000-01-01T00:00:00Z"),
    *("2026-01-31 12:00:00-00:00", "٢٠٢٦-٠١-٣١T١٢:٠٠:٠٠Z", "2026-01-31T12:00:00Z\n", "1769861400000", "now"),
)  # fmt: skip
_HOSTILE_DURATIONS = (
    *("P", "PT", "P1D", "P31D", "P5M", "PT5M", "PT0S", "PT-5M", "-PT5M", "PT5.5S", "P1DT", "P999999D", "PT99999999H"),
    *("PT1S", "P30D", "P30DT1S", "pt5m", "P1W", "PT٥M", "300", "5m"),
)  # fmt: skip
_HOSTILE_NUMBERS = (
    *(0, -0.0, 1, -1, 0.5, 2_592_000, 2_592_001, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63), 10**15, 10**38, 10**400),
    *(1e308, float("inf"), float("-inf"), MARKED_NUMBER, -MARKED_NUMBER, MARKED_NUMBER + 0.5),
)  # fmt: skip

any_text = st.text(st.characters(exclude_categories=()), max_size=80)  # lone surrogates, too
marked_text = st.builds(
    lambda before, after, times: (before + MARK + after) * times,
    any_text,
    any_text,
    st.sampled_from((1, 1, 9)),
)
naughty_ids = st.one_of(
    st.sampled_from(NAUGHTY_IDS),
    any_text,
    st.sampled_from([each for each in NAUGHTY_IDS if each.isprintable()]),
)


def _id_and_its_relatives(id_: str) -> SearchStrategy[list[str]]:
    """An id, and others that might end up under its name."""
    name = schedule_name(id_)
    related = [
        name,
        schedule_name(name),
        id_ + " ",
        id_[:64],
        id_[:30],
        id_.lower(),
        id_.upper(),
        name[:-1],
        f"{name}0",
    ]
    return st.lists(st.sampled_from(related), max_size=len(related)).map(lambda others: [id_, *others])


legal_ids = naughty_ids.filter(
    lambda id_: not any(0xD800 <= ord(c) < 0xE000 for c in id_) and 1 <= len(id_.encode()) <= 512
)
relatives = legal_ids.flatmap(_id_and_its_relatives)
"""Ids that are legal, or nearly: some of them alike."""

numbers: SearchStrategy[int | float] = st.one_of(
    st.integers(), st.floats(allow_nan=False), st.sampled_from(_HOSTILE_NUMBERS)
)
times = st.one_of(st.sampled_from(_HOSTILE_TIMES), st.datetimes().map(lambda time: f"{time.isoformat()}Z"))
durations = st.sampled_from(_HOSTILE_DURATIONS)
scalars = st.one_of(st.none(), st.booleans(), numbers, times, durations, naughty_ids, marked_text)


def _token(shard: str, at: object, id_: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([shard, at, id_]).encode()).decode()


tokens = st.builds(
    _token,
    st.sampled_from(("00", "03", "07", "08", "parked#00", "")),
    st.one_of(numbers, st.sampled_from((*_HOSTILE_NUMBERS, 1_769_861_400_000, "1769861400000", "x", None))),
    naughty_ids,
)
"""Where a list goes on, as nobody has answered it."""


def _fitting(key: object) -> SearchStrategy[Any]:
    """What may well be taken in this place. Not joined with other strategies: `one_of` would count each part alike."""
    name = str(key).lower()
    if name == "next":
        return tokens
    if name in ("occurred_at", "until", "since", "time") or "timestamp" in name:
        return times
    if name in ("idle_timeout", "pause_timeout", "after"):
        return st.one_of(durations, numbers)
    if name == "conversation_id":
        return naughty_ids
    return scalars


_KNOWN_KEYS = (
    *("conversation_id", "occurred_at", "sender", "idle_timeout", "stages", "session_key", "attributes", "lex"),
    *("connect_contact_id", "action", "reason", "until", "pause_timeout", "version", "source", "scheduled_for"),
    *("execution_id", "detail", "detail-type", "time", "run", "handovers", "Records", "which", "next", "limit"),
    *("since", "state", "attempts_at_least", "dry_run", "on", "body", "messageId", "requestContext", "requestPayload"),
)  # fmt: skip
keys = st.one_of(st.sampled_from(_KNOWN_KEYS), any_text)


def _containers(inner: SearchStrategy[Any]) -> SearchStrategy[Any]:
    return st.one_of(st.lists(inner, max_size=5), st.dictionaries(keys, inner, max_size=6))


anything: SearchStrategy[Any] = st.recursive(scalars, _containers, max_leaves=12)
"""Any JSON value, as Lambda's runtime reads it."""


def samples(function: str) -> list[Any]:
    """The sample events of a function, the good and the bad."""
    files = sorted([*EVENTS.glob(f"{function}*.json"), *EVENTS.glob(f"bad-{function}*.json")])
    assert files, function
    return [json.loads(file.read_text()) for file in files]


def _places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, each in inner for place in _places(each, (*at, key)))]


def _get(value: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        value = value[key]
    return value


def _set(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    if not place:
        return new
    copy = value.copy()
    copy[place[0]] = _set(value[place[0]], place[1:], new)
    return copy


_MORE: Mapping[str, Sequence[Any]] = {
    "inspect": [
        {"action": "list", "which": which, "next": _token("00", 1_769_861_400_000, "sample-now")}
        for which in ("pending", "overdue", "parked")
    ],
}


@st.composite
def mutated(draw: DrawFn, function: str) -> Any:
    """A sample event with one to four things wrong with it; now and then none."""
    known = [*samples(function), *_MORE.get(function, ())]
    event = draw(st.sampled_from(known))
    for _ in range(draw(st.sampled_from((0, 1, 1, 1, 2, 4)))):
        places = _places(event)
        telling = [each for each in places if each and _fitting(each[-1]) is not scalars] or places
        place = draw(st.sampled_from(telling if draw(st.booleans()) else places))
        kind = draw(
            st.sampled_from(
                ("value", "value", "value", "any", "gone", "more", "renamed", "wrapped", "swapped")
            )
        )
        there = _get(event, place)
        if kind == "value" and place:
            event = _set(event, place, draw(_fitting(place[-1])))
        elif kind == "any":
            event = _set(event, place, draw(anything))
        elif kind in ("gone", "renamed") and place and isinstance(place[-1], str):
            rest = {key: value for key, value in _get(event, place[:-1]).items() if key != place[-1]}
            event = _set(event, place[:-1], rest if kind == "gone" else rest | {draw(keys): there})
        elif kind == "more" and isinstance(there, dict):
            key = draw(keys)
            event = _set(
                event, place, there | {key: draw(_fitting(key) if draw(st.booleans()) else anything)}
            )
        elif kind == "wrapped":
            event = _set(event, place, [there])
        elif kind == "swapped":
            other = draw(st.sampled_from(known))
            event = _set(event, place, _get(other, draw(st.sampled_from(_places(other)))))
    return event


@st.composite
def batches(draw: DrawFn, function_arns: tuple[str, ...]) -> Any:
    """What SQS might hand to redrive: its envelope intact, anything at all inside."""
    records = []
    for number in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(("failed", "failed", "failed", "json", "text", "endless", "deep")))
        payload = draw(st.one_of(mutated("touch"), mutated("lifecycle"), mutated("cleanup"), anything))
        record: Any = payload
        if kind == "failed":
            record = {
                "timestamp": draw(st.one_of(st.just("2026-01-31T12:05:25.000Z"), scalars)),
                "requestContext": {
                    "functionArn": draw(st.sampled_from(function_arns)),
                    "condition": draw(scalars),
                },
                "requestPayload": payload,
                "responsePayload": draw(st.one_of(st.just({"errorType": "TimerNotArmedError"}), anything)),
            }
            if draw(st.booleans()):
                place = draw(st.sampled_from(_places(record)))
                record = _set(record, place, draw(anything))
        body = json.dumps(record)
        if kind == "text":
            body = draw(any_text)
        elif kind == "deep":
            depth = draw(st.sampled_from((50, 500, 900, 5_000, 40_000)))
            failed = {
                "requestContext": {"functionArn": draw(st.sampled_from(function_arns))},
                "requestPayload": 0,
            }
            body = json.dumps(failed).replace(": 0", ": " + '{"a":' * depth + "1" + "}" * depth)
        elif kind == "endless":
            body = draw(st.sampled_from(("[", '{"a":'))) * draw(
                st.sampled_from((100, 2_000, 50_000, 200_000))
            )
        sent = {"SentTimestamp": "1769861125000", "ApproximateReceiveCount": "1"}
        records.append(
            {"messageId": f"m-{number}", "receiptHandle": f"r-{number}", "body": body, "attributes": sent}
        )
    return {"Records": records}
