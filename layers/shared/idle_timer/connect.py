"""Amazon Connect's contact events: what each of them means for the conversation that its contact was linked to.

Connect sends them on a best effort basis, unordered and possibly repeated, and spells their keys in more than one way:
https://docs.aws.amazon.com/connect/latest/adminguide/contact-events.html

| Event of a chat contact | What follows |
| --- | --- |
| CONNECTED_TO_AGENT | pause; a conversation that had ended before is reopened first: a person is talking to the customer |
| DISCONNECTED, COMPLETED | end at `disconnectTimestamp` (COMPLETED comes minutes later), with the reason of `REASONS` |
| any event of a contact that a transfer made | the contact before it is remembered as transferred: its end ends nothing |
| all others, other channels, a supervisor who listens in, contacts that nobody linked | ignored, and counted by cause |

PAUSED and RESUMED are ignored: Connect documents them for tasks alone, and an agent who laid a chat aside would still
be the one who has it. Taken for a hand-back, RESUMED would start the idle timer under a person's chat.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from idle_timer import messages
from idle_timer.timer import LINK_DAYS, Timer
from idle_timer.timestamps import SECOND_MS, format_time, parse_time

SOURCE = "aws.connect"

REASONS = {
    "CUSTOMER_DISCONNECT": "customer_disconnected",
    "CUSTOMER_CONNECTION_NOT_ESTABLISHED": "customer_never_connected",
    "AGENT_DISCONNECT": "agent_ended",
    "AGENT_NETWORK_DISCONNECT": "agent_connection_lost",
    "CONTACT_FLOW_DISCONNECT": "flow_ended",
    "IDLE_DISCONNECT": "participant_idle",
    "EXPIRED": "chat_expired",
    "API": "contact_stopped",
    "SYSTEM_ERROR": "contact_failed",
}
"""`disconnectReason` of a chat -> the end's reason; none or another one: contact_ended.

https://docs.aws.amazon.com/connect/latest/adminguide/ctr-data-model.html#ctr-ContactTraceRecord
"""

_ACTIONS = {"CONNECTED_TO_AGENT": "pause", "DISCONNECTED": "end", "COMPLETED": "end"}
_CHAT_GOES_ON = frozenset(
    {"BARGED", "THIRD_PARTY_DISCONNECT"}
)  # one agent left, a manager or another one stays
_TRANSFERS = frozenset({"TRANSFER", "QUEUE_TRANSFER"})  # not DISCONNECT: there the agent has ended the chat
_CONTACT_ID = re.compile(r"[0-9a-zA-Z-]{1,256}", re.ASCII)  # what touch takes: others cannot have been linked
_NOT_YET_MS = 86_400_000  # Connect's samples write 1970-01-01T00:00:00.001Z for what has not happened


@dataclass(frozen=True, slots=True, kw_only=True)
class ContactEvent:
    """A contact event, understood. `ignored`: why there is nothing to do (None: there is)."""

    contact_id: str
    at: int  # epoch ms of what happened, as exactly as the event knows it
    ignored: str | None = None
    action: str | None = None  # pause or end; None: it only tells of a transfer
    reason: str | None = None  # of an end
    initiated_at: int | None = None
    ancestors: tuple[str, ...] = ()  # the contacts that this one continues
    transferred_from: str | None = None


def lifecycle(timer: Timer, event: object) -> dict[str, Any]:
    """What the lifecycle function does. An ignored contact event is answered with the result `unknown`.

    Raises InvalidEventError, and whatever `Timer.lifecycle` raises.
    """
    understood = understand(event)
    return _apply(timer, understood) if isinstance(understood, ContactEvent) else timer.lifecycle(understood)


def understand(event: object) -> ContactEvent | messages.LifecycleEvent:
    """A contact event as EventBridge brings it, or one of the backend's own. Raises InvalidEventError."""
    if isinstance(event, Mapping) and event.get("source") == SOURCE:
        return _understand(messages.parse(_Envelope, event))
    return messages.parse(messages.LifecycleEvent, event)


# --- what an event says ----------------------------------------------------------------------------------------------


def _optional_text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


def _optional_word(value: object) -> str:
    return _optional_text(value).upper()


def _disconnect_reason(value: object) -> str:
    return _optional_word(value.get("code") or value.get("Code") if isinstance(value, Mapping) else value)


def _optional_time(value: object) -> int | None:
    try:
        time = parse_time(value)
    except ValueError:
        return None
    return time if time > _NOT_YET_MS else None


def _optional_object(value: object) -> object:
    return value if isinstance(value, Mapping) else {}


_Word = Annotated[str, BeforeValidator(_optional_word)]
_Text = Annotated[str, BeforeValidator(_optional_text)]
_Time = Annotated[int | None, BeforeValidator(_optional_time)]


class _AnyCase(BaseModel):
    """Keys in whatever case; what is not asked for is not looked at, since Connect adds to its events."""

    model_config = ConfigDict(
        strict=True, frozen=True, extra="ignore", hide_input_in_errors=True, alias_generator=to_camel
    )

    @model_validator(mode="before")
    @classmethod
    def _usual_case(cls, content: object) -> object:
        if not isinstance(content, Mapping):
            return content
        names = [field.alias or name for name, field in cls.model_fields.items()]
        usual = {name.lower(): name for name in names}
        return {usual.get(str(key).lower(), key): value for key, value in content.items()}


class _AgentInfo(_AnyCase):
    connected_to_agent_timestamp: _Time = None


class _Detail(_AnyCase):
    event_type: Annotated[str, Field(min_length=1)]
    contact_id: Annotated[str, Field(min_length=1, max_length=256)]
    initial_contact_id: _Text = ""
    previous_contact_id: _Text = ""
    related_contact_id: _Text = ""
    channel: _Word = ""
    initiation_method: _Word = ""
    disconnect_reason: Annotated[str, BeforeValidator(_disconnect_reason)] = ""
    event_timestamp: _Time = None
    initiation_timestamp: _Time = None
    disconnect_timestamp: _Time = None
    agent_info: Annotated[_AgentInfo, BeforeValidator(_optional_object)] = _AgentInfo()


class _Envelope(_AnyCase):
    detail_type: Annotated[str, Field(alias="detail-type")]
    time: messages.Time
    detail: _Detail


def _understand(event: _Envelope) -> ContactEvent:
    detail = event.detail
    action = _ACTIONS.get(detail.event_type.strip().upper())
    known = (detail.initial_contact_id, detail.previous_contact_id, detail.related_contact_id)
    ancestors = tuple(dict.fromkeys(one for one in known if one not in ("", detail.contact_id)))
    before = detail.previous_contact_id or detail.initial_contact_id
    transferred = detail.initiation_method in _TRANSFERS and before in ancestors
    happened = {"pause": detail.agent_info.connected_to_agent_timestamp, "end": detail.disconnect_timestamp}
    ignored = None
    if not event.detail_type.strip().lower().endswith("contact event"):
        ignored = "detail_type"
    elif detail.channel not in ("CHAT", ""):
        ignored = "channel"
    elif detail.initiation_method == "MONITOR":
        ignored = "monitor"
    elif action == "end" and detail.disconnect_reason in _CHAT_GOES_ON:
        ignored = "chat_goes_on"
    elif action is None and not transferred:
        ignored = "event_type"
    return ContactEvent(
        contact_id=detail.contact_id,
        at=happened.get(action or "") or detail.event_timestamp or event.time,
        ignored=ignored,
        action=action,
        reason=REASONS.get(detail.disconnect_reason, "contact_ended") if action == "end" else None,
        initiated_at=detail.initiation_timestamp,
        ancestors=ancestors,
        transferred_from=before if transferred else None,
    )


# --- what follows from it --------------------------------------------------------------------------------------------


def _apply(timer: Timer, contact: ContactEvent) -> dict[str, Any]:
    conversation_id = None if contact.ignored else _conversation_of(timer, contact)
    if conversation_id is None:
        return _nothing(timer, contact.ignored or "not_linked")
    if contact.transferred_from is not None:
        _link(timer, _transferred(contact.transferred_from), conversation_id)
    if contact.action == "pause":
        return _connected_to_agent(timer, contact, conversation_id)
    if contact.action == "end":
        return _disconnected(timer, contact, conversation_id)
    return _nothing(timer, "event_type")


def _conversation_of(timer: Timer, contact: ContactEvent) -> str | None:
    """By the contact's own link, or by one of a contact that it continues; then it gets a link of its own."""
    for known in _linkable(contact.contact_id, *contact.ancestors):
        conversation_id = timer.timers.store.conversation_of_contact(known)
        if conversation_id is not None:
            if known != contact.contact_id:
                _link(timer, contact.contact_id, conversation_id)
            return conversation_id
    return None


def _linkable(*contact_ids: str) -> Iterator[str]:
    return (contact_id for contact_id in contact_ids if _CONTACT_ID.fullmatch(contact_id))


def _link(timer: Timer, contact_id: str, conversation_id: str) -> None:
    expires_at = timer.timers.clock.now() // SECOND_MS + LINK_DAYS * 86_400
    timer.timers.store.link_contact(contact_id, conversation_id, expires_at)


def _transferred(contact_id: str) -> str:
    """The name under which it is remembered that another contact has taken over; no contact's id has a `#`."""
    return f"{contact_id}#transferred"


def _connected_to_agent(timer: Timer, contact: ContactEvent, conversation_id: str) -> dict[str, Any]:
    when = {"conversation_id": conversation_id, "occurred_at": format_time(contact.at)}
    pause = messages.parse(messages.LifecycleEvent, {"action": "pause", **when})
    answer = timer.lifecycle(pause)
    if answer["result"] != "stale" or answer["state"] != "ended":
        return answer
    # Ended, by the timer while the customer waited for the agent, or by the contact before a transfer. Touch's rules
    # for a message decide whether this comes after that end; here only: not a repeat from a pause that ran out.
    ended = timer.timers.store.read(conversation_id).conversation
    if ended is None or (ended.end_reason == "paused_too_long" and contact.at <= (ended.ended_at or 0)):
        return answer
    event = {**when, "connect_contact_id": contact.contact_id}
    reopened = timer.touch(messages.parse(messages.TouchEvent, event))
    return timer.lifecycle(pause) if reopened["state"] == "active" else answer


def _disconnected(timer: Timer, contact: ContactEvent, conversation_id: str) -> dict[str, Any]:
    store = timer.timers.store
    if store.conversation_of_contact(_transferred(contact.contact_id)) is not None:
        return _nothing(timer, "transferred")
    conversation = store.read(conversation_id).conversation
    if conversation is not None and conversation.connect_contact_id is not None:
        same_chat = conversation.connect_contact_id in (contact.contact_id, *contact.ancestors)
        began_before = contact.initiated_at is not None and contact.initiated_at < conversation.opened_at
        if not same_chat and began_before:  # a survey after the chat before, say
            return _nothing(timer, "earlier_chat")
    return timer.lifecycle(
        messages.parse(
            messages.LifecycleEvent,
            {
                "action": "end",
                "conversation_id": conversation_id,
                "occurred_at": format_time(contact.at),
                "reason": contact.reason,
            },
        )
    )


def _nothing(timer: Timer, cause: str) -> dict[str, Any]:
    timer.timers.telemetry.count("ContactEventsIgnored", by=cause)
    return messages.answer(None, None, result="unknown", timer="none", due_at=None)
