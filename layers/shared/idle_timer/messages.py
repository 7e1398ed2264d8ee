"""Events in, answers and outcomes out: the shapes on the wire, checked with pydantic."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from idle_timer.conversation import Conversation, Entry
from idle_timer.errors import InvalidEventError
from idle_timer.settings import MAX_STAGES, MAX_TIMEOUT_SECONDS, Stage, check_stages
from idle_timer.timestamps import format_time, parse_duration, parse_time

MAX_ATTRIBUTES_BYTES = 1_024
MAX_PROBLEMS = 10  # named in one error line
_EVENT = ConfigDict(strict=True, frozen=True, extra="forbid", hide_input_in_errors=True)


def _utf8_bytes(least: int, most: int) -> AfterValidator:
    def check(text: str) -> str:
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            raise ValueError("must not contain a lone surrogate") from None
        if not least <= size <= most:
            raise ValueError(f"must be {least} to {most} bytes long in UTF-8")
        return text

    return AfterValidator(check)


def _small(attributes: dict[str, str]) -> dict[str, str]:
    if (
        sum(len(key.encode()) + len(value.encode()) for key, value in attributes.items())
        > MAX_ATTRIBUTES_BYTES
    ):
        raise ValueError("must be at most 1 KB in all")
    return attributes


Time = Annotated[int, BeforeValidator(parse_time)]
Timeout = Annotated[int, BeforeValidator(parse_duration), Field(ge=0, le=MAX_TIMEOUT_SECONDS)]
ConversationId = Annotated[str, _utf8_bytes(1, 512)]
Text = Annotated[str, _utf8_bytes(1, 256)]
Stages = Annotated[
    tuple[Stage, ...], Field(max_length=MAX_STAGES, strict=False), AfterValidator(check_stages)
]
Attributes = Annotated[
    dict[
        Annotated[str, Field(min_length=1, max_length=64), _utf8_bytes(1, 256)],
        Annotated[str, Field(max_length=256), _utf8_bytes(0, MAX_ATTRIBUTES_BYTES)],
    ],
    Field(max_length=10),
    AfterValidator(_small),
]


class LexSession(BaseModel):
    """Amazon Lex V2's own names and limits: https://docs.aws.amazon.com/lexv2/latest/APIReference/API_runtime_DeleteSession.html"""

    model_config = _EVENT

    bot_id: Annotated[str, Field(pattern=r"^[0-9a-zA-Z]{10}$")]
    bot_alias_id: Annotated[str, Field(pattern=r"^[0-9a-zA-Z]{10}$")]
    locale_id: Annotated[str, Field(pattern=r"^[0-9A-Za-z_]{2,16}$")]  # es_419 is one
    session_id: Annotated[str, Field(pattern=r"^[0-9a-zA-Z._:-]{2,100}$")]


class TouchEvent(BaseModel):
    """A message in a conversation, whoever sent it."""

    model_config = _EVENT

    conversation_id: ConversationId
    occurred_at: Time | None = None
    sender: Literal["customer", "bot", "agent"] | None = None
    idle_timeout: Timeout | None = None
    stages: Stages | None = None
    session_key: Annotated[str, _utf8_bytes(1, 512)] | None = None
    attributes: Attributes | None = None
    lex: LexSession | None = None
    connect_contact_id: Annotated[str, Field(pattern=r"^[0-9a-zA-Z-]{1,256}$")] | None = None

    def changes(self) -> dict[str, Any]:
        """The policy fields that the event brings, by Conversation field name. A null timeout or stages: the stack's."""
        given = {
            "idle_timeout_seconds": self.idle_timeout,
            "stages": self.stages,
            "session_key": self.session_key,
            "attributes": self.attributes,
            "lex": self.lex.model_dump() if self.lex else None,
            "connect_contact_id": self.connect_contact_id,
        }
        nullable = {
            field
            for field, name in (("idle_timeout_seconds", "idle_timeout"), ("stages", "stages"))
            if name in self.model_fields_set
        }
        return {field: value for field, value in given.items() if value is not None or field in nullable}


EVENT_NAMES = {"idle_timeout_seconds": "idle_timeout"}
"""Conversation field -> the event's field, where they differ."""


class LifecycleEvent(BaseModel):
    """Something that happened to the whole conversation."""

    model_config = _EVENT

    action: Literal["pause", "resume", "end", "extend"]
    conversation_id: ConversationId
    occurred_at: Time | None = None
    reason: Annotated[str, Field(pattern=r"^[a-z_]{1,64}$")] | None = None
    until: Time | None = None
    pause_timeout: Timeout | None = None

    @model_validator(mode="after")
    def _fields_fit_the_action(self) -> Self:
        for name, action in (("reason", "end"), ("until", "extend"), ("pause_timeout", "pause")):
            if name in self.model_fields_set and self.action != action:
                raise ValueError(f"{name}: only goes with action {action}")
        if self.action == "extend" and self.until is None:
            raise ValueError("until: is needed for action extend")
        return self


class CleanupEvent(BaseModel):
    """Look at this conversation now. Nothing in it is trusted but the id: the item is the truth."""

    model_config = _EVENT

    version: Literal[1]
    conversation_id: ConversationId
    scheduled_for: Text | None = None
    execution_id: Text | None = None
    source: Literal["schedule", "sweep", "redrive", "outbox"]


def parse[Event: BaseModel](model: type[Event], event: object) -> Event:
    """Check an event.

    Raises InvalidEventError with one line that names each field and its problem, and no value.
    """
    try:
        return model.model_validate(event)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
    problems = [_problem(problem["loc"], problem["type"], problem["msg"]) for problem in found[:MAX_PROBLEMS]]
    if len(found) > MAX_PROBLEMS:
        problems.append(f"and {len(found) - MAX_PROBLEMS} more")
    raise InvalidEventError(f"invalid event: {'; '.join(problems)}")


_PLAIN_WORDS = {
    "missing": "is needed",
    "extra_forbidden": "is not a known field",
    "model_type": "must be a JSON object",
    "string_type": "must be a string",
    "string_unicode": "must not contain a lone surrogate",
    "dict_type": "must be a JSON object",
}


def _problem(location: tuple[int | str, ...], kind: str, message: str) -> str:
    # A name can come from the event too: at most so much of it, and only what can be printed.
    parts = [part if isinstance(part, str) else str(part) for part in location if part != "[key]"]
    name = ".".join(
        "".join(c if c.isprintable() and not 0xD800 <= ord(c) < 0xE000 else "?" for c in part[:64])
        for part in parts
    )
    text = _PLAIN_WORDS.get(kind, message.removeprefix("Value error, "))
    return f"{name}: {text}" if name else (f"event: {text}" if ": " not in text else text)


# --- answers ---------------------------------------------------------------------------------------------------------


def answer(
    conversation_id: str | None,
    conversation: Conversation | None,
    *,
    result: str,
    timer: str,
    due_at: int | None,
    ignored: tuple[str, ...] = (),
) -> dict[str, Any]:
    """What touch and lifecycle answer. `due_at`: epoch ms of the next warning or the end; None = never.

    Touch adds `"session": "restoring"` when it reopens a conversation within the life of its session's tombstone: the
    session comes back moments later, unless a new one already stands in its place. A contact event that is ignored
    gets the result `unknown`, and no conversation.
    """
    return {
        "conversation_id": conversation_id,
        "state": conversation and conversation.state,
        "generation": conversation and conversation.generation,
        "opening_id": conversation and conversation.opening_id,
        "last_activity_at": conversation and format_time(conversation.last_activity_at),
        "due_at": None if due_at is None else format_time(due_at),
        "result": result,
        "timer": timer,
        "ignored": sorted(EVENT_NAMES.get(name, name) for name in ignored),
    }


# --- outcomes --------------------------------------------------------------------------------------------------------

_TIMES = ("last_activity_at", "due_at", "fired_at", "decided_at", "ends_at")
# DynamoDB keeps no order within a map, and no 0.0 apart from 0; a repeated outcome is the same word for word.
_SECONDS = ("gap_seconds", "hold_credit_seconds", "lateness_seconds")
_FACTS = ("generation", "reason", "stage", "ends_at", "gap_seconds", "previous_end_reason")
_PROOF = (
    "last_activity_at",
    "idle_timeout_seconds",
    "hold_credit_seconds",
    "due_at",
    "scheduled_for",
    "fired_at",
    "decided_at",
    "lateness_seconds",
    "source",
)


def outcome(conversation_id: str, entry: Entry) -> dict[str, Any]:
    """An outbox entry of an outcome -> the outcome as consumers get it (also what the end hook is given)."""
    body = entry.body
    wire: dict[str, Any] = {
        "id": f"{entry.opening_id}-{entry.seq}",
        "seq": entry.seq,
        "type": body["type"],
        "schema_version": 1,
        "occurred_at": format_time(body["occurred_at"]),
        "conversation_id": conversation_id,
        "opening_id": entry.opening_id,
        "attributes": dict(sorted(body.get("attributes", {}).items())),
        **_wire(body, _FACTS),
    }
    if "proof" in body:
        wire["proof"] = _wire(body["proof"], _PROOF)
    return wire


def _wire(facts: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    given = {name: facts[name] for name in names if name in facts}
    times = {name: format_time(given[name]) for name in _TIMES if name in given}
    seconds = {name: float(given[name]) for name in _SECONDS if name in given}
    return given | times | seconds


_SENTENCES = {
    "ConversationOpened": "Conversation {conversation_id} was opened.",
    "ConversationWarned": "Conversation {conversation_id} is silent: warning {stage} is due.",
    "ConversationEnded": "Conversation {conversation_id} ended ({reason}).",
    "ConversationReopened": "Conversation {conversation_id} was reopened by a new message.",
    "ConversationPaused": "Conversation {conversation_id} is paused: a person has it.",
    "ConversationResumed": "Conversation {conversation_id} is back from its pause.",
    "ConversationEndFailed": "Conversation {conversation_id} could not be ended and was parked: a person has to look.",
}


def sentence(outcome: Mapping[str, Any]) -> str:
    """The outcome for people (e-mail, SMS): what happened, and the proof in a line each."""
    first = _SENTENCES[outcome["type"]].format_map(outcome)
    proof = [f"  {name}: {value}" for name, value in outcome.get("proof", {}).items()]
    return "\n".join([first, *(["", "Why:", *proof] if proof else []), "", f"Outcome id: {outcome['id']}"])


def end_check(conversation: Conversation, due_at: int) -> dict[str, Any]:
    """What the caller's end check is asked: may this conversation end?"""
    return {
        "conversation_id": conversation.conversation_id,
        "opening_id": conversation.opening_id,
        "generation": conversation.generation,
        "state": conversation.state,
        "last_activity_at": format_time(conversation.last_activity_at),
        "due_at": format_time(due_at),
        "attributes": dict(conversation.attributes),
    }
