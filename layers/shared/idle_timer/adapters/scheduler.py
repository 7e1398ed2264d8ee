"""EventBridge Scheduler: one-time schedules, named after conversations."""

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger

from idle_timer.adapters.aws import AwsError, ClientError, error_code
from idle_timer.errors import TimerNotArmedError
from idle_timer.ports import ScheduleAnswer
from idle_timer.timestamps import format_time

if TYPE_CHECKING:
    from mypy_boto3_scheduler import EventBridgeSchedulerClient

# Handing the event over to Lambda; Lambda's own retries come after that. The sweep's grace must be longer (README).
MAX_EVENT_AGE_SECONDS = 60
MAX_RETRIES = 3

_LEGAL_NAME = re.compile(r"(?!\.{1,2}\Z)[0-9a-zA-Z\-_.]{1,64}", re.ASCII)
_HASHED_NAME = re.compile(r"[0-9a-zA-Z\-_.]*\._[0-9a-f]{32}", re.ASCII)
_PREFIX_LENGTH = 30

_ANSWERS: dict[str, ScheduleAnswer] = {
    "ConflictException": "conflict",
    "ThrottlingException": "throttled",
    "TooManyRequestsException": "throttled",
    "ResourceNotFoundException": "absent",
}

_logger = Logger(child=True)


def schedule_name(conversation_id: str) -> str:
    """The id itself if it is a legal name, else a readable prefix and a hash: two ids never share a name.

    An id that looks like such a name is hashed too. Names: 1-64 of [0-9a-zA-Z-_.],
    https://docs.aws.amazon.com/scheduler/latest/APIReference/API_CreateSchedule.html
    """
    if _LEGAL_NAME.fullmatch(conversation_id) and not _HASHED_NAME.fullmatch(conversation_id):
        return conversation_id
    prefix = re.sub(r"[^0-9a-zA-Z\-_.]", "_", conversation_id[:_PREFIX_LENGTH])
    return f"{prefix}._{hashlib.sha256(conversation_id.encode()).hexdigest()[:32]}"


def firing_input(conversation_id: str) -> str:
    """What cleanup gets. Scheduler fills in the two context attributes, and would do so inside an id as well."""
    event = {
        "version": 1,
        "conversation_id": "\0",
        "scheduled_for": "<aws.scheduler.scheduled-time>",
        "execution_id": "<aws.scheduler.execution-id>",
        "source": "schedule",
    }
    return json.dumps(event).replace(json.dumps("\0"), json.dumps(conversation_id).replace("<", "\\u003c"))


class EventBridgeScheduler:
    """See `ports.Scheduler`. `target_arn`: cleanup's alias; `role_arn`: the execution role that may invoke just that."""

    def __init__(
        self,
        client: "EventBridgeSchedulerClient",
        *,
        group: str,
        target_arn: str,
        role_arn: str,
        dead_letter_arn: str,
    ) -> None:
        self._client = client
        self._group = group
        self._target_arn = target_arn
        self._role_arn = role_arn
        self._dead_letter_arn = dead_letter_arn

    def create(self, conversation_id: str, at: int) -> ScheduleAnswer:
        """No ClientToken of ours: a deterministic one would turn a re-creation into a silent repeat of the first."""
        answer = self._ask(self._client.create_schedule, conversation_id, at)
        if answer == "absent":  # not the schedule: its group is gone, which no retry in this call can mend
            raise TimerNotArmedError("the schedule group does not exist")
        return answer

    def update(self, conversation_id: str, at: int) -> ScheduleAnswer:
        """Replaces the whole definition: what is not sent goes back to its default."""
        return self._ask(self._client.update_schedule, conversation_id, at)

    def delete(self, conversation_id: str) -> bool:
        """A refusal is logged and answered, because it must not stop an end."""
        try:
            self._client.delete_schedule(Name=schedule_name(conversation_id), GroupName=self._group)
        except AwsError as error:
            if error_code(error) == "ResourceNotFoundException":
                return True
            _logger.warning(
                "schedule not deleted", extra={"error": error_code(error) or type(error).__name__}
            )
            return False
        return True

    def definition(self, conversation_id: str, at: int) -> dict[str, Any]:
        """The one definition, for create and update. `at`: epoch ms, a whole second."""
        return {
            "Name": schedule_name(conversation_id),
            "GroupName": self._group,
            "ScheduleExpression": f"at({format_time(at)[:19]})",
            "ScheduleExpressionTimezone": "UTC",
            "FlexibleTimeWindow": {"Mode": "OFF"},
            "State": "ENABLED",
            # AWS deletes "shortly after" the firing, at an unstated moment, which could take a re-armed timer along.
            "ActionAfterCompletion": "NONE",
            "Target": {
                "Arn": self._target_arn,
                "RoleArn": self._role_arn,
                "Input": firing_input(conversation_id),
                "RetryPolicy": {
                    "MaximumEventAgeInSeconds": MAX_EVENT_AGE_SECONDS,
                    "MaximumRetryAttempts": MAX_RETRIES,
                },
                "DeadLetterConfig": {"Arn": self._dead_letter_arn},
            },
        }

    def _ask(self, call: Any, conversation_id: str, at: int) -> ScheduleAnswer:
        try:
            call(**self.definition(conversation_id, at))
        except ClientError as error:
            answer = _ANSWERS.get(error_code(error))
            if answer is None:
                raise
            return answer
        return "done"
