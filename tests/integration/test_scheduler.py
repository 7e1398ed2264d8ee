"""The scheduler: in memory and EventBridge's (moto), held to one contract; and its exact requests and names."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3
import botocore.session
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError
from botocore.stub import Stubber
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from moto import mock_aws

from idle_timer.adapters.scheduler import EventBridgeScheduler, firing_input, schedule_name
from idle_timer.errors import TimerNotArmedError
from tests.fakes.scheduler import MemoryScheduler

if TYPE_CHECKING:
    from mypy_boto3_scheduler import EventBridgeSchedulerClient

GROUP = "conversation-timers"
TARGET = "arn:aws:lambda:us-east-1:123456789012:function:cleanup:live"
ROLE = "arn:aws:iam::123456789012:role/schedules"
DEAD_LETTERS = "arn:aws:sqs:us-east-1:123456789012:failures"
AT = 1_767_268_805_000  # 2026-01-01T12:00:05Z
LATER = AT + 60_000


def new_client() -> "EventBridgeSchedulerClient":
    return boto3.client(
        "scheduler",
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106 - nobody's
    )


def adapter(client: "EventBridgeSchedulerClient") -> EventBridgeScheduler:
    return EventBridgeScheduler(
        client, group=GROUP, target_arn=TARGET, role_arn=ROLE, dead_letter_arn=DEAD_LETTERS
    )


@dataclass
class Armed:
    """A scheduler and the tests' own look at what is set."""

    scheduler: MemoryScheduler | EventBridgeScheduler
    client: "EventBridgeSchedulerClient | None" = None

    def times(self) -> list[int]:
        if isinstance(self.scheduler, MemoryScheduler):
            return [schedule.at for schedule in self.scheduler.schedules.values()]
        assert self.client is not None
        names = [each["Name"] for each in self.client.list_schedules(GroupName=GROUP)["Schedules"]]
        expressions = [
            self.client.get_schedule(GroupName=GROUP, Name=name)["ScheduleExpression"] for name in names
        ]
        return [
            {"at(2026-01-01T12:00:05)": AT, "at(2026-01-01T12:01:05)": LATER}[each] for each in expressions
        ]


@pytest.fixture(params=["memory", "eventbridge"])
def armed(request: pytest.FixtureRequest) -> Iterator[Armed]:
    if request.param == "memory":
        yield Armed(MemoryScheduler())
        return
    with mock_aws():
        client = new_client()
        client.create_schedule_group(Name=GROUP)
        yield Armed(adapter(client), client)


class TestContract:
    """What the protocol relies on."""

    def test_a_schedule_is_created(self, armed: Armed) -> None:
        assert armed.scheduler.create("c-1", AT) == "done"
        assert armed.times() == [AT]

    def test_one_that_exists_is_not_created_again(self, armed: Armed) -> None:
        armed.scheduler.create("c-1", AT)
        assert armed.scheduler.create("c-1", LATER) == "conflict"
        assert armed.times() == [AT]

    def test_one_that_exists_is_updated(self, armed: Armed) -> None:
        armed.scheduler.create("c-1", AT)
        assert armed.scheduler.update("c-1", LATER) == "done"
        assert armed.times() == [LATER]

    def test_one_that_does_not_exist_is_not_updated_into_being(self, armed: Armed) -> None:
        assert armed.scheduler.update("c-1", AT) == "absent"
        assert armed.times() == []

    def test_one_that_exists_is_deleted_and_can_be_created_anew(self, armed: Armed) -> None:
        armed.scheduler.create("c-1", AT)
        assert armed.scheduler.delete("c-1") is True
        assert armed.times() == []
        assert armed.scheduler.create("c-1", LATER) == "done"

    def test_deleting_what_does_not_exist_is_success(self, armed: Armed) -> None:
        assert armed.scheduler.delete("c-1") is True

    def test_conversations_do_not_touch_each_others_schedules(self, armed: Armed) -> None:
        armed.scheduler.create("c-1", AT)
        armed.scheduler.create("C-1", LATER)
        armed.scheduler.delete("c-1")
        assert armed.times() == [LATER]


# --- exact requests --------------------------------------------------------------------------------------------------

STUB = tuple[EventBridgeScheduler, Stubber]


@pytest.fixture
def stub() -> Iterator[STUB]:
    client = new_client()
    with Stubber(client) as stubber:
        yield adapter(client), stubber
        stubber.assert_no_pending_responses()


def request_for(conversation_id: str) -> dict[str, Any]:
    """Written out once more, by hand: every option, and no ClientToken."""
    return {
        "Name": conversation_id,
        "GroupName": "conversation-timers",
        "ScheduleExpression": "at(2026-01-01T12:00:05)",
        "ScheduleExpressionTimezone": "UTC",
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "State": "ENABLED",
        "ActionAfterCompletion": "NONE",
        "Target": {
            "Arn": "arn:aws:lambda:us-east-1:123456789012:function:cleanup:live",
            "RoleArn": "arn:aws:iam::123456789012:role/schedules",
            "Input": (
                '{"version": 1, "conversation_id": "' + conversation_id + '",'
                ' "scheduled_for": "<aws.scheduler.scheduled-time>",'
                ' "execution_id": "<aws.scheduler.execution-id>", "source": "schedule"}'
            ),
            "RetryPolicy": {"MaximumEventAgeInSeconds": 60, "MaximumRetryAttempts": 3},
            "DeadLetterConfig": {"Arn": "arn:aws:sqs:us-east-1:123456789012:failures"},
        },
    }


class TestRequests:
    def test_a_schedule_is_created_with_every_option(self, stub: STUB) -> None:
        scheduler, stubber = stub
        stubber.add_response("create_schedule", {"ScheduleArn": "arn:aws:scheduler"}, request_for("c-1"))
        assert scheduler.create("c-1", AT) == "done"

    def test_an_update_sends_every_option_again(self, stub: STUB) -> None:
        scheduler, stubber = stub
        stubber.add_response("update_schedule", {"ScheduleArn": "arn:aws:scheduler"}, request_for("c-1"))
        assert scheduler.update("c-1", AT) == "done"

    def test_a_delete_names_the_group(self, stub: STUB) -> None:
        scheduler, stubber = stub
        stubber.add_response("delete_schedule", {}, {"Name": "c-1", "GroupName": GROUP})
        assert scheduler.delete("c-1") is True

    @pytest.mark.parametrize(
        ("at", "text"),
        [
            (0, "at(1970-01-01T00:00:00)"),
            (1_709_251_199_000, "at(2024-02-29T23:59:59)"),
            (253_402_300_799_000, "at(9999-12-31T23:59:59)"),
        ],
    )
    def test_times_are_whole_seconds_in_utc_without_a_zone(self, at: int, text: str) -> None:
        assert adapter(new_client()).definition("c-1", at)["ScheduleExpression"] == text


class TestInput:
    def test_an_id_that_reads_like_a_placeholder_is_not_one(self) -> None:
        assert firing_input("<aws.scheduler.execution-id>") == (
            '{"version": 1, "conversation_id": "\\u003caws.scheduler.execution-id>",'
            ' "scheduled_for": "<aws.scheduler.scheduled-time>",'
            ' "execution_id": "<aws.scheduler.execution-id>", "source": "schedule"}'
        )

    @given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
    @example("<aws.scheduler.scheduled-time>")
    @example('"\\\0\\u0000\n🙂')
    def test_whatever_the_id_cleanup_gets_it_unchanged(self, conversation_id: str) -> None:
        sent = firing_input(conversation_id)
        assert sent.count("<aws.scheduler.") == 2
        as_scheduler_fills_it = sent.replace("<aws.scheduler.scheduled-time>", "T").replace(
            "<aws.scheduler.execution-id>", "E"
        )
        assert json.loads(as_scheduler_fills_it) == {
            "version": 1,
            "conversation_id": conversation_id,
            "scheduled_for": "T",
            "execution_id": "E",
            "source": "schedule",
        }


# --- answers ---------------------------------------------------------------------------------------------------------


class TestAnswers:
    @pytest.mark.parametrize(
        ("code", "status", "answer"),
        [
            ("ConflictException", 409, "conflict"),
            ("ThrottlingException", 429, "throttled"),
            ("TooManyRequestsException", 429, "throttled"),
        ],
    )
    @pytest.mark.parametrize("kind", ["create", "update"])
    def test_expected_refusals_are_answers(
        self, stub: STUB, kind: str, code: str, status: int, answer: str
    ) -> None:
        scheduler, stubber = stub
        stubber.add_client_error(f"{kind}_schedule", code, http_status_code=status)
        assert (scheduler.create if kind == "create" else scheduler.update)("c-1", AT) == answer

    def test_an_update_of_none_answers_absent(self, stub: STUB) -> None:
        scheduler, stubber = stub
        stubber.add_client_error("update_schedule", "ResourceNotFoundException", http_status_code=404)
        assert scheduler.update("c-1", AT) == "absent"

    def test_a_create_in_a_group_that_is_gone_is_an_error_not_an_answer(self, stub: STUB) -> None:
        scheduler, stubber = stub
        stubber.add_client_error("create_schedule", "ResourceNotFoundException", http_status_code=404)
        with pytest.raises(TimerNotArmedError):
            scheduler.create("c-1", AT)

    @pytest.mark.parametrize(
        "code",
        [
            "ValidationException",
            "InternalServerException",
            "ServiceQuotaExceededException",
            "AccessDeniedException",
        ],
    )
    @pytest.mark.parametrize("kind", ["create", "update"])
    def test_anything_else_that_keeps_a_timer_from_being_set_raises(
        self, stub: STUB, kind: str, code: str
    ) -> None:
        scheduler, stubber = stub
        stubber.add_client_error(f"{kind}_schedule", code)
        with pytest.raises(ClientError, match=code):
            (scheduler.create if kind == "create" else scheduler.update)("c-1", AT)

    def test_deleting_none_is_success(self, stub: STUB) -> None:
        scheduler, stubber = stub
        stubber.add_client_error("delete_schedule", "ResourceNotFoundException", http_status_code=404)
        assert scheduler.delete("c-1") is True

    @pytest.mark.parametrize(
        "code",
        ["ThrottlingException", "ConflictException", "InternalServerException", "AccessDeniedException"],
    )
    def test_a_refused_delete_is_told_and_does_not_raise(self, stub: STUB, code: str) -> None:
        scheduler, stubber = stub
        stubber.add_client_error("delete_schedule", code)
        assert scheduler.delete("c-1") is False

    @pytest.mark.parametrize(
        "error",
        [
            EndpointConnectionError(endpoint_url="https://scheduler"),
            ReadTimeoutError(endpoint_url="https://scheduler"),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_a_delete_that_reaches_nobody_does_not_raise(
        self, error: Exception, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client = new_client()

        def unreachable(**request: Any) -> None:
            raise error

        monkeypatch.setattr(client, "delete_schedule", unreachable)
        assert adapter(client).delete("c-1") is False


# --- names -----------------------------------------------------------------------------------------------------------

SERVICE = botocore.session.get_session().get_service_model("scheduler")
NAME_LIMITS = SERVICE.shape_for("Name").metadata
LEGAL = st.text("abcXYZ019-_.", min_size=1, max_size=66)
ANY = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=70)
LOOKALIKES = (LEGAL | ANY).map(schedule_name)  # the name that one id has, used as another's id
IDS = LEGAL | ANY | LOOKALIKES | LOOKALIKES.map(schedule_name)


def is_a_legal_name(name: str) -> bool:
    """By AWS's own model, and not a path of its own in a URL."""
    return (
        re.fullmatch(NAME_LIMITS["pattern"], name) is not None
        and NAME_LIMITS["min"] <= len(name) <= NAME_LIMITS["max"]
        and name not in (".", "..")
    )


class TestNames:
    @pytest.mark.parametrize("conversation_id", ["c-1", "a", "A_b.c-9", "...", ".a", "a.", "-", "x" * 64])
    def test_a_legal_id_is_its_own_name(self, conversation_id: str) -> None:
        assert is_a_legal_name(conversation_id)
        assert schedule_name(conversation_id) == conversation_id

    @pytest.mark.parametrize(
        "conversation_id",
        [
            ".",
            "..",
            "x" * 65,
            "x" * 512,
            "a b",
            "a/b",
            "a\n",
            "é",
            "e\u0301",
            "日本",
            "🙂",
            "a\0",
            "<x>",
            "١",
        ],
    )
    def test_any_other_id_gets_a_legal_name(self, conversation_id: str) -> None:
        assert is_a_legal_name(schedule_name(conversation_id))
        assert schedule_name(conversation_id) != conversation_id

    def test_a_hashed_name_starts_with_what_people_look_for(self) -> None:
        assert schedule_name("whatsapp:+49 170").startswith("whatsapp__49_170._")

    def test_names_do_not_change_between_releases(self) -> None:
        assert schedule_name("a b") == "a_b._c8687a08aa5d6ed2044328fa6a697ab8"

    def test_an_id_that_looks_like_a_hashed_name_is_hashed_too(self) -> None:
        somebody_elses = schedule_name("a b")
        assert schedule_name(somebody_elses) != somebody_elses
        assert is_a_legal_name(schedule_name(somebody_elses))

    @hypothesis_settings(deadline=None)
    @given(IDS)
    def test_whatever_the_id_its_name_is_legal(self, conversation_id: str) -> None:
        assert is_a_legal_name(schedule_name(conversation_id))

    @hypothesis_settings(deadline=None)
    @given(st.lists(IDS, min_size=2, max_size=6, unique=True), st.data())
    def test_two_ids_never_share_a_name(self, ids: list[str], data: st.DataObject) -> None:
        everybody = {*ids, *(schedule_name(each) for each in ids)}
        assert len({schedule_name(each) for each in everybody}) == len(everybody)
