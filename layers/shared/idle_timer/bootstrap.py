"""Wires the protocol to the real services, once per process. Nothing happens at import."""

import contextlib
import functools
import gc
import os
import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from idle_timer.adapters.aws import AwsError, client, close_connections, open_connections, rehearsal
from idle_timer.adapters.dynamodb import DynamoDBStore
from idle_timer.adapters.functions import CleanupHandover
from idle_timer.adapters.scheduler import EventBridgeScheduler
from idle_timer.adapters.system import SystemChance, SystemClock
from idle_timer.adapters.telemetry import EmbeddedMetrics
from idle_timer.ports import Activity
from idle_timer.settings import Settings, TimerSettings, TouchSettings
from idle_timer.timer import Timer, Timers

if TYPE_CHECKING:
    from idle_timer.adapters.redis import RedisSessions
    from idle_timer.attempts import Attempts
    from idle_timer.cleanup import Cleanup
    from idle_timer.inspection import Inspection
    from idle_timer.redrive import Redrive
    from idle_timer.sweep import Sweep
    from idle_timer.upkeep_ports import Overview

CALLERS_TIMEOUT_SECONDS = 20  # for the caller's own functions; cleanup itself has 60 s


def start(wire: Callable[[], object], *connect_to: str) -> None:
    """For entry points inside Lambda: everything is ready before the first event comes.

    `connect_to`: for touch and lifecycle, which somebody waits for, connections are opened as well.
    """
    wire()
    if connect_to:
        _rehearse(timer().timers, *connect_to)
    if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
        # Only the runtime has it: https://docs.aws.amazon.com/lambda/latest/dg/snapstart-runtime-hooks-python.html
        from snapshot_restore_py import register_after_restore  # type: ignore[import-not-found,unused-ignore] # only the runtime has it

        register_after_restore(lambda: restored(*connect_to))
    else:
        open_connections(*connect_to)
    gc.freeze()  # what is here stays: no later collection has to look at it
    gc.enable()


def _rehearse(timers: Timers, *services: str) -> None:
    """The calls of a touch, up to the network: their first time costs as much as three touches."""
    with contextlib.suppress(*AwsError), rehearsal(*services):  # no reason not to start
        timers.store.record(Activity(conversation_id="rehearsal", at=0, changes={}, sweep_bucket_ms=0))
        timers.scheduler.update("rehearsal", 0)


def restored(*connect_to: str) -> None:
    """After a snapshot was restored. Clock and opening ids are read from the system at each use."""
    random.seed()  # botocore's, for the pauses between its tries
    close_connections()
    open_connections(*connect_to)


@functools.cache
def telemetry() -> EmbeddedMetrics:
    """The metrics of this process."""
    return EmbeddedMetrics()


@functools.cache
def timer() -> Timer:
    """For touch and lifecycle. Raises InvalidSettingsError."""
    settings = TouchSettings.from_environment(os.environ)
    return Timer(
        timers=_timers(settings, settings.cleanup_function_arn),
        handover=CleanupHandover(lambda: client("lambda"), settings.cleanup_function_arn),
    )


@functools.cache
def cleanup() -> "Cleanup":
    """For cleanup. Raises InvalidSettingsError."""
    from idle_timer.adapters.bots import LexAndConnect
    from idle_timer.adapters.functions import CallersFunctions
    from idle_timer.adapters.sns import SnsOutcomes
    from idle_timer.cleanup import Cleanup
    from idle_timer.settings import CleanupSettings

    settings = CleanupSettings.from_environment(os.environ)
    return Cleanup(
        timers=_timers(settings, settings.cleanup_function_arn),
        outcomes=SnsOutcomes(client("sns"), settings.outcome_topic_arn),
        sessions=_sessions(settings),
        bots=LexAndConnect(client, settings.connect_instance_arn.rpartition("/")[2]),
        callers_code=CallersFunctions(
            lambda: client("lambda", read_timeout_seconds=CALLERS_TIMEOUT_SECONDS),
            end_check_arn=settings.end_check_function_arn,
            end_hook_arn=settings.end_hook_function_arn,
        ),
    )


@functools.cache
def sweep(own_arn: str) -> "Sweep":
    """For the sweep. `own_arn`: as it was invoked. Raises InvalidSettingsError."""
    from idle_timer.adapters.overview import DynamoDBControl, DynamoDBOverview
    from idle_timer.adapters.siblings import READ_TIMEOUT_SECONDS, LambdaFunctions, SweepContinuation
    from idle_timer.adapters.timetable import SchedulerTimetable
    from idle_timer.sweep import Sweep
    from idle_timer.upkeep_settings import SweepSettings

    settings = SweepSettings.from_environment(os.environ)
    overview = DynamoDBOverview(client("dynamodb"), settings.conversations_table)
    control = DynamoDBControl(client("dynamodb"), settings.control_table)
    return Sweep(
        settings=settings,
        overview=overview,
        leases=control,
        holds=control,
        functions=LambdaFunctions(
            lambda: client("lambda", read_timeout_seconds=READ_TIMEOUT_SECONDS),
            {"cleanup": settings.cleanup_function_arn},
        ),
        attempts=_attempts(settings, settings.cleanup_function_arn, overview),
        timetable=SchedulerTimetable(client("scheduler"), settings.schedule_group),
        continuation=SweepContinuation(client("lambda"), live_alias(own_arn)),
        clock=SystemClock(),
        chance=SystemChance(),
        telemetry=telemetry(),
    )


@functools.cache
def redrive() -> "Redrive":
    """For redrive. Raises InvalidSettingsError."""
    from idle_timer.adapters.overview import DynamoDBOverview
    from idle_timer.adapters.queues import SqsFailureQueues
    from idle_timer.adapters.siblings import READ_TIMEOUT_SECONDS, LambdaFunctions
    from idle_timer.redrive import Redrive
    from idle_timer.upkeep_settings import RedriveSettings

    settings = RedriveSettings.from_environment(os.environ)
    overview = DynamoDBOverview(client("dynamodb"), settings.conversations_table)
    return Redrive(
        settings=settings,
        overview=overview,
        functions=LambdaFunctions(
            lambda: client("lambda", read_timeout_seconds=READ_TIMEOUT_SECONDS),
            {
                "touch": settings.touch_function_arn,
                "lifecycle": settings.lifecycle_function_arn,
                "cleanup": settings.cleanup_function_arn,
            },
        ),
        attempts=_attempts(settings, settings.cleanup_function_arn, overview),
        queues=SqsFailureQueues(
            client("sqs"), failure_url=settings.failure_queue_url, parked_url=settings.parked_queue_url
        ),
    )


@functools.cache
def inspection() -> "Inspection":
    """For inspect. Raises InvalidSettingsError."""
    from idle_timer.adapters.overview import DynamoDBControl, DynamoDBOverview
    from idle_timer.adapters.queues import SqsFailureQueues
    from idle_timer.adapters.siblings import READ_TIMEOUT_SECONDS, LambdaFunctions
    from idle_timer.inspection import Inspection
    from idle_timer.upkeep_settings import InspectSettings

    settings = InspectSettings.from_environment(os.environ)
    control = DynamoDBControl(client("dynamodb"), settings.control_table)
    return Inspection(
        settings=settings,
        store=_store(settings),
        overview=DynamoDBOverview(client("dynamodb"), settings.conversations_table),
        holds=control,
        links=control,
        functions=LambdaFunctions(
            lambda: client("lambda", read_timeout_seconds=READ_TIMEOUT_SECONDS),
            {"cleanup": settings.cleanup_function_arn},
        ),
        queues=SqsFailureQueues(
            client("sqs"), failure_url=settings.failure_queue_url, parked_url=settings.parked_queue_url
        ),
        clock=SystemClock(),
    )


def live_alias(function_arn: str) -> str:
    """The alias of a function, however it was invoked."""
    return ":".join([*function_arn.split(":")[:7], "live"])


def _timers(settings: TimerSettings, cleanup_arn: str) -> Timers:
    return Timers(
        settings=settings,
        store=_store(settings),
        scheduler=EventBridgeScheduler(
            client("scheduler"),
            group=settings.schedule_group,
            target_arn=cleanup_arn,
            role_arn=settings.schedule_role_arn,
            dead_letter_arn=settings.failure_queue_arn,
        ),
        clock=SystemClock(),
        chance=SystemChance(),
        telemetry=telemetry(),
    )


def _attempts(settings: Settings, cleanup_arn: str, overview: "Overview") -> "Attempts":
    from idle_timer.attempts import Attempts

    return Attempts(
        settings=settings,
        overview=overview,
        store=_store(settings),
        handover=CleanupHandover(lambda: client("lambda"), cleanup_arn),
        clock=SystemClock(),
        telemetry=telemetry(),
    )


def _store(settings: Settings) -> DynamoDBStore:
    return DynamoDBStore(client("dynamodb"), settings.conversations_table, settings.control_table)


class _Sessions:
    """See `ports.Sessions`: Redis, loaded with the first session that is touched. Most firings touch none."""

    def __init__(self, load: "Callable[[], RedisSessions]") -> None:
        self._load = functools.cache(load)

    def remove(self, session_key: str, opening_id: str) -> bool:
        return self._load().remove(session_key, opening_id)

    def restore(self, session_key: str, opening_id: str) -> bool:
        return self._load().restore(session_key, opening_id)

    def forget(self, session_key: str, opening_id: str) -> None:
        self._load().forget(session_key, opening_id)


def _sessions(settings: Settings) -> _Sessions:
    arn = settings.session_url_secret_arn

    def load() -> "RedisSessions":
        from idle_timer.adapters.redis import RedisSessions, session_url

        return RedisSessions(
            lambda: session_url(client("secretsmanager"), arn), settings.session_tombstone_seconds
        )

    return _Sessions(load)
