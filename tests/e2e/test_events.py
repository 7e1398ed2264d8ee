"""Every sample event on the deployed stack: what is good is answered, what is bad is refused with its line."""

from collections.abc import Iterator

import pytest

from tests.local.stack import FunctionError, LocalStack
from tests.unit.test_events import REFUSED, event, names


def function_of(name: str) -> str:
    return name.removeprefix("bad-").partition("-")[0]


@pytest.fixture(autouse=True)
def no_hold_left(stack: LocalStack) -> Iterator[None]:
    """A hold that a sample opens must not keep other tests' conversations from ending."""
    yield
    stack.invoke("inspect", event("inspect-hold-off"))


@pytest.mark.parametrize("name", names(bad=False))
def test_a_sample_is_answered(stack: LocalStack, name: str) -> None:
    assert isinstance(stack.invoke(function_of(name), event(name)), dict)


@pytest.mark.parametrize("name", names(bad=True))
def test_a_bad_sample_is_refused_with_its_line(stack: LocalStack, name: str) -> None:
    with pytest.raises(FunctionError) as refused:
        stack.invoke(function_of(name), event(name))
    assert (refused.value.type, refused.value.message) == (
        "InvalidEventError",
        f"invalid event: {REFUSED[name]}",
    )


def test_the_samples_of_one_conversation_fit_together(stack: LocalStack) -> None:
    stack.invoke("inspect", {"action": "forget", "conversation_id": event("touch-repeat")["conversation_id"]})
    story = (
        ("touch-repeat", "opened", "active"),
        ("touch-repeat", "repeat", "active"),
        ("lifecycle-end", "applied", "ended"),
        ("lifecycle-end", "repeat", "ended"),
        ("touch-repeat", "stale", "ended"),
    )
    for name, result, state in story:
        answer = stack.invoke(function_of(name), event(name))
        assert (name, answer["result"], answer["state"]) == (name, result, state)


@pytest.mark.parametrize("name", ["redrive", "redrive-malformed"])
def test_the_samples_of_a_redrive_are_dealt_with(stack: LocalStack, name: str) -> None:
    assert stack.invoke("redrive", event(name)) == {"batchItemFailures": []}
