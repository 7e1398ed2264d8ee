"""Bad input: a few cases of each property at every run of the tests; `make prove` takes thousands."""

from typing import Any

import pytest

from idle_timer import bootstrap, edge
from idle_timer.errors import InvalidEventError
from tests.prove import fuzz, strategies

EXAMPLES = 20


@pytest.mark.parametrize("name", fuzz.PROPERTIES)
def test_bad_input_is_answered_or_refused_and_then_changes_nothing(name: str) -> None:
    assert fuzz.fuzz(name, EXAMPLES, seed=1) >= EXAMPLES / 2


@pytest.mark.parametrize(
    "function", sorted({*fuzz.HANDLERS} - {"redrive"})
)  # whose malformed events are parked
def test_samples_are_taken_and_bad_samples_refused(function: str) -> None:
    verdicts = [fuzz.survives(function, event) for event in strategies.samples(function)]
    assert True in verdicts
    assert False in verdicts


def test_a_value_in_an_error_is_noticed() -> None:
    with pytest.raises(AssertionError, match="repeats"):
        fuzz.tells_no_value("invalid event: sender: not robot-17", {"sender": "robot-17"})


def test_a_change_by_a_refused_event_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def handler(event: Any, context: Any) -> dict[str, Any]:
        bootstrap.timer().timers.store.link_contact("c", "id", 1)
        raise InvalidEventError("invalid event: no")

    monkeypatch.setattr(fuzz, "HANDLERS", {**fuzz.HANDLERS, "touch": edge.handler(handler)})
    with pytest.raises(AssertionError, match="has changed something"):
        fuzz.survives("touch", {})
