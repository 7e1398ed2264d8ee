"""Our own functions, invoked by each other and waited for."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger
from botocore.exceptions import ReadTimeoutError

from idle_timer.adapters.aws import AwsError, error_code
from idle_timer.upkeep_ports import Call, FunctionName, Reply

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

CALLS_AT_A_TIME = 10  # botocore's connection pool; the rest of a batch of 20 waits for a second round
READ_TIMEOUT_SECONDS = 65  # cleanup, the slowest, is killed after 60

_logger = Logger(child=True)


class LambdaFunctions:
    """See `ports.Functions`. `arns`: the functions' aliases, by verb."""

    def __init__(self, make_client: Callable[[], "LambdaClient"], arns: Mapping[FunctionName, str]) -> None:
        self._make_client = make_client
        self._arns = arns

    def call_each(self, calls: Sequence[Call]) -> Iterator[tuple[Call, Reply]]:
        """In a few threads. Whoever stops listening, say at its deadline, does not wait for the rest."""
        if not calls:
            return
        self._make_client()  # made once, before the threads would make one each
        pool = ThreadPoolExecutor(min(CALLS_AT_A_TIME, len(calls)))
        try:
            running = {pool.submit(self._call, call): call for call in calls}
            for done in as_completed(running):
                yield running[done], done.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _call(self, call: Call) -> Reply:
        try:
            answer = self._make_client().invoke(
                FunctionName=self._arns[call.function],
                InvocationType="RequestResponse",
                Payload=json.dumps(call.event).encode(),
            )
            payload = json.loads(answer["Payload"].read() or b"null")
        except ReadTimeoutError:
            reply = Reply(error="ReadTimeout", message=f"{call.function} did not answer in time")
        except AwsError as error:  # throttled, refused, not there
            code = error_code(error) or type(error).__name__
            reply = Reply(error=code, message=f"{call.function} could not be invoked", reached=False)
        else:
            reply = _reply(payload, failed="FunctionError" in answer)
        if reply.error is not None:
            _logger.warning(
                "a call failed",
                extra={"function": call.function, "error": reply.error, "reached": reply.reached},
            )
        return reply


class SweepContinuation:
    """See `ports.Continuation`. `own_arn`: the sweep's alias."""

    def __init__(self, client: "LambdaClient", own_arn: str) -> None:
        self._client = client
        self._own_arn = own_arn

    def hand_over(self, run: str, handovers: int) -> None:
        """An event invocation: answered when Lambda has queued it."""
        event = {"version": 1, "source": "handover", "run": run, "handovers": handovers}
        self._client.invoke(
            FunctionName=self._own_arn, InvocationType="Event", Payload=json.dumps(event).encode()
        )


def _reply(payload: Any, *, failed: bool) -> Reply:
    body = payload if isinstance(payload, dict) else {}
    if failed:
        return Reply(error=str(body.get("errorType") or "Error"), message=str(body.get("errorMessage") or ""))
    return Reply(answer=body)
