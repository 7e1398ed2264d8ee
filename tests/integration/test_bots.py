"""Amazon Lex V2 and Amazon Connect: exact requests; what is gone already is success."""

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from idle_timer.adapters.bots import LexAndConnect

LEX = {"bot_id": "B" * 10, "bot_alias_id": "A" * 10, "locale_id": "en_US", "session_id": "s-1"}
KEYS: dict[str, Any] = {
    "region_name": "us-east-1",
    "aws_access_key_id": "test",
    "aws_secret_access_key": "test",
}


@pytest.fixture
def lex() -> Iterator[Stubber]:
    with Stubber(boto3.client("lexv2-runtime", **KEYS)) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


@pytest.fixture
def connect() -> Iterator[Stubber]:
    with Stubber(boto3.client("connect", **KEYS)) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


def bots(stubber: Stubber, service: str) -> LexAndConnect:
    def clients(wanted: str) -> Any:
        assert wanted == service
        return stubber.client

    return LexAndConnect(clients, "instance-1")


def test_a_lex_session_is_deleted(lex: Stubber) -> None:
    request = {"botId": "B" * 10, "botAliasId": "A" * 10, "localeId": "en_US", "sessionId": "s-1"}
    lex.add_response("delete_session", {}, request)
    bots(lex, "lexv2-runtime").delete_lex_session(LEX)


def test_a_lex_session_that_is_gone_is_success(lex: Stubber) -> None:
    lex.add_client_error("delete_session", "ResourceNotFoundException")
    bots(lex, "lexv2-runtime").delete_lex_session(LEX)


@pytest.mark.parametrize("code", ["ConflictException", "ThrottlingException", "AccessDeniedException"])
def test_a_lex_session_that_was_not_deleted_is_a_failure(lex: Stubber, code: str) -> None:
    lex.add_client_error("delete_session", code)
    with pytest.raises(ClientError, match=code):
        bots(lex, "lexv2-runtime").delete_lex_session(LEX)


def test_a_contact_is_stopped(connect: Stubber) -> None:
    connect.add_response("stop_contact", {}, {"ContactId": "contact-1", "InstanceId": "instance-1"})
    bots(connect, "connect").stop_contact("contact-1")


@pytest.mark.parametrize("code", ["ContactNotFoundException", "ResourceNotFoundException"])
def test_a_contact_that_has_ended_is_success(connect: Stubber, code: str) -> None:
    connect.add_client_error("stop_contact", code)
    bots(connect, "connect").stop_contact("contact-1")


@pytest.mark.parametrize("code", ["InvalidRequestException", "InternalServiceException"])
def test_a_contact_that_was_not_stopped_is_a_failure(connect: Stubber, code: str) -> None:
    connect.add_client_error("stop_contact", code)
    with pytest.raises(ClientError, match=code):
        bots(connect, "connect").stop_contact("contact-1")


def test_no_client_is_made_before_it_is_needed() -> None:
    def clients(wanted: str) -> Any:
        raise AssertionError(wanted)

    LexAndConnect(clients, "instance-1")
