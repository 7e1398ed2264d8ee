"""Wires the protocol to the real services, once per process. Nothing happens at import."""

import functools
import os
from typing import TYPE_CHECKING

from idle_timer.adapters.aws import client
from idle_timer.adapters.dynamodb import DynamoDBStore
from idle_timer.adapters.functions import CleanupHandover
from idle_timer.adapters.scheduler import EventBridgeScheduler
from idle_timer.adapters.system import SystemChance, SystemClock
from idle_timer.adapters.telemetry import EmbeddedMetrics
from idle_timer.cleanup import Cleanup
from idle_timer.settings import CleanupSettings, Settings, TimerSettings, TouchSettings
from idle_timer.timer import Timer, Timers

if TYPE_CHECKING:
    from idle_timer.adapters.redis import RedisSessions

CALLERS_TIMEOUT_SECONDS = 20  # for the caller's own functions; cleanup itself has 60 s


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
def cleanup(own_arn: str) -> Cleanup:
    """For cleanup. `own_arn`: as it was invoked; its schedules always name the alias. Raises InvalidSettingsError."""
    from idle_timer.adapters.bots import LexAndConnect
    from idle_timer.adapters.functions import CallersFunctions
    from idle_timer.adapters.sns import SnsOutcomes

    settings = CleanupSettings.from_environment(os.environ)
    return Cleanup(
        timers=_timers(settings, live_alias(own_arn)),
        outcomes=SnsOutcomes(client("sns"), settings.outcome_topic_arn),
        sessions=_sessions(settings),
        bots=LexAndConnect(client, settings.connect_instance_arn.rpartition("/")[2]),
        callers_code=CallersFunctions(
            lambda: client("lambda", read_timeout_seconds=CALLERS_TIMEOUT_SECONDS),
            end_check_arn=settings.end_check_function_arn,
            end_hook_arn=settings.end_hook_function_arn,
        ),
    )


def live_alias(function_arn: str) -> str:
    """The alias of a function, however it was invoked: the only thing that the schedules' role may invoke."""
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


def _store(settings: Settings) -> DynamoDBStore:
    return DynamoDBStore(client("dynamodb"), settings.conversations_table, settings.control_table)


def _sessions(settings: Settings) -> "RedisSessions":
    from idle_timer.adapters.redis import RedisSessions, session_url

    arn = settings.session_url_secret_arn
    return RedisSessions(
        lambda: session_url(client("secretsmanager"), arn), settings.session_tombstone_seconds
    )
