"""Other functions: cleanup, the end check and the end hook. Exact requests, and every answer that they can give."""

import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.response import StreamingBody
from botocore.stub import Stubber

from idle_timer.adapters.functions import CallersFunctions, CleanupHandover
from idle_timer.errors import UnavailableError

CLEANUP = "arn:aws:lambda:us-east-1:123456789012:function:cleanup:live"
CHECK = "arn:aws:lambda:us-east-1:123456789012:function:check"
HOOK = "arn:aws:lambda:us-east-1:123456789012:function:hook"


@pytest.fixture
def stubber() -> Iterator[Stubber]:
    client = boto3.client(
        "lambda",
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106 - nobody's
    )
    with Stubber(client) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


def client_of(stubber: Stubber) -> Callable[[], Any]:
    return lambda: stubber.client


def callers(stubber: Stubber) -> CallersFunctions:
    return CallersFunctions(client_of(stubber), end_check_arn=CHECK, end_hook_arn=HOOK)


def answers(
    stubber: Stubber, payload: bytes, *, error: str | None = None, request: dict[str, Any] | None = None
) -> None:
    answer: dict[str, Any] = {
        "StatusCode": 200,
        "Payload": StreamingBody(io.BytesIO(payload), len(payload)),
    }
    stubber.add_response("invoke", answer | ({"FunctionError": error} if error else {}), request)


class TestHandover:
    def test_cleanup_is_invoked_asynchronously_by_its_alias(self, stubber: Stubber) -> None:
        stubber.add_response(
            "invoke",
            {"StatusCode": 202},
            {
                "FunctionName": CLEANUP,
                "InvocationType": "Event",
                "Payload": b'{"version": 1, "conversation_id": "c-1", "source": "outbox"}',
            },
        )
        CleanupHandover(client_of(stubber), CLEANUP).to_cleanup("c-1", "outbox")

    def test_no_client_is_made_before_it_is_needed(self) -> None:
        def make_client() -> Any:
            raise AssertionError

        CleanupHandover(make_client, CLEANUP)
        CallersFunctions(make_client, end_check_arn="", end_hook_arn="")

    def test_a_refusal_raises(self, stubber: Stubber) -> None:
        stubber.add_client_error("invoke", "TooManyRequestsException")
        with pytest.raises(ClientError):
            CleanupHandover(client_of(stubber), CLEANUP).to_cleanup("c-1", "outbox")


class TestEndCheck:
    def test_it_is_asked_and_waited_for(self, stubber: Stubber) -> None:
        answers(
            stubber,
            b'{"may_end": true}',
            request={
                "FunctionName": CHECK,
                "InvocationType": "RequestResponse",
                "Payload": b'{"conversation_id": "\\ud83d\\ude42"}',
            },
        )
        assert callers(stubber).may_end({"conversation_id": "🙂"}) == 0

    @pytest.mark.parametrize(
        ("wait", "seconds"), [("PT5M", 300), (1, 1), (2_592_000, 2_592_000), ("P30D", 2_592_000)]
    )
    def test_not_yet_says_when_to_ask_again(self, stubber: Stubber, wait: object, seconds: int) -> None:
        answers(stubber, json.dumps({"may_end": False, "ask_again_in": wait}).encode())
        assert callers(stubber).may_end({}) == seconds

    @pytest.mark.parametrize(
        "answer",
        [
            "null",
            "true",
            "[]",
            "{}",
            '{"may_end": null}',
            '{"may_end": "false"}',
            '{"may_end": 1}',
            '{"may_end": false}',
            '{"may_end": false, "ask_again_in": null}',
            '{"may_end": false, "ask_again_in": 0}',
            '{"may_end": false, "ask_again_in": -1}',
            '{"may_end": false, "ask_again_in": true}',
            '{"may_end": false, "ask_again_in": 2592001}',
            '{"may_end": false, "ask_again_in": "soon"}',
            "not json",
            "",
        ],
    )
    def test_any_other_answer_is_a_failure_and_never_a_yes(self, stubber: Stubber, answer: str) -> None:
        answers(stubber, answer.encode())
        with pytest.raises(UnavailableError):
            callers(stubber).may_end({})

    def test_a_function_error_is_a_failure_whatever_it_says(self, stubber: Stubber) -> None:
        answers(stubber, b'{"may_end": true}', error="Unhandled")
        with pytest.raises(UnavailableError):
            callers(stubber).may_end({})

    def test_what_the_function_said_is_not_repeated_in_the_error(self, stubber: Stubber) -> None:
        answers(stubber, b'{"errorMessage": "secret"}', error="Unhandled")
        with pytest.raises(UnavailableError) as raised:
            callers(stubber).may_end({})
        assert "secret" not in str(raised.value)


class TestEndHook:
    OUTCOME: dict[str, Any] = {"id": "o-1-2", "type": "ConversationEnded"}  # noqa: RUF012 - never changed

    @pytest.mark.parametrize("answer", [b"null", b"", b'"done"', b"{}"])
    def test_it_is_given_the_outcome_and_may_answer_anything(self, stubber: Stubber, answer: bytes) -> None:
        answers(
            stubber,
            answer,
            request={
                "FunctionName": HOOK,
                "InvocationType": "RequestResponse",
                "Payload": b'{"id": "o-1-2", "type": "ConversationEnded"}',
            },
        )
        callers(stubber).run_end_hook(self.OUTCOME)

    @pytest.mark.parametrize("error", ["Unhandled", "Handled"])
    def test_a_function_error_is_a_failure(self, stubber: Stubber, error: str) -> None:
        answers(stubber, b"{}", error=error)
        with pytest.raises(UnavailableError):
            callers(stubber).run_end_hook(self.OUTCOME)

    def test_a_hook_that_cannot_be_invoked_is_a_failure(self, stubber: Stubber) -> None:
        stubber.add_client_error("invoke", "ResourceNotFoundException")
        with pytest.raises(ClientError):
            callers(stubber).run_end_hook(self.OUTCOME)
