"""The environment as a model: limits, what CloudFormation cannot check, and errors that name variables only."""

import pytest

from idle_timer.errors import InvalidSettingsError
from idle_timer.settings import CleanupSettings, Settings, Stage

GIVEN = {"CONVERSATIONS_TABLE": "conversations", "CONTROL_TABLE": "control"}


def from_environment(**variables: str) -> Settings:
    return Settings.from_environment(GIVEN | variables)


def test_defaults_are_the_contracts() -> None:
    settings = from_environment(HOME="/", PATH="unrelated variables are not looked at")
    given = settings.model_dump()
    assert given == given | {
        "idle_timeout_seconds": 300,
        "idle_stages": (),
        "end_when_idle": True,
        "on_message_after_end": "reopen",
        "publish_opened": False,
        "reset_on": "any",
        "pause_timeout_seconds": 86_400,
        "timer_slack_seconds": 0,
        "clock_skew_allowance_ms": 1_000,
        "sweep_period_minutes": 5,
        "sweep_grace_seconds": 180,
        "sweep_shards": 8,
        "max_attempts": 5,
        "retain_ended_days": 30,
        "session_key_template": "session:{conversation_id}",
        "session_tombstone_seconds": 3_600,
        "mode": "enforce",
    }


def test_a_missing_resource_name_is_an_error_that_names_each_variable() -> None:
    with pytest.raises(InvalidSettingsError) as caught:
        CleanupSettings.from_environment({"CONTROL_TABLE": "control"})
    for name in (
        "CONVERSATIONS_TABLE",
        "SCHEDULE_GROUP",
        "SCHEDULE_ROLE_ARN",
        "FAILURE_QUEUE_ARN",
        "OUTCOME_TOPIC_ARN",
    ):
        assert f"{name}: Field required" in str(caught.value)
    assert "CONTROL_TABLE" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("IDLE_TIMEOUT_SECONDS", 1, 2_592_000),
        ("PAUSE_TIMEOUT_SECONDS", 0, 2_592_000),
        ("TIMER_SLACK_SECONDS", 0, 3_600),
        ("CLOCK_SKEW_ALLOWANCE_MS", 0, 60_000),
        ("SWEEP_PERIOD_MINUTES", 4, 60),  # 1, the contract's least, needs a shorter grace: see below
        ("SESSION_TOMBSTONE_SECONDS", 3_600, None),
    ],
)
def test_limits_are_the_contracts(name: str, least: int, most: int | None) -> None:
    from_environment(**{name: str(least)})
    outside = [least - 1]
    if most is not None:
        from_environment(**{name: str(most)})
        outside.append(most + 1)
    for value in outside:
        with pytest.raises(InvalidSettingsError, match=rf"\b({name}|SWEEP_GRACE_SECONDS)\b"):
            from_environment(**{name: str(value)})


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"IDLE_TIMEOUT_SECONDS": "s3cret"}, "IDLE_TIMEOUT_SECONDS"),
        ({"MODE": "s3cret"}, "MODE"),
        ({"RESET_ON": "s3cret"}, "RESET_ON"),
        ({"END_WHEN_IDLE": "s3cret"}, "END_WHEN_IDLE"),
        ({"IDLE_STAGES": "s3cret"}, "IDLE_STAGES"),
        ({"IDLE_STAGES": "s3cret=P5M"}, "IDLE_STAGES"),
        ({"IDLE_STAGES": "S3CRET=PT2M"}, "IDLE_STAGES"),
        ({"IDLE_STAGES": '[{"name": "s3cret"'}, "IDLE_STAGES"),
        ({"IDLE_STAGES": "a=PT1M,b=PT2M,c=PT3M,s3cret=PT4M"}, "IDLE_STAGES"),
        ({"IDLE_STAGES": "s3cret=PT4M,b=PT2M"}, "IDLE_STAGES"),
        ({"IDLE_STAGES": "s3cret=PT2M,b=PT2M"}, "IDLE_STAGES"),
        ({"IDLE_STAGES": "s3cret=PT2M,s3cret=PT4M"}, "IDLE_STAGES"),
        ({"IDLE_STAGES": "s3cret=PT5M"}, "IDLE_STAGES"),
        ({"SESSION_TOMBSTONE_SECONDS": "3599"}, "SESSION_TOMBSTONE_SECONDS"),
        ({"SESSION_KEY_TEMPLATE": "s3cret"}, "SESSION_KEY_TEMPLATE"),
        ({"SWEEP_PERIOD_MINUTES": "3"}, "SWEEP_GRACE_SECONDS"),
        ({"SWEEP_GRACE_SECONDS": "241"}, "SWEEP_GRACE_SECONDS"),
    ],
)
def test_a_wrong_value_is_refused_by_name_and_never_printed(variables: dict[str, str], named: str) -> None:
    with pytest.raises(InvalidSettingsError) as caught:
        from_environment(**variables)
    assert named in str(caught.value)
    assert "s3cret" not in str(caught.value).lower()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "still_there=PT2M,offer_call=PT4M",
        " still_there = 120 , offer_call=240 ,",
        '[{"name": "still_there", "after": "PT2M"}, {"name": "offer_call", "after": 240}]',
    ],
)
def test_stages_are_read_as_a_list_or_as_json(text: str) -> None:
    assert from_environment(IDLE_STAGES=text).idle_stages == (
        Stage(name="still_there", after=120),
        Stage(name="offer_call", after=240),
    )


def test_a_short_period_goes_with_a_grace_and_bucket_that_fit_into_it() -> None:
    settings = from_environment(SWEEP_PERIOD_MINUTES="1", SWEEP_GRACE_SECONDS="40")
    assert settings.sweep_bucket_ms == 20_000
    with pytest.raises(InvalidSettingsError, match="SWEEP_GRACE_SECONDS"):
        from_environment(SWEEP_PERIOD_MINUTES="1", SWEEP_GRACE_SECONDS="41")


def test_the_session_key_is_the_messages_own_or_the_templates() -> None:
    settings = from_environment(SESSION_KEY_TEMPLATE="chat:{conversation_id}:{x}")
    assert settings.session_key("c-{1}", None) == "chat:c-{1}:{x}"
    assert settings.session_key("c-1", "own") == "own"
