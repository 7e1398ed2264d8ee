"""A stack with everything switched on and authorization enforced, and a run through all that its functions can do."""

import io
import json
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import Any

import boto3

from tests.local.stack import REGION, REPOSITORY, LocalStack, Session, eventually
from tests.prove.policies import ACCOUNT, Json

STACK_NAME = "privilege"
INSTANCE = f"arn:aws:connect:{REGION}:{ACCOUNT}:instance/12345678-1234-1234-1234-123456789012"
BOT_ALIAS = f"arn:aws:lex:{REGION}:{ACCOUNT}:bot-alias/BOT1234567/ALIAS12345"
FUNCTIONS = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function"
LEX = {"bot_id": "BOT1234567", "bot_alias_id": "ALIAS12345", "locale_id": "en_US"}
EVERYTHING = {
    "BackendAccountId": "111122223333",
    "ConnectEvents": "true",
    "ConnectInstanceArn": INSTANCE,
    "EndCheckFunctionArn": f"{FUNCTIONS}:own-end-check",
    "EndHookFunctionArn": f"{FUNCTIONS}:own-end-hook",
    "LexBotAliasArns": BOT_ALIAS,
    "RedriveDelaySeconds": "1",
    "SessionUrlSecretArn": f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:url-abc123",
    "StopConnectContact": "true",
    "SweepGraceSeconds": "1",
    "SweepPeriodMinutes": "1",
    "TimerSlackSeconds": "1",
}
PATIENCE_SECONDS = 150.0  # everything at once, on a small machine
TRIES = 6  # calls after which an event has failed for good: Lambda's three times botocore's two

OWN_FUNCTION = """
def handler(event, context):
    return {"may_end": True}
"""
Step = Callable[["Everything", str], None]
STEPS: dict[str, Step] = {}


def step(function: Step) -> Step:
    """Run it with the others; it gets the stack and a conversation id of its own."""
    STEPS[function.__name__] = function
    return function


class Backend(Session):
    """The stack as the backend reaches it: with nothing but the InvokePolicy."""

    def __init__(self, stack: LocalStack) -> None:
        super().__init__(stack.describe())
        iam = stack.client("iam")
        iam.create_user(UserName="backend")
        iam.attach_user_policy(UserName="backend", PolicyArn=stack.outputs["InvokePolicyArn"])
        key = iam.create_access_key(UserName="backend")["AccessKey"]
        self.principal = str(key["AccessKeyId"])
        new_client: Any = boto3.client  # its overloads want a literal service name
        self._clients["lambda"] = new_client(
            "lambda",
            endpoint_url=self.endpoint_url,
            region_name=REGION,
            aws_access_key_id=self.principal,
            aws_secret_access_key=key["SecretAccessKey"],
        )

    def function_name(self, function: str) -> str:
        """The alias's ARN, as the outputs have it: MiniStack does not see the alias in a Qualifier."""
        return self.outputs[f"{function.capitalize()}FunctionArn"]


class Everything(LocalStack):
    """A stack with everything switched on."""

    def set_up(self) -> None:
        """The caller's own functions, and stand-ins for what is not emulated."""
        trust = {
            "Effect": "Allow",
            "Principal": {"Service": "lambda.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
        self.client("iam").create_role(
            RoleName="own-code",
            AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
        )
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            archive.writestr("app.py", OWN_FUNCTION)
        for name in ("own-end-check", "own-end-hook"):
            self.client("lambda").create_function(
                FunctionName=name,
                Runtime="python3.13",
                Handler="app.handler",
                Role=f"arn:aws:iam::{ACCOUNT}:role/own-code",
                Code={"ZipFile": content.getvalue()},
            )
        self.faults.answer("connect", "StopContact", {}, times=0)
        self.faults.answer("lex", "DeleteSession", {}, times=0)
        # Its sweeps would meet the faults that are meant for ours.
        self.client("events").disable_rule(Name=self.resources["SweepFunctionPeriod"].rpartition("|")[2])
        self.backend = Backend(self)

    def touch(self, conversation_id: str, **fields: Any) -> Json:
        """A message."""
        answer: Json = self.backend.invoke("touch", {"conversation_id": conversation_id, **fields})
        return answer

    def lifecycle(self, action: str, conversation_id: str, **fields: Any) -> Json:
        """A lifecycle event of the backend."""
        event = {"action": action, "conversation_id": conversation_id, **fields}
        answer: Json = self.backend.invoke("lifecycle", event)
        return answer

    def inspect(self, action: str, **fields: Any) -> Json:
        """An operator."""
        answer: Json = self.backend.invoke("inspect", {"action": action, **fields})
        return answer

    def connect(self, kind: str, contact: str, **detail: Any) -> None:
        """As EventBridge brings it."""
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        agent = {"connectedToAgentTimestamp": datetime.now(UTC).isoformat()}
        content = {"eventType": kind, "contactId": contact, "channel": "CHAT", "agentInfo": agent, **detail}
        event = {"detail-type": "Amazon Connect Contact Event", "source": "aws.connect", "detail": content}
        self.invoke("lifecycle", {"version": "0", "time": now, **event}, event=True)

    def wait_for(self, conversation_id: str, type_: str) -> None:
        """An outcome."""
        eventually(
            lambda: any(
                o.type == type_ and o.body["conversation_id"] == conversation_id for o in self.outcomes()
            ),
            PATIENCE_SECONDS,
            f"{conversation_id}: {type_}",
        )

    def wait_call(self, service: str, operation: str, *, function: str, contains: str = "") -> None:
        """A call on the record."""
        eventually(
            lambda: self.calls(service, operation, function=function, contains=contains),
            PATIENCE_SECONDS,
            f"{function}: {service} {operation} {contains}",
        )


@step
def a_whole_life(stack: Everything, conversation_id: str) -> None:
    """Opened, silent, ended with all end actions, reopened, ended by the backend."""
    stack.redis.set(f"session:{conversation_id}", "basket", ex=600)
    lex = {**LEX, "session_id": conversation_id}
    stack.touch(conversation_id, idle_timeout="PT2S", lex=lex, connect_contact_id=f"{conversation_id}-c")
    stack.wait_for(conversation_id, "ConversationEnded")
    stack.touch(conversation_id, idle_timeout="PT5M")
    stack.touch(conversation_id, idle_timeout="PT10M")  # longer: looks again
    stack.lifecycle("end", conversation_id)


@step
def handed_to_an_agent(stack: Everything, conversation_id: str) -> None:
    """Paused by Connect, transferred, extended, resumed; a timer that is gone is made anew."""
    first, second = f"{conversation_id}-1", f"{conversation_id}-2"
    stack.touch(conversation_id, connect_contact_id=first)
    stack.connect("CONNECTED_TO_AGENT", first)
    stack.wait_for(conversation_id, "ConversationPaused")
    chain = {"initiationMethod": "TRANSFER", "initialContactId": first, "previousContactId": first}
    stack.connect("INITIATED", second, **chain)
    stack.wait_call("dynamodb", "PutItem", function="lifecycle", contains=second)
    stack.client("scheduler").delete_schedule(
        Name=conversation_id, GroupName=stack.outputs["ScheduleGroupName"]
    )
    stack.lifecycle("resume", conversation_id)
    until = datetime.fromtimestamp(time.time() + 900, UTC).isoformat()
    stack.lifecycle("extend", conversation_id, until=until)
    status = stack.inspect("status", conversation_id=conversation_id)
    assert status["state"] == "active", status
    stack.inspect("explain", conversation_id=conversation_id)
    stack.inspect("forget", conversation_id=conversation_id)


@step
def rearmed_where_the_old_timer_would_not_go(stack: Everything, conversation_id: str) -> None:
    """cleanup meets a schedule that it could not delete."""
    stack.touch(conversation_id, idle_timeout="PT5M")
    refused = stack.faults.refuse(
        "scheduler", "DeleteSchedule", "ConflictException", 409, function="cleanup", contains=conversation_id
    )
    answer = stack.invoke("cleanup", {"version": 1, "conversation_id": conversation_id, "source": "schedule"})
    assert answer["decision"] == "rearmed", answer
    refused.remove()


@step
def a_touch_that_fails_is_redriven(stack: Everything, conversation_id: str) -> None:
    stack.faults.refuse("dynamodb", "UpdateItem", times=TRIES, function="touch", contains=conversation_id)
    stack.backend.invoke("touch", {"conversation_id": conversation_id, "idle_timeout": "PT5M"}, event=True)
    stack.wait_call("lambda", "Invoke", function="redrive", contains=conversation_id)


@step
def a_lifecycle_event_that_fails_is_redriven(stack: Everything, conversation_id: str) -> None:
    stack.touch(conversation_id)
    stack.faults.refuse(
        "dynamodb", "BatchGetItem", times=TRIES, function="lifecycle", contains=conversation_id
    )
    event = {"action": "pause", "conversation_id": conversation_id}
    stack.backend.invoke("lifecycle", event, event=True)
    stack.wait_for(conversation_id, "ConversationPaused")


@step
def a_cleanup_that_keeps_failing_is_redriven(stack: Everything, conversation_id: str) -> None:
    refused = stack.faults.refuse("sns", "Publish", times=0, function="cleanup", contains=conversation_id)
    stack.touch(conversation_id, idle_timeout="PT2S")
    stack.wait_call("dynamodb", "PutItem", function="redrive", contains=conversation_id)
    refused.remove()
    stack.wait_for(conversation_id, "ConversationEnded")


@step
def an_event_that_nobody_can_read_is_parked(stack: Everything, conversation_id: str) -> None:
    stack.client("sqs").send_message(QueueUrl=stack.outputs["FailureQueueUrl"], MessageBody="unreadable")
    stack.wait_call("sqs", "SendMessage", function="redrive", contains="unreadable")


@step
def an_event_that_cleanup_is_too_busy_for_is_put_off(stack: Everything, conversation_id: str) -> None:
    event = {"version": 1, "conversation_id": conversation_id, "source": "schedule"}
    stack.faults.refuse(
        "lambda",
        "Invoke",
        "TooManyRequestsException",
        429,
        times=2,
        function="redrive",
        contains=conversation_id,
    )
    stack.client("sqs").send_message(QueueUrl=stack.outputs["FailureQueueUrl"], MessageBody=json.dumps(event))
    stack.wait_call("sqs", "ChangeMessageVisibility", function="redrive")


@step
def a_firing_that_cannot_be_delivered_goes_to_the_failure_queue(
    stack: Everything, conversation_id: str
) -> None:
    refused = stack.faults.refuse(
        "lambda", "Invoke", "ServiceException", 500, times=0, function="scheduler", contains=conversation_id
    )
    stack.touch(conversation_id, idle_timeout="PT2S")
    stack.wait_call("sqs", "SendMessage", function="scheduler", contains=conversation_id)
    refused.remove()
    stack.wait_for(conversation_id, "ConversationEnded")


def operators(stack: Everything) -> None:
    """Lists, the hold, and events put back, once there are some."""
    for which in ("overdue", "pending", "failed", "parked"):
        stack.inspect("list", which=which)
    stack.inspect("hold", on=True)
    assert stack.invoke("sweep", _rule())["result"] == "resting"
    stack.inspect("hold", on=False)
    stack.inspect("retry", which="events")
    stack.inspect("retry", which="parked")


def sweeping(stack: Everything) -> None:
    """A sweep that finds somebody whom cleanup fails on; and one that has to hand over to itself."""
    failing, slow = "overdue-failing", "overdue-slow"
    group = stack.outputs["ScheduleGroupName"]
    for conversation_id in (failing, slow):
        stack.touch(conversation_id, idle_timeout="PT2S")
        stack.client("scheduler").delete_schedule(Name=conversation_id, GroupName=group)
    stack.touch("alive", idle_timeout="PT10M")  # for the audit
    refused = stack.faults.refuse("dynamodb", "PutItem", times=0, function="cleanup", contains=failing)
    held = stack.faults.hold("lambda", "Invoke", function="sweep", contains=slow)
    eventually(
        lambda: (
            {failing, slow}
            <= {row["conversation_id"] for row in stack.inspect("list", which="overdue")["conversations"]}
        ),
        PATIENCE_SECONDS,
        "both to be overdue",
    )
    with ThreadPoolExecutor(1) as pool, _short_of_time(stack):
        first = pool.submit(stack.invoke, "sweep", _rule())
        stack.wait_call("lambda", "Invoke", function="sweep", contains='"handover"')
        held.remove()
        first.result()
    stack.wait_for(slow, "ConversationEnded")
    eventually(
        lambda: stack.calls("dynamodb", "PutItem", function="sweep") or not stack.invoke("sweep", _rule()),
        PATIENCE_SECONDS,
        "the sweep to count a failure",
    )
    refused.remove()


class _short_of_time:  # noqa: N801 - used like a function
    """Another Lambda time for the sweep, as a new version behind its alias."""

    def __init__(self, stack: Everything) -> None:
        self._client, self._name = stack.client("lambda"), stack.function_name("sweep")

    def __enter__(self) -> None:
        self._set(8)

    def __exit__(self, *exception: object) -> None:
        self._set(120)

    def _set(self, seconds: int) -> None:
        self._client.update_function_configuration(FunctionName=self._name, Timeout=seconds)
        version = self._client.publish_version(FunctionName=self._name)["Version"]
        self._client.update_alias(FunctionName=self._name, Name="live", FunctionVersion=version)


def _rule() -> Json:
    event: Json = json.loads((REPOSITORY / "events" / "sweep.json").read_text())
    return event


LAST_STEPS = (sweeping, operators)


def drive(stack: Everything) -> list[str]:
    """The steps at once, as most of it is waiting, and the rest after them; what did not come about, if anything.

    A sweep takes whoever is overdue, also those whose timer (at least 5 s ahead, whatever their timeout) a step awaits.
    """
    for function in ("touch", "lifecycle"):
        stack.backend.invoke(function, {"conversation_id": "", "never": "valid"}, event=True)
    began, trouble = time.monotonic(), list[str]()

    def attempt(name: str, each: Callable[[], None]) -> None:
        try:
            each()
        except Exception as error:  # noqa: BLE001 - told with the others'
            trouble.append(f"{name}: {error!r}")
        print(f"    {time.monotonic() - began:3.0f} s: {name}", flush=True)

    with ThreadPoolExecutor(len(STEPS)) as pool:
        for name, each in STEPS.items():
            pool.submit(attempt, name, partial(each, stack, name.replace("_", "-")[:40]))
    for last in LAST_STEPS:
        attempt(last.__name__, partial(last, stack))
    return trouble
