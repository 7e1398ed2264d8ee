"""Other Lambda functions: cleanup, which works off outboxes, and the caller's own end check and end hook."""

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from idle_timer.errors import UnavailableError
from idle_timer.timestamps import parse_duration

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

MAX_WAIT_SECONDS = 2_592_000  # 30 days, as every timeout


class CleanupHandover:
    """See `ports.Handover`. The client is made at the first use: most messages need none."""

    def __init__(self, make_client: Callable[[], "LambdaClient"], cleanup_arn: str) -> None:
        self._make_client = make_client
        self._cleanup_arn = cleanup_arn

    def to_cleanup(self, conversation_id: str, source: str) -> None:
        """An event invocation: answered when Lambda has queued it."""
        event = {"version": 1, "conversation_id": conversation_id, "source": source}
        self._make_client().invoke(
            FunctionName=self._cleanup_arn, InvocationType="Event", Payload=json.dumps(event).encode()
        )


class CallersFunctions:
    """See `ports.CallersCode`."""

    def __init__(
        self, make_client: Callable[[], "LambdaClient"], *, end_check_arn: str, end_hook_arn: str
    ) -> None:
        self._make_client = make_client
        self._end_check_arn = end_check_arn
        self._end_hook_arn = end_hook_arn

    def may_end(self, conversation: Mapping[str, Any]) -> int:
        """Expects {"may_end": true} or {"may_end": false, "ask_again_in": "PT5M" or seconds}.

        Raises UnavailableError when it fails or answers anything else: the conversation is neither ended nor forgotten.
        """
        answer = self._invoke(self._end_check_arn, conversation, "end check")
        if not isinstance(answer, dict) or not isinstance(answer.get("may_end"), bool):
            raise UnavailableError('the end check must answer {"may_end": true or false}')
        if answer["may_end"]:
            return 0
        try:
            wait_seconds = parse_duration(answer.get("ask_again_in"))
        except ValueError as problem:
            raise UnavailableError(f"the end check's ask_again_in {problem}") from None
        if not 1 <= wait_seconds <= MAX_WAIT_SECONDS:
            raise UnavailableError(f"the end check's ask_again_in must be 1 to {MAX_WAIT_SECONDS} seconds")
        return wait_seconds

    def run_end_hook(self, outcome: Mapping[str, Any]) -> None:
        """Waits for the answer, whatever it is; raises UnavailableError when the hook fails."""
        self._invoke(self._end_hook_arn, outcome, "end hook")

    def _invoke(self, arn: str, event: Mapping[str, Any], what: str) -> Any:
        answer = self._make_client().invoke(
            FunctionName=arn, InvocationType="RequestResponse", Payload=json.dumps(event).encode()
        )
        payload = answer["Payload"].read()
        if "FunctionError" in answer:
            raise UnavailableError(f"the {what} failed")
        try:
            return json.loads(payload or b"null")
        except ValueError:
            raise UnavailableError(f"the {what} did not answer JSON") from None
