"""The failure queue, and the parked queue where events wait for a person."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from idle_timer.upkeep_ports import ParkedEvent

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

RECEIVE_AT_MOST = 10  # SQS's own limit per call
LOOKED_AT_SECONDS = 1  # so that the next call shows other messages
MOVING_SECONDS = 30


class SqsFailureQueues:
    """See `ports.FailureQueues`."""

    def __init__(self, client: "SQSClient", *, failure_url: str, parked_url: str) -> None:
        self._client = client
        self._failure_url = failure_url
        self._parked_url = parked_url

    def park(self, body: str, why: str) -> None:
        """The body as it came, so that it can be put back; `why` as a message attribute."""
        self._client.send_message(
            QueueUrl=self._parked_url,
            MessageBody=body,
            MessageAttributes={"why": {"DataType": "String", "StringValue": why}},
        )

    def delay(self, receipt: str, seconds: int) -> None:
        """Change how long the message stays invisible."""
        self._client.change_message_visibility(
            QueueUrl=self._failure_url, ReceiptHandle=receipt, VisibilityTimeout=seconds
        )

    def parked(self, limit: int) -> Sequence[ParkedEvent]:
        """Received with next to no invisibility; an event is shown once."""
        seen: dict[str, ParkedEvent] = {}
        while len(seen) < limit:
            fresh = [
                event
                for event in self._receive(limit - len(seen), LOOKED_AT_SECONDS)
                if event.message_id not in seen
            ]
            if not fresh:
                break
            seen |= {event.message_id: event for event in fresh}
        return list(seen.values())

    def put_back(self, limit: int) -> int:
        """Sent first, deleted then: twice at worst, and every event may come twice."""
        moved = 0
        while moved < limit:
            events = self._receive(limit - moved, MOVING_SECONDS)
            if not events:
                break
            for event in events:
                self._client.send_message(QueueUrl=self._failure_url, MessageBody=event.body)
                self._client.delete_message(QueueUrl=self._parked_url, ReceiptHandle=event.receipt)
                moved += 1
        return moved

    def _receive(self, limit: int, invisible_seconds: int) -> list[ParkedEvent]:
        answer: Any = self._client.receive_message(
            QueueUrl=self._parked_url,
            MaxNumberOfMessages=min(limit, RECEIVE_AT_MOST),
            VisibilityTimeout=invisible_seconds,
            MessageAttributeNames=["why"],
        )
        return [
            ParkedEvent(
                message_id=message["MessageId"],
                receipt=message["ReceiptHandle"],
                body=message["Body"],
                why=message.get("MessageAttributes", {})
                .get("why", {})
                .get("StringValue", "received_too_often"),
            )
            for message in answer.get("Messages", [])
        ]
