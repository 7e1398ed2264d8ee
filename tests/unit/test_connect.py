"""Contact events of Amazon Connect: what each does, however it is spelled, ordered or repeated."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idle_timer import connect, timestamps
from idle_timer.errors import InvalidEventError
from tests.fakes.system import NOON
from tests.fakes.world import World, settings

EVENTS = Path(__file__).parents[2] / "events"
A, B, C = "contact-a", "contact-b", "contact-c"

Spelling = Callable[[str], str]
SPELLINGS: dict[str, Spelling] = {
    "camelCase": lambda key: key,
    "PascalCase": lambda key: key[:1].upper() + key[1:],
    "lower": str.lower,
    "UPPER": str.upper,
}
DETAIL_TYPES = ["Amazon Connect Contact Event", "Connect Customer Contact Event"]


def spelled(value: Any, spelling: Spelling) -> Any:
    if isinstance(value, dict):
        return {spelling(key): spelled(inner, spelling) for key, inner in value.items()}
    return value


def at(seconds: float) -> str:
    """Seconds after noon, as an event writes it."""
    return timestamps.format_time(NOON + round(seconds * 1_000))


def contact_event(
    kind: str,
    contact: str = A,
    seconds: float = 0,
    *,
    envelope: dict[str, Any] | None = None,
    **detail: Any,
) -> dict[str, Any]:
    """As EventBridge brings it. `seconds`: when it happened; the envelope is a second late, and cut to seconds."""
    stamps: dict[str, dict[str, Any]] = {
        "CONNECTED_TO_AGENT": {"agentInfo": {"connectedToAgentTimestamp": at(seconds)}},
        "DISCONNECTED": {"disconnectTimestamp": at(seconds)},
        "COMPLETED": {"disconnectTimestamp": at(seconds)},
    }
    return {
        "version": "0",
        "detail-type": DETAIL_TYPES[0],
        "source": "aws.connect",
        "time": at(int(seconds) + 1)[:19] + "Z",
        "detail": {
            "eventType": kind,
            "contactId": contact,
            "channel": "CHAT",
            "initiationMethod": "API",
            **stamps.get(kind, {}),
            **detail,
        },
        **(envelope or {}),
    }


def transferred(kind: str, contact: str, before: str, seconds: float, **detail: Any) -> dict[str, Any]:
    return contact_event(
        kind,
        contact,
        seconds,
        initiationMethod="TRANSFER",
        initialContactId=A,
        previousContactId=before,
        **detail,
    )


def linked(contact: str = A, **changed: Any) -> World:
    world = World(settings(**changed))
    world.touch(connect_contact_id=contact, occurred_at=at(0))
    world.drain()
    return world


def send(world: World, event: dict[str, Any]) -> dict[str, Any]:
    return connect.lifecycle(world.timer, event)


def ignored_for(world: World) -> list[str]:
    return [cause for (metric, cause), _ in world.telemetry.by.items() if metric == "ContactEventsIgnored"]


# --- spelling --------------------------------------------------------------------------------------------------------

SAMPLES = {
    "lifecycle-connect-connected-to-agent": ("pause", None, "2026-01-31T12:04:00.250Z", None),
    "lifecycle-connect-connected-to-agent-pascal-case": ("pause", None, "2026-01-31T12:04:00.250Z", None),
    "lifecycle-connect-disconnected": ("end", "agent_ended", "2026-01-31T12:20:30.500Z", None),
    "lifecycle-connect-disconnected-pascal-case": ("end", "agent_ended", "2026-01-31T12:20:30.500Z", None),
    "lifecycle-connect-completed": ("end", "agent_ended", "2026-01-31T12:20:30.500Z", None),
    "lifecycle-connect-transferred": (None, None, "2026-01-31T12:10:00.000Z", None),
    "lifecycle-connect-data-updated": (None, None, "2026-01-31T12:03:10.000Z", "event_type"),
    "lifecycle-connect-voice": ("end", "agent_ended", "2026-01-31T12:20:30.500Z", "channel"),
    "lifecycle-connect-task-paused": (None, None, "2026-01-31T12:05:00.000Z", "channel"),
}


def test_every_sample_of_a_contact_event_is_here() -> None:
    assert set(SAMPLES) == {file.stem for file in EVENTS.glob("lifecycle-connect*.json")}


@pytest.mark.parametrize("detail_type", DETAIL_TYPES)
@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("name", SAMPLES)
def test_each_documented_sample_means_the_same_in_each_spelling(
    name: str, spelling: str, detail_type: str
) -> None:
    event = json.loads((EVENTS / f"{name}.json").read_text())
    event |= {"detail": spelled(event["detail"], SPELLINGS[spelling]), "detail-type": detail_type}
    understood = connect.understand(event)
    assert isinstance(understood, connect.ContactEvent)
    assert (
        understood.action,
        understood.reason,
        timestamps.format_time(understood.at),
        understood.ignored,
    ) == SAMPLES[name]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_each_spelling_pauses_and_ends_the_linked_conversation(spelling: str) -> None:
    world = linked()
    world.clock.advance(60)
    paused = spelled(contact_event("CONNECTED_TO_AGENT", A, 10), SPELLINGS[spelling])
    # Of the envelope only the detail's keys vary; EventBridge itself writes `source` and `detail-type`.
    paused = {key.lower(): value for key, value in paused.items()}
    answer = send(world, paused)
    assert (answer["result"], answer["state"], answer["conversation_id"]) == ("applied", "paused", "c-1")
    assert world.item().state_since == NOON + 10_000
    ended = contact_event("DISCONNECTED", A, 20.5, disconnectReason="CUSTOMER_DISCONNECT")
    ended["detail"] = spelled(ended["detail"], SPELLINGS[spelling])
    assert send(world, ended)["state"] == "ended"
    assert (world.item().end_reason, world.item().ended_at) == ("customer_disconnected", NOON + 20_500)
    assert world.scheduled_for() is None


@pytest.mark.parametrize(
    ("given_reason", "reason"),
    [
        *connect.REASONS.items(),
        ("customer_disconnect", "customer_disconnected"),
        ({"code": "AGENT_DISCONNECT"}, "agent_ended"),
        ({"Code": "IDLE_DISCONNECT"}, "participant_idle"),
        ("SOMETHING NEW", "contact_ended"),
        (None, "contact_ended"),
        (17, "contact_ended"),
    ],
)
def test_the_reason_of_an_end_is_connects_in_our_words(given_reason: Any, reason: str) -> None:
    world = linked()
    send(world, contact_event("DISCONNECTED", disconnectReason=given_reason))
    assert world.item().end_reason == reason


@pytest.mark.parametrize(
    ("detail", "expected"),
    [
        ({"agentInfo": {"connectedToAgentTimestamp": "1970-01-01T00:00:00.001Z"}}, 8_000),
        ({"agentInfo": {"connectedToAgentTimestamp": "soon"}, "eventTimestamp": at(7.25)}, 7_250),
        ({"agentInfo": None}, 8_000),
    ],
)
def test_without_the_exact_time_the_events_or_the_envelopes_counts(
    detail: dict[str, Any], expected: int
) -> None:
    understood = connect.understand(contact_event("CONNECTED_TO_AGENT", A, 7, **detail))
    assert isinstance(understood, connect.ContactEvent)
    assert understood.at == NOON + expected


# --- what is not for us ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "cause"),
    [
        *[
            (contact_event(kind), "event_type")
            for kind in (
                "INITIATED",
                "QUEUED",
                "CONNECTED_TO_SYSTEM",
                "CONTACT_DATA_UPDATED",
                "PAUSED",
                "RESUMED",
                "X",
            )
        ],
        *[(contact_event("DISCONNECTED", channel=other), "channel") for other in ("VOICE", "Task", "EMAIL")],
        (contact_event("CONNECTED_TO_AGENT", "contact-of-nobody"), "not_linked"),
        (contact_event("DISCONNECTED", "no legal id"), "not_linked"),
        (contact_event("DISCONNECTED", initiationMethod="MONITOR"), "monitor"),
        (contact_event("DISCONNECTED", disconnectReason="BARGED"), "chat_goes_on"),
        (contact_event("DISCONNECTED", disconnectReason="THIRD_PARTY_DISCONNECT"), "chat_goes_on"),
        (
            contact_event("DISCONNECTED", envelope={"detail-type": "Contact Lens Rules Matched"}),
            "detail_type",
        ),
    ],
)
def test_what_is_not_for_us_is_ignored_and_counted(event: dict[str, Any], cause: str) -> None:
    world = linked()
    before = world.item()
    answer = send(world, event)
    assert (answer["result"], answer["state"], answer["timer"]) == ("unknown", None, "none")
    assert world.item() == before
    assert ignored_for(world) == [cause]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"detail": None}, "detail: must be a JSON object"),
        ({"detail": {"contactId": A}}, "detail.eventType: is needed"),
        ({"detail": {"EVENTTYPE": "DISCONNECTED"}}, "detail.contactId: is needed"),
        ({"detail": {"eventType": "DISCONNECTED", "contactId": 17}}, "detail.contactId: must be a string"),
        ({"detail-type": 17}, "detail-type: must be a string"),
        ({"time": "yesterday"}, "time: must be an RFC 3339 time with a zone, like 2026-01-31T12:00:00.000Z"),
    ],
)
def test_a_malformed_event_is_refused_by_the_name_of_its_field(changed: dict[str, Any], said: str) -> None:
    world = linked()
    with pytest.raises(InvalidEventError) as refused:
        send(world, contact_event("DISCONNECTED", envelope=changed))
    assert str(refused.value) == f"invalid event: {said}"
    assert world.item().state == "active"


# --- one chat --------------------------------------------------------------------------------------------------------


def test_after_contact_work_does_not_end_a_conversation_that_was_reopened_meanwhile() -> None:
    """COMPLETED comes minutes after DISCONNECTED, and means the same moment."""
    world = linked()
    world.clock.advance(10)
    send(world, contact_event("DISCONNECTED", A, 10))
    world.clock.advance(60)
    assert world.touch()["result"] == "reopened"
    world.clock.advance(60)
    completed = contact_event("COMPLETED", A, 10, envelope={"time": at(130)})
    assert send(world, completed)["result"] == "stale"
    assert world.item().state == "active"


def test_an_agent_who_takes_over_just_after_the_idle_end_reopens_the_conversation() -> None:
    """The customer waited in silence for the agent: the timer ended it, and a person is there now."""
    world = linked()
    assert world.fire()["decision"] == "ended"
    connected = (world.clock.time - NOON) / 1_000 - 0.5  # before the decision, told after it
    world.clock.advance(1)
    answer = send(world, contact_event("CONNECTED_TO_AGENT", A, connected))
    assert (answer["state"], answer["generation"]) == ("paused", 2)
    world.drain()
    assert world.outcomes.types()[-2:] == ["ConversationReopened", "ConversationPaused"]


@pytest.mark.parametrize("crash_at", ["store.save", "scheduler.create", "scheduler.update"])
def test_a_crash_while_an_agent_takes_over_is_mended_by_the_retry(crash_at: str) -> None:
    world = linked()
    world.fire()
    event = contact_event("CONNECTED_TO_AGENT", A, (world.clock.time - NOON) / 1_000)

    def crash(effect: Callable[[], Any]) -> Any:
        effect()
        raise RuntimeError("crash")

    world.steps.twist(crash_at, crash)
    with pytest.raises(RuntimeError, match="crash"):
        send(world, event)
    assert send(world, event)["state"] == "paused"
    assert world.scheduled_for() is not None


def test_a_rejecting_stack_reopens_for_no_agent_either() -> None:
    world = linked(on_message_after_end="reject")
    world.fire()
    answer = send(world, contact_event("CONNECTED_TO_AGENT", A, (world.clock.time - NOON) / 1_000))
    assert (answer["result"], answer["state"]) == ("stale", "ended")


def test_a_repeat_of_the_takeover_does_not_reopen_what_its_pause_ran_out_on() -> None:
    world = linked(pause_timeout_seconds=60)
    world.clock.advance(10)
    taken_over = contact_event("CONNECTED_TO_AGENT", A, 10)
    send(world, taken_over)
    assert world.fire()["decision"] == "ended"
    assert send(world, taken_over)["state"] == "ended"


# --- transfers -------------------------------------------------------------------------------------------------------


def test_a_transfer_keeps_the_link_and_the_first_agents_end_ends_nothing() -> None:
    world = linked()
    world.clock.advance(100)
    send(world, contact_event("CONNECTED_TO_AGENT", A, 10))
    assert send(world, transferred("INITIATED", B, A, 20))["result"] == "unknown"
    assert send(world, contact_event("DISCONNECTED", A, 20.1))["result"] == "unknown"
    assert ignored_for(world) == ["event_type", "transferred"]
    assert send(world, transferred("CONNECTED_TO_AGENT", B, A, 30))["state"] == "paused"
    send(world, transferred("INITIATED", C, B, 40))
    assert send(world, transferred("DISCONNECTED", B, A, 40.1))["state"] is None
    answer = send(world, transferred("DISCONNECTED", C, B, 50, disconnectReason="AGENT_DISCONNECT"))
    assert answer["state"] == "ended"
    world.drain()
    assert world.outcomes.types() == ["ConversationPaused", "ConversationEnded"]
    assert world.item().end_reason == "agent_ended"


@pytest.mark.parametrize("ancestor", ["initialContactId", "previousContactId", "relatedContactId"])
def test_a_contact_that_continues_a_linked_one_is_found_and_linked(ancestor: str) -> None:
    world = linked()
    continues: dict[str, Any] = {ancestor: A}
    assert send(world, contact_event("CONNECTED_TO_AGENT", B, 1, **continues))["state"] == "paused"
    assert world.store.conversation_of_contact(B) == "c-1"


def test_a_disconnect_flow_does_not_keep_the_agents_end_from_ending() -> None:
    """A survey after the chat is a contact of its own; its end must not end a chat that began since."""
    world = linked()
    world.clock.advance(10)
    survey: dict[str, Any] = {"initiationMethod": "DISCONNECT", "initialContactId": A, "previousContactId": A}
    send(world, contact_event("INITIATED", "survey", 9, initiationTimestamp=at(9), **survey))
    assert send(world, contact_event("DISCONNECTED", A, 9))["state"] == "ended"
    assert world.touch(connect_contact_id="new-chat")["result"] == "reopened"
    world.clock.advance(10)
    answer = send(world, contact_event("DISCONNECTED", "survey", 15, initiationTimestamp=at(9), **survey))
    assert answer["result"] == "unknown"
    assert world.item().state == "active"
    assert ignored_for(world)[-1] == "earlier_chat"


# --- storms ----------------------------------------------------------------------------------------------------------

# One chat, handed from agent to agent: until 30 s the second agent has it, at 40 s it is over.
TALKING = [
    contact_event("INITIATED", A, 0),
    contact_event("QUEUED", A, 1),
    contact_event("CONNECTED_TO_AGENT", A, 10),
    contact_event("PAUSED", A, 12),
    transferred("INITIATED", B, A, 20),
    contact_event("DISCONNECTED", A, 20.1),
    transferred("QUEUED", B, A, 21),
    contact_event("COMPLETED", A, 20.1),
    transferred("CONNECTED_TO_AGENT", B, A, 30),
    contact_event("RESUMED", A, 31),
]
OVER = [
    transferred("DISCONNECTED", B, A, 40, disconnectReason="CUSTOMER_DISCONNECT"),
    transferred("COMPLETED", B, A, 40, disconnectReason="CUSTOMER_DISCONNECT"),
]


def storm(events: list[dict[str, Any]]) -> st.SearchStrategy[list[dict[str, Any]]]:
    """All of them, shuffled, some repeated."""
    repeats = st.lists(st.sampled_from(events), max_size=8)
    return repeats.flatmap(lambda more: st.permutations([*events, *more]))


@given(storm(TALKING))
def test_however_events_of_a_living_chat_arrive_it_ends_up_paused(arriving: list[dict[str, Any]]) -> None:
    world = linked()
    world.clock.advance(31)
    for event in arriving:
        send(world, event)
        world.drain()
    item = world.item()
    assert (item.state, item.state_since) == ("paused", NOON + 30_000)
    assert world.scheduled_for() is not None
    assert not item.outbox


@given(storm([*TALKING, *OVER]))
def test_however_events_of_a_finished_chat_arrive_it_ends_up_ended(arriving: list[dict[str, Any]]) -> None:
    world = linked()
    world.clock.advance(41)
    for event in arriving:
        send(world, event)
        world.drain()
    item = world.item()
    assert (item.state, item.ended_at) == ("ended", NOON + 40_000)
    assert world.scheduled_for() is None
    assert not item.outbox
    ends = [o["opening_id"] for o in world.outcomes.published if o["type"] == "ConversationEnded"]
    assert len(ends) == len(set(ends))


@given(storm([TALKING[2], contact_event("DISCONNECTED", A, 20), contact_event("COMPLETED", A, 20)]))
def test_without_a_transfer_the_storm_ends_in_the_very_same_item(arriving: list[dict[str, Any]]) -> None:
    world = linked()
    world.clock.advance(41)
    for event in arriving:
        send(world, event)
        world.drain()
    item = world.item()
    assert (item.state, item.generation, item.ended_at, item.end_reason) == (
        "ended",
        1,
        NOON + 20_000,
        "contact_ended",
    )
    assert world.outcomes.types().count("ConversationEnded") == 1
