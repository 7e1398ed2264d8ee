"""Redrive: what failed for good is given once more to the function that it was meant for, until it works or is parked.

The failure queue gets two kinds of messages: the input of a schedule that Scheduler could not deliver (its dead-letter
queue, https://docs.aws.amazon.com/scheduler/latest/UserGuide/configuring-schedule-dlq.html), and the record of an event
on which a function failed after Lambda's retries (its on-failure destination,
https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from aws_lambda_powertools import Logger
from pydantic import BaseModel, ConfigDict, Field, InstanceOf
from pydantic.alias_generators import to_camel, to_pascal

from idle_timer import conversation as rules
from idle_timer import messages
from idle_timer.attempts import Attempts
from idle_timer.deadline import LambdaContext, guard
from idle_timer.errors import DeadlineError, InvalidEventError
from idle_timer.timestamps import format_time, parse_time
from idle_timer.upkeep_ports import Call, FailureQueues, FunctionName, Functions, Overview, Reply
from idle_timer.upkeep_settings import RedriveSettings

MARGIN_SECONDS = 3.0  # for answering what was dealt with

_logger = Logger(child=True)

Record = Mapping[str, Any]
"""A message as Lambda hands it over from SQS."""

_STRICT = ConfigDict(strict=True, frozen=True, extra="ignore", hide_input_in_errors=True)


class _Attributes(BaseModel):
    model_config = _STRICT | ConfigDict(alias_generator=to_pascal)

    sent_timestamp: Annotated[str, Field(pattern=r"^[0-9]{1,14}$")]  # epoch ms


class _Message(BaseModel):
    model_config = _STRICT | ConfigDict(alias_generator=to_camel)

    message_id: str
    receipt_handle: str
    body: InstanceOf[str]  # whatever is in it: one message must not keep the others from being read
    attributes: _Attributes


class _Batch(BaseModel):
    """What redrive needs of SQS's envelope; anything may be in the bodies."""

    model_config = _STRICT | ConfigDict(alias_generator=to_pascal)

    records: list[_Message]


class _MalformedError(Exception):
    """Retrying cannot help: the message goes to the parked queue with this word."""


@dataclass(frozen=True, slots=True)
class _Failed:
    """An event that failed before: whose it was, and what it said."""

    function: FunctionName
    event: Mapping[str, Any]

    @property
    def conversation_id(self) -> str | None:
        """For cleanup's events, which are counted on the conversation."""
        return str(self.event["conversation_id"]) if self.function == "cleanup" else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Redrive:
    """Each record on its own; every event is verified by its function as if it had just arrived."""

    settings: RedriveSettings
    overview: Overview
    functions: Functions
    attempts: Attempts
    queues: FailureQueues

    def redrive(self, event: Mapping[str, Any], context: LambdaContext) -> dict[str, Any]:
        """A batch of the failure queue. Answers which messages stay in it (`batchItemFailures`).

        Raises InvalidEventError for anything but such a batch.
        """
        messages.parse(_Batch, event)
        left = {record["messageId"]: record for record in event["Records"]}
        try:
            with guard(context, MARGIN_SECONDS):
                for record in self._deal_with(list(left.values())):
                    del left[record["messageId"]]
        except DeadlineError:
            _logger.warning("out of time", extra={"left": len(left)})
        return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in left]}

    def _deal_with(self, records: Sequence[Record]) -> Iterator[Record]:
        """Yields each record that needs no further try."""
        waiting: dict[str, list[Record]] = {}
        calls: dict[str, Call] = {}
        parked = self._parked(records)
        for record in records:
            try:
                failed = self._read(record)
                if failed.conversation_id in parked:
                    raise _MalformedError("max_attempts")
            except _MalformedError as why:
                if self._park(record, str(why)):
                    yield record
                continue
            # One look at a conversation answers all its messages.
            key = f"cleanup {failed.conversation_id}" if failed.conversation_id else record["messageId"]
            waiting.setdefault(key, []).append(record)
            calls[key] = Call(key, failed.function, failed.event)
        for call, reply in self.functions.call_each(list(calls.values())):
            for record in waiting[call.key]:
                if self._settle(record, call, reply, first=record is waiting[call.key][0]):
                    yield record

    def _settle(self, record: Record, call: Call, reply: Reply, *, first: bool) -> bool:
        """Whether the record needs no further try."""
        if reply.error is None:
            return True
        try:
            if reply.error == InvalidEventError.__name__:
                return self._park(record, "invalid_event")
            # Only a cleanup that ran and failed counts, and once for all messages of its conversation.
            if call.function == "cleanup" and reply.reached and first:
                counted = self.attempts.failed(call.event["conversation_id"])
                if counted == "parked":
                    return self._park(record, "max_attempts")
            self.queues.delay(record["receiptHandle"], self.settings.redrive_delay_seconds)
        except Exception as error:  # noqa: BLE001 - the others of its batch are still to be dealt with
            _logger.warning("a failed event stays in the queue", extra={"error": type(error).__name__})
        return False

    def _parked(self, records: Sequence[Record]) -> set[str]:
        """Whose conversations a person has to look at, so that no further try is due."""
        ids = set()
        for record in records:
            try:
                ids.add(self._read(record).conversation_id)
            except _MalformedError:
                continue
        items = self.overview.read_each(sorted(each for each in ids if each is not None))
        return {id_ for id_, item in items.items() if rules.is_parked(item)}

    def _park(self, record: Record, why: str) -> bool:
        try:
            self.queues.park(record["body"], why)
        except Exception as error:  # noqa: BLE001 - the others of its batch are still to be dealt with
            _logger.warning("not parked", extra={"why": why, "error": type(error).__name__})
            return False
        _logger.warning("parked", extra={"why": why})
        return True

    # --- reading ---

    def _read(self, record: Record) -> _Failed:
        try:
            body = json.loads(record["body"])
        except (ValueError, RecursionError):  # the latter: nested too deeply
            raise _MalformedError("unreadable") from None
        if not isinstance(body, dict):
            raise _MalformedError("unreadable")
        if "requestContext" not in body:
            return self._cleanup(body)
        function = self._function(body["requestContext"])
        payload, response = body.get("requestPayload"), body.get("responsePayload")
        if isinstance(response, dict) and response.get("errorType") == InvalidEventError.__name__:
            raise _MalformedError("invalid_event")
        if not isinstance(payload, dict):
            raise _MalformedError("invalid_event")
        if function == "cleanup":
            return self._cleanup(payload)
        if "conversation_id" in payload and payload.get("occurred_at") is None:
            # An old message must not look like one that has just arrived.
            payload = {**payload, "occurred_at": format_time(_happened_at(body, record))}
        return _Failed(function, payload)

    def _cleanup(self, body: Mapping[str, Any]) -> _Failed:
        try:
            event = messages.parse(messages.CleanupEvent, body)
        except InvalidEventError:
            raise _MalformedError("invalid_event") from None
        return _Failed("cleanup", {**event.model_dump(exclude_none=True), "source": "redrive"})

    def _function(self, request: object) -> FunctionName:
        settings = self.settings
        ours: dict[str, FunctionName] = {
            _unqualified(settings.touch_function_arn): "touch",
            _unqualified(settings.lifecycle_function_arn): "lifecycle",
            _unqualified(settings.cleanup_function_arn): "cleanup",
        }
        arn = str(request.get("functionArn")) if isinstance(request, dict) else ""
        if _unqualified(arn) not in ours:
            raise _MalformedError("unknown_function")
        return ours[_unqualified(arn)]


def _unqualified(function_arn: str) -> str:
    return ":".join(function_arn.split(":")[:7])


def _happened_at(body: Mapping[str, Any], record: Record) -> int:
    """When the failed event was recorded as such; where that cannot be read, when the message was sent."""
    try:
        return parse_time(body.get("timestamp"))
    except ValueError:
        return int(record["attributes"]["SentTimestamp"])
