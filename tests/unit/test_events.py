"""The sample events: what `events/` holds is what the functions take, and each bad one is refused with a line that helps.

A file is named after its function, with what is special about it after a hyphen: `touch-stages.json`; `bad-` before it
says that it is refused.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from idle_timer import connect, operator_events
from idle_timer.adapters.scheduler import firing_input
from idle_timer.errors import InvalidEventError
from idle_timer.messages import CleanupEvent, TouchEvent, parse
from idle_timer.sweep import HandedOver
from tests.fakes.operations import ARN, Context, Operations

EVENTS = Path(__file__).parents[2] / "events"

PARSERS: dict[str, Callable[[Any], object]] = {
    "touch": lambda event: parse(TouchEvent, event),
    "lifecycle": connect.understand,
    "cleanup": lambda event: parse(CleanupEvent, event),
    "sweep": lambda event: parse(HandedOver, event) if event["source"] == "handover" else event["detail"],
    "redrive": lambda event: [record["messageId"] for record in event["Records"]],
    "inspect": operator_events.parse,
}

REFUSED = {
    "bad-cleanup-source": "source: Input should be 'schedule', 'sweep', 'redrive' or 'outbox'",
    "bad-cleanup-version": "version: Input should be 1",
    "bad-inspect-action": "action: must be one of status, explain, list, retry, forget, hold",
    "bad-inspect-list": (
        "since: must be an RFC 3339 time with a zone, like 2026-01-31T12:00:00.000Z; "
        "limit: Input should be less than or equal to 100; "
        "which: Input should be 'overdue', 'pending', 'failed', 'parked' or 'events'"
    ),
    "bad-inspect-retry-of-nothing": "event: give either conversation_id or which",
    "bad-lifecycle-action": "action: Input should be 'pause', 'resume', 'end' or 'extend'",
    "bad-lifecycle-connect": (
        "time: must be an RFC 3339 time with a zone, like 2026-01-31T12:00:00.000Z; detail.contactId: is needed"
    ),
    "bad-lifecycle-extend-without-until": "until: is needed for action extend",
    "bad-lifecycle-reason-of-a-pause": "reason: only goes with action end",
    "bad-sweep-handover": "run: is needed; handovers: Input should be greater than or equal to 1",
    "bad-touch-attributes-too-large": "attributes: must be at most 1 KB in all",
    "bad-touch-empty-id": "conversation_id: must be 1 to 512 bytes long in UTF-8",
    "bad-touch-id-not-text": "conversation_id: must be a string",
    "bad-touch-lone-surrogate": "conversation_id: must not contain a lone surrogate",
    "bad-touch-long-id": "conversation_id: must be 1 to 512 bytes long in UTF-8",
    "bad-touch-many": (
        "conversation_id: must be 1 to 512 bytes long in UTF-8; "
        "sender: Input should be 'customer', 'bot' or 'agent'; "
        "idle_timeout: Input should be greater than or equal to 0; "
        "text: is not a known field"
    ),
    "bad-touch-no-id": "conversation_id: is needed",
    "bad-touch-not-an-object": "event: must be a JSON object",
    "bad-touch-stages-not-increasing": "stages: stages must be strictly increasing",
    "bad-touch-time-without-zone": (
        "occurred_at: must be an RFC 3339 time with a zone, like 2026-01-31T12:00:00.000Z"
    ),
    "bad-touch-timeout-in-months": (
        "idle_timeout: must be whole seconds or an ISO 8601 duration of days, hours, minutes, seconds, like PT5M"
    ),
    "bad-touch-timeout-too-long": "idle_timeout: Input should be less than or equal to 2592000",
    "bad-touch-unknown-field": "timeout: is not a known field",
}


def names(*, bad: bool) -> list[str]:
    return sorted(file.stem for file in EVENTS.glob("*.json") if file.stem.startswith("bad-") == bad)


def event(name: str) -> Any:
    return json.loads((EVENTS / f"{name}.json").read_text())


def parser(name: str) -> Callable[[Any], object]:
    return PARSERS[name.removeprefix("bad-").partition("-")[0]]


@pytest.mark.parametrize("name", names(bad=False))
def test_a_sample_is_taken_by_its_function(name: str) -> None:
    parser(name)(event(name))


@pytest.mark.parametrize("name", names(bad=True))
def test_a_bad_sample_is_refused_with_one_line_that_names_each_problem(name: str) -> None:
    with pytest.raises(InvalidEventError) as error:
        parser(name)(event(name))
    assert str(error.value) == f"invalid event: {REFUSED[name]}"


def test_every_refusal_has_its_sample() -> None:
    assert sorted(REFUSED) == names(bad=True)


def test_there_are_samples_for_every_function() -> None:
    functions = {app.parent.name for app in EVENTS.parent.glob("functions/*/app.py")}
    assert {name.partition("-")[0] for name in names(bad=False)} >= functions


def redrive(name: str) -> Operations:
    """The sample's events, as a stack's whose functions are called so."""
    text = json.dumps(event(name)).replace(":000000000000:", f":{ARN.split(':')[4]}:")
    operations = Operations()
    assert operations.redriver.redrive(json.loads(text), Context()) == {"batchItemFailures": []}
    return operations


def test_the_sample_of_a_redrive_goes_back_to_the_functions_that_failed() -> None:
    operations = redrive("redrive")
    assert [call.function for call in operations.functions.called] == ["cleanup", "touch"]
    assert operations.queues.parked_events == []


def test_the_sample_of_a_malformed_failure_is_parked_at_once() -> None:
    operations = redrive("redrive-malformed")
    assert operations.functions.called == []
    assert [why for _, why in operations.queues.parked_events] == ["invalid_event"]


def test_the_sample_of_a_firing_has_the_shape_that_schedules_send() -> None:
    assert event("cleanup").keys() == json.loads(firing_input("sample-now")).keys()


@pytest.mark.parametrize("name", ["bad-touch-no-id", "bad-touch-many"])
def test_a_refusal_repeats_no_value(name: str) -> None:
    with pytest.raises(InvalidEventError) as error:
        parser(name)(event(name))
    assert not any(value in str(error.value) for value in ("robot", "hello", "2026-01-31T12:00:00.000Z"))
