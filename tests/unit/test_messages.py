"""Events in and outcomes out: what is refused, in which words, and the shapes that consumers rely on."""

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from idle_timer.conversation import Conversation, Entry
from idle_timer.errors import InvalidEventError
from idle_timer.messages import CleanupEvent, LifecycleEvent, TouchEvent, answer, outcome, parse, sentence
from idle_timer.settings import Stage
from tests.fakes.system import NOON

LEX = {"bot_id": "BOT1234567", "bot_alias_id": "ALIAS12345", "locale_id": "en_US", "session_id": "s-1"}
SECRET = "s3cr3t"  # noqa: S105 - stands for whatever must not be repeated


def touch_event(**fields: Any) -> TouchEvent:
    return parse(TouchEvent, {"conversation_id": "c-1", **fields})


@pytest.mark.parametrize(
    "conversation_id", ["c", "é" * 256, "😀" * 128, "日本 \u202e<b>\n", "e\u0301", "\0", "..", "a/b#hold"]
)
def test_any_unicode_id_of_up_to_512_bytes_is_taken_as_it_is(conversation_id: str) -> None:
    assert touch_event(conversation_id=conversation_id).conversation_id == conversation_id


def test_a_full_event_brings_its_policy_under_the_conversations_names() -> None:
    event = touch_event(
        occurred_at="2026-01-01T13:00:00+01:00",
        sender="bot",
        idle_timeout="PT10M",
        stages=[{"name": "still_there", "after": "PT2M"}],
        session_key="session-1",
        attributes={"channel": "web"},
        lex=LEX,
        connect_contact_id="contact-1",
    )
    assert event.occurred_at == NOON
    assert event.changes() == {
        "idle_timeout_seconds": 600,
        "stages": (Stage(name="still_there", after=120),),
        "session_key": "session-1",
        "attributes": {"channel": "web"},
        "lex": LEX,
        "connect_contact_id": "contact-1",
    }


@pytest.mark.parametrize(
    ("fields", "changes"),
    [
        ({}, {}),
        ({"idle_timeout": None}, {"idle_timeout_seconds": None}),
        ({"stages": None}, {"stages": None}),
        ({"idle_timeout": 0, "stages": []}, {"idle_timeout_seconds": 0, "stages": ()}),
        ({"attributes": {}}, {"attributes": {}}),
        ({"session_key": None, "attributes": None, "lex": None, "connect_contact_id": None}, {}),
    ],
)
def test_only_a_null_timeout_or_stages_means_the_stacks(
    fields: dict[str, Any], changes: dict[str, Any]
) -> None:
    assert touch_event(**fields).changes() == changes


@pytest.mark.parametrize("locale_id", ["en_US", "es_419", "de_DE"])
def test_the_locales_of_lex_are_taken(locale_id: str) -> None:
    assert touch_event(lex=LEX | {"locale_id": locale_id}).changes()["lex"]["locale_id"] == locale_id


BAD_TOUCHES: list[tuple[str, Any]] = [
    ("conversation_id", ""),
    ("conversation_id", "é" * 256 + "x"),
    ("conversation_id", SECRET + "\ud800"),
    ("conversation_id", 17_171_717),
    ("conversation_id", None),
    ("occurred_at", SECRET),
    ("occurred_at", NOON),
    ("sender", SECRET),
    ("sender", "Customer"),
    ("idle_timeout", SECRET),
    ("idle_timeout", -17_171_717),
    ("idle_timeout", 2_592_001),
    ("idle_timeout", "P31D"),
    ("idle_timeout", True),
    ("stages", SECRET),
    ("stages.1.after", [{"name": "a", "after": 1}, {"name": "b", "after": SECRET}]),
    ("stages.0.name", [{"name": SECRET.upper(), "after": 1}]),
    ("stages.0.extra", [{"name": "a", "after": 1, "extra": SECRET}]),
    ("stages", [{"name": SECRET, "after": 2}, {"name": "b", "after": 2}]),
    ("stages", [{"name": SECRET, "after": 1}, {"name": SECRET, "after": 2}]),
    ("stages", [{"name": name, "after": after} for after, name in enumerate("abcd", 1)]),
    ("session_key", ""),
    ("session_key", "k" * 513),
    ("attributes", SECRET),
    ("attributes", {str(number): SECRET for number in range(11)}),
    ("attributes", {str(number): "v" * 200 for number in range(6)}),
    ("attributes.key", {"key": 17_171_717}),
    ("attributes.key", {"key": SECRET + "v" * 256}),
    ("attributes.", {"": SECRET}),
    ("attributes.kkkk", {"k" * 65: SECRET}),
    ("lex", SECRET),
    ("lex.bot_id", LEX | {"bot_id": SECRET}),
    ("lex.session_id", {name: value for name, value in LEX.items() if name != "session_id"}),
    ("connect_contact_id", f"{SECRET} "),
    ("unknown", SECRET),
]


@pytest.mark.parametrize(("field", "value"), BAD_TOUCHES)
def test_a_bad_field_is_named_and_its_value_never_repeated(field: str, value: Any) -> None:
    with pytest.raises(InvalidEventError) as caught:
        touch_event(**{field.split(".")[0]: value})
    message = str(caught.value)
    assert message.startswith(f"invalid event: {field}")
    assert ";" not in message, "one problem, told once"
    assert SECRET not in message.lower()
    assert "17171717" not in message


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"action": "close"}, "action"),
        ({"action": "extend"}, "until"),
        ({"action": "extend", "until": "2026-01-01T12:00:00"}, "until"),
        ({"action": "extend", "until": "2026-01-01T12:00:00Z", "pause_timeout": 1}, "pause_timeout"),
        ({"action": "pause", "until": "2026-01-01T12:00:00Z"}, "until"),
        ({"action": "pause", "pause_timeout": "P31D"}, "pause_timeout"),
        ({"action": "resume", "reason": "agent_ended"}, "reason"),
        ({"action": "end", "reason": "Agent"}, "reason"),
        ({"action": "end", "reason": "a" * 65}, "reason"),
        ({"action": "end", "reason": "agent_ended\n"}, "reason"),
    ],
)
def test_a_lifecycle_field_that_does_not_fit_its_action_is_named(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidEventError, match=rf"^invalid event: {named}: "):
        parse(LifecycleEvent, {"conversation_id": "c-1", **fields})


@pytest.mark.parametrize("event", [None, [], "text", 17_171_717, [["conversation_id", SECRET]]])
@pytest.mark.parametrize("model", [TouchEvent, LifecycleEvent, CleanupEvent])
def test_an_event_that_is_no_object_is_refused(model: type[BaseModel], event: object) -> None:
    with pytest.raises(InvalidEventError, match=r"^invalid event: event: must be a JSON object$"):
        parse(model, event)


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.just(SECRET)
    | st.just(SECRET + "\ud800"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "after", "k"]), inner)
    ),
    max_leaves=5,
)
FIELD_NAMES = st.sampled_from([*TouchEvent.model_fields, *LifecycleEvent.model_fields, "nobody_knows"])


@given(st.sampled_from([TouchEvent, LifecycleEvent, CleanupEvent]), st.dictionaries(FIELD_NAMES, JSON_VALUES))
def test_whatever_is_wrong_the_error_is_one_line_that_names_fields_only(
    model: type[BaseModel], event: dict[str, Any]
) -> None:
    try:
        parse(model, event)
    except InvalidEventError as error:
        message = str(error)
        assert SECRET not in message
        assert message.isprintable()
        for problem in message.removeprefix("invalid event: ").split("; "):
            named = problem.split(": ")[0].split(".")[0]
            assert named in {*model.model_fields, *event} or problem.startswith("and ")


@given(st.text(min_size=1, max_size=300, alphabet=st.characters(exclude_categories=[])))
def test_an_unknown_fields_name_is_shown_short_and_printable(name: str) -> None:
    if name in TouchEvent.model_fields:
        return
    with pytest.raises(InvalidEventError) as caught:
        touch_event(**{name: SECRET})
    message = str(caught.value)
    assert message.endswith((": is not a known field", ": must not contain a lone surrogate"))
    assert len(message) < 64 + 80


def test_many_problems_are_told_in_a_short_line() -> None:
    with pytest.raises(InvalidEventError) as caught:
        touch_event(**{f"{letter}{number}": 1 for letter in string.ascii_letters for number in range(10)})
    assert str(caught.value).endswith("and 510 more")
    assert len(str(caught.value)) < 600


def test_an_answer_writes_times_in_utc_and_names_ignored_fields_as_the_event_does() -> None:
    conversation = Conversation(
        conversation_id="c-1", opening_id="o-1", opened_at=NOON, last_activity_at=NOON + 1, state_since=NOON
    )
    ignored = ("stages", "idle_timeout_seconds")
    assert answer(
        "c-1", conversation, result="repeat", timer="updated", due_at=NOON + 300_000, ignored=ignored
    ) == {
        "conversation_id": "c-1",
        "state": "active",
        "generation": 1,
        "opening_id": "o-1",
        "last_activity_at": "2026-01-01T12:00:00.001Z",
        "due_at": "2026-01-01T12:05:00.000Z",
        "result": "repeat",
        "timer": "updated",
        "ignored": ["idle_timeout", "stages"],
    }


def test_an_answer_about_an_unknown_conversation_has_nothing_but_nulls() -> None:
    told = answer("c-1", None, result="unknown", timer="none", due_at=None)
    assert {name for name, value in told.items() if value is None} == {
        "state",
        "generation",
        "opening_id",
        "last_activity_at",
        "due_at",
    }


def test_an_outcome_is_written_as_the_contract_says() -> None:
    proof = {
        "last_activity_at": NOON,
        "due_at": NOON + 120_000,
        "fired_at": NOON + 120_500,
        "decided_at": NOON + 120_501,
    }
    body = {
        "type": "ConversationWarned",
        "occurred_at": NOON + 120_501,
        "generation": 2,
        "stage": "still_there",
        "ends_at": NOON + 300_000,
        "proof": proof | {"lateness_seconds": 0.501, "source": "schedule"},
    }
    told = outcome("c-1", Entry("outcome", "o-1", 4, body))
    assert told == {
        "id": "o-1-4",
        "seq": 4,
        "type": "ConversationWarned",
        "schema_version": 1,
        "occurred_at": "2026-01-01T12:02:00.501Z",
        "conversation_id": "c-1",
        "opening_id": "o-1",
        "generation": 2,
        "attributes": {},
        "stage": "still_there",
        "ends_at": "2026-01-01T12:05:00.000Z",
        "proof": {
            "last_activity_at": "2026-01-01T12:00:00.000Z",
            "due_at": "2026-01-01T12:02:00.000Z",
            "fired_at": "2026-01-01T12:02:00.500Z",
            "decided_at": "2026-01-01T12:02:00.501Z",
            "lateness_seconds": 0.501,
            "source": "schedule",
        },
    }
    assert body["type"] == "ConversationWarned", "the entry itself stays as it is stored"


@pytest.mark.parametrize(
    ("kind", "facts", "words"),
    [
        ("ConversationOpened", {}, "was opened"),
        ("ConversationWarned", {"stage": "still_there"}, "still_there"),
        ("ConversationEnded", {"reason": "idle_timeout"}, "ended (idle_timeout)"),
        ("ConversationReopened", {}, "reopened"),
        ("ConversationPaused", {}, "paused"),
        ("ConversationResumed", {}, "back"),
        ("ConversationEndFailed", {"reason": "max_attempts"}, "parked"),
    ],
)
def test_every_outcome_has_a_sentence_for_people(kind: str, facts: dict[str, str], words: str) -> None:
    entry = Entry(
        "outcome", "o-1", 1, {"type": kind, "occurred_at": NOON, "proof": {"due_at": NOON}, **facts}
    )
    told = sentence(outcome("c-{x}", entry))
    assert told.startswith("Conversation c-{x} ")
    assert words in told
    assert "due_at: 2026-01-01T12:00:00.000Z" in told
    assert told.endswith("Outcome id: o-1-1")
