"""The stack's parameters, as each function finds them in its environment."""

import json
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from idle_timer.errors import InvalidSettingsError
from idle_timer.timestamps import parse_duration

MAX_TIMEOUT_SECONDS = 2_592_000  # 30 days: contract of IdleTimeoutSeconds
MAX_STAGES = 3
# defer_build: a function needs one of the models below, and pays for building that one alone.
_STRICT = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, defer_build=True)

Seconds = Annotated[int, BeforeValidator(parse_duration)]


class Stage(BaseModel):
    """One warning: sent after `after` seconds of silence; `name` tells the backend what to say."""

    model_config = _STRICT

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
    after: Annotated[Seconds, Field(ge=1, le=MAX_TIMEOUT_SECONDS)]


def check_stages(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """Refuse stages that are not strictly increasing, or names used twice."""
    if any(later.after <= earlier.after for earlier, later in pairwise(stages)):
        raise ValueError("stages must be strictly increasing")
    if len({stage.name for stage in stages}) < len(stages):
        raise ValueError("each stage needs a name of its own")
    return stages


def _stages_from_parameter(value: object) -> object:
    """`still_there=PT2M,offer_call=PT4M`, or the same as a JSON list of {name, after}."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.startswith("["):
        try:
            return json.loads(text)
        except ValueError:
            raise ValueError("is not valid JSON") from None
    pairs = [part.split("=", 1) for part in text.split(",") if part.strip()]
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError("must be a list like still_there=PT2M,offer_call=PT4M")
    return [{"name": name.strip(), "after": _number_or_text(after.strip())} for name, after in pairs]


def _number_or_text(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdigit() else text


class Settings(BaseModel):
    """How conversations are timed in this stack; what every function is given.

    The field's name in capitals is the environment variable, and the template's parameter in the same words. Units are
    in the names. Resource names have no default: a missing one is an error that names its variable.
    """

    model_config = _STRICT

    conversations_table: str
    control_table: str

    idle_timeout_seconds: int = Field(300, ge=1, le=MAX_TIMEOUT_SECONDS)
    idle_stages: Annotated[
        tuple[Stage, ...],
        BeforeValidator(_stages_from_parameter),
        Field(max_length=MAX_STAGES),
        AfterValidator(check_stages),
    ] = ()
    end_when_idle: bool = True
    on_message_after_end: Literal["reopen", "reject"] = "reopen"
    publish_opened: bool = False
    reset_on: Literal["any", "customer"] = "any"
    pause_timeout_seconds: int = Field(86_400, ge=0, le=MAX_TIMEOUT_SECONDS)
    timer_slack_seconds: int = Field(0, ge=0, le=3_600)
    clock_skew_allowance_ms: int = Field(1_000, ge=0, le=60_000)
    sweep_period_minutes: int = Field(5, ge=1, le=60)
    sweep_grace_seconds: int = Field(180, ge=1, le=3_600)
    sweep_shards: int = Field(8, ge=1, le=100)
    max_attempts: int = Field(5, ge=1, le=100)
    retain_ended_days: int = Field(30, ge=1, le=3_650)
    mode: Literal["enforce", "shadow"] = "enforce"
    session_url_secret_arn: str = ""
    session_key_template: str = Field("session:{conversation_id}", min_length=1, max_length=512)
    session_tombstone_seconds: int = Field(3_600, ge=0)
    end_check_function_arn: str = ""
    end_hook_function_arn: str = ""
    stop_connect_contact: bool = False
    connect_instance_arn: str = ""
    false_end_minutes: int = Field(10, ge=0, le=1_440)

    @model_validator(mode="after")
    def _check_what_cloudformation_cannot(self) -> Self:
        if any(stage.after >= self.idle_timeout_seconds for stage in self.idle_stages):
            raise ValueError("IDLE_STAGES: each stage must be shorter than IDLE_TIMEOUT_SECONDS")
        if 0 < self.session_tombstone_seconds < 3_600:
            raise ValueError("SESSION_TOMBSTONE_SECONDS: must be 0 or at least 3600")
        if "{conversation_id}" not in self.session_key_template:
            raise ValueError(
                "SESSION_KEY_TEMPLATE: must contain {conversation_id}, a session belongs to one conversation"
            )
        if self.sweep_grace_seconds + self.sweep_bucket_ms // 1_000 > self.sweep_period_minutes * 60:
            raise ValueError(
                "SWEEP_GRACE_SECONDS: grace plus its bucket (60 s, or half the grace if that is shorter)"
                " must fit into SWEEP_PERIOD_MINUTES"
            )
        return self

    @property
    def sweep_bucket_ms(self) -> int:
        """Width of the index's activity buckets: a message seldom moves the index key, whose change costs two writes."""
        return max(1, min(60, self.sweep_grace_seconds // 2)) * 1_000

    def session_key(self, conversation_id: str, own: str | None) -> str:
        """The Redis key of a conversation's session."""
        return (
            own
            if own is not None
            else self.session_key_template.replace("{conversation_id}", conversation_id)
        )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read this function's variables; others are not looked at.

        Raises InvalidSettingsError: one line, each wrong variable by name, no values.
        """
        given = {name: environment[name.upper()] for name in cls.model_fields if name.upper() in environment}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            problems = [
                (f"{str(problem['loc'][0]).upper()}: " if problem["loc"] else "")
                + problem["msg"].removeprefix("Value error, ")
                for problem in error.errors(include_url=False, include_input=False)
            ]
            raise InvalidSettingsError("; ".join(problems)) from None


class TimerSettings(Settings):
    """For the functions that arm timers."""

    schedule_group: str
    schedule_role_arn: str
    failure_queue_arn: str


class TouchSettings(TimerSettings):
    """For touch and lifecycle, which hand outboxes to cleanup."""

    cleanup_function_arn: str


class CleanupSettings(TimerSettings):
    """For cleanup."""

    cleanup_function_arn: str  # its own: the target of the timers that it arms
    outcome_topic_arn: str
