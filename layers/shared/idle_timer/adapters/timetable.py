"""EventBridge Scheduler, looked through: which schedules there are, and for whom."""

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger

from idle_timer.adapters.aws import AwsError, error_code
from idle_timer.timestamps import SECOND_MS
from idle_timer.upkeep_ports import SetTimer, TimetablePage

if TYPE_CHECKING:
    from mypy_boto3_scheduler import EventBridgeSchedulerClient

PAGE = 50  # schedules looked at in one sweep: ListSchedules is for 50 calls a second in the whole account

_logger = Logger(child=True)


class SchedulerTimetable:
    """See `ports.Timetable`."""

    def __init__(self, client: "EventBridgeSchedulerClient", group: str) -> None:
        self._client = client
        self._group = group

    def page(self, token: str | None) -> TimetablePage | None:
        """One ListSchedules and a GetSchedule each: a list has no inputs. What is not ours is left out."""
        start: Any = {"NextToken": token} if token else {}
        try:
            answer = self._client.list_schedules(GroupName=self._group, MaxResults=PAGE, **start)
            timers = [self._timer(schedule["Name"]) for schedule in answer["Schedules"]]
        except AwsError as error:
            code = error_code(error)
            _logger.warning("schedules not looked through", extra={"error": code or type(error).__name__})
            # A token can go stale; the next sweep starts over.
            return TimetablePage((), None) if token and code == "ValidationException" else None
        return TimetablePage(tuple(timer for timer in timers if timer), answer.get("NextToken"))

    def _timer(self, name: str) -> SetTimer | None:
        try:
            schedule = self._client.get_schedule(Name=name, GroupName=self._group)
        except AwsError as error:
            if error_code(error) == "ResourceNotFoundException":  # deleted meanwhile
                return None
            raise
        try:
            conversation_id = json.loads(schedule["Target"]["Input"])["conversation_id"]
            at = datetime.strptime(f"{schedule['ScheduleExpression']}Z", "at(%Y-%m-%dT%H:%M:%S)%z")
        except (KeyError, TypeError, ValueError):
            return None
        return SetTimer(str(conversation_id), int(at.timestamp()) * SECOND_MS)
