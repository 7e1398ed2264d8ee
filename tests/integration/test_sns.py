"""Outcomes on SNS: the exact request."""

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from idle_timer.adapters.sns import SnsOutcomes

TOPIC = "arn:aws:sns:us-east-1:123456789012:outcomes"
ENDED: dict[str, Any] = {
    "id": "o-1-2",
    "seq": 2,
    "type": "ConversationEnded",
    "schema_version": 1,
    "occurred_at": "2026-01-01T12:05:01.000Z",
    "conversation_id": "日本 🙂",
    "opening_id": "o-1",
    "attributes": {"tenant": "é"},
    "generation": 1,
    "reason": "idle_timeout",
    "proof": {"last_activity_at": "2026-01-01T12:00:00.000Z", "lateness_seconds": 1.5},
}
STUB = tuple[SnsOutcomes, Stubber]


@pytest.fixture
def stub() -> Iterator[STUB]:
    client = boto3.client(
        "sns",
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106 - nobody's
    )
    with Stubber(client) as stubber:
        yield SnsOutcomes(client, TOPIC), stubber
        stubber.assert_no_pending_responses()


def expect(stubber: Stubber, request: dict[str, Any]) -> None:
    stubber.add_response("publish", {"MessageId": "m-1"}, request)


class Whatever:
    """Equal to anything; keeps what it was compared with."""

    seen: Any = None

    def __eq__(self, other: object) -> bool:
        self.seen = other
        return True

    __hash__ = None  # type: ignore[assignment]


def message_of(stub: STUB, outcome: dict[str, Any]) -> dict[str, str]:
    outcomes, stubber = stub
    message = Whatever()
    request = dict.fromkeys(("TopicArn", "Subject", "MessageStructure", "MessageAttributes"), Whatever())
    expect(stubber, request | {"Message": message})
    outcomes.publish(outcome)
    parts: dict[str, str] = json.loads(message.seen)
    return parts


def test_the_request_is_exactly_this(stub: STUB) -> None:
    outcomes, stubber = stub
    text = "Conversation c-1 was reopened by a new message.\n\nOutcome id: o-2-3"  # no proof: nothing was decided
    outcome = {"id": "o-2-3", "type": "ConversationReopened", "conversation_id": "c-1"}
    expect(
        stubber,
        {
            "TopicArn": TOPIC,
            "Subject": "Idle Timer: ConversationReopened",
            "MessageStructure": "json",
            "Message": json.dumps(
                {
                    "default": '{"id":"o-2-3","type":"ConversationReopened","conversation_id":"c-1"}',
                    "email": text,
                    "sms": "Conversation c-1 was reopened by a new message.",
                }
            ),
            "MessageAttributes": {"type": {"DataType": "String", "StringValue": "ConversationReopened"}},
        },
    )
    outcomes.publish(outcome)


def test_type_and_reason_can_be_filtered_by(stub: STUB) -> None:
    outcomes, stubber = stub
    attributes = {
        "type": {"DataType": "String", "StringValue": "ConversationEnded"},
        "reason": {"DataType": "String", "StringValue": "idle_timeout"},
    }
    rest = dict.fromkeys(("TopicArn", "Subject", "MessageStructure", "Message"), Whatever())
    expect(stubber, rest | {"MessageAttributes": attributes})
    outcomes.publish(ENDED)


@pytest.mark.parametrize("reason", [None, ""])
def test_an_attribute_is_never_empty(stub: STUB, reason: str | None) -> None:
    outcomes, stubber = stub
    attributes = {"type": {"DataType": "String", "StringValue": "ConversationEnded"}}
    rest = dict.fromkeys(("TopicArn", "Subject", "MessageStructure", "Message"), Whatever())
    expect(stubber, rest | {"MessageAttributes": attributes})
    outcomes.publish(ENDED | {"reason": reason})


def test_programs_get_the_outcome_itself(stub: STUB) -> None:
    assert json.loads(message_of(stub, ENDED)["default"]) == ENDED


def test_characters_that_queues_refuse_are_only_sent_escaped(stub: STUB) -> None:
    parts = message_of(stub, ENDED | {"conversation_id": "a\0b\ufffec"})
    assert parts["default"].isascii()
    assert json.loads(parts["default"])["conversation_id"] == "a\0b\ufffec"
    assert parts["sms"] == "Conversation a?b?c ended (idle_timeout)."


def test_people_get_a_sentence_and_the_proof(stub: STUB) -> None:
    parts = message_of(stub, ENDED)
    assert parts["sms"] == "Conversation 日本 🙂 ended (idle_timeout)."
    assert parts["email"].splitlines() == [
        "Conversation 日本 🙂 ended (idle_timeout).",
        "",
        "Why:",
        "  last_activity_at: 2026-01-01T12:00:00.000Z",
        "  lateness_seconds: 1.5",
        "",
        "Outcome id: o-1-2",
    ]


@pytest.mark.parametrize(
    "type_",
    [
        "ConversationOpened",
        "ConversationWarned",
        "ConversationEnded",
        "ConversationReopened",
        "ConversationPaused",
        "ConversationResumed",
        "ConversationEndFailed",
    ],
)
def test_every_subject_is_one_that_sns_accepts_and_holds_no_id(stub: STUB, type_: str) -> None:
    outcomes, stubber = stub
    subject = Whatever()
    rest = dict.fromkeys(("TopicArn", "MessageStructure", "MessageAttributes", "Message"), Whatever())
    expect(stubber, rest | {"Subject": subject})
    outcomes.publish(ENDED | {"type": type_, "stage": "still_there"})
    assert subject.seen.isascii()
    assert subject.seen.isprintable()
    assert len(subject.seen) < 100
    assert "🙂" not in subject.seen


def test_the_greatest_outcome_fits_into_a_message(stub: STUB) -> None:
    greatest = ENDED | {"conversation_id": "\0" * 512, "attributes": {"a": "\0" * 256}}
    assert len(json.dumps(message_of(stub, greatest)).encode()) < 256 * 1_024


def test_a_refusal_raises(stub: STUB) -> None:
    outcomes, stubber = stub
    stubber.add_client_error("publish", "ThrottledException")
    with pytest.raises(ClientError):
        outcomes.publish(ENDED)
