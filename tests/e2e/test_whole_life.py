"""The whole life of a conversation on the deployed local stack: warnings, hand-offs, ends, reopenings, the caller's code.

Each scenario is mostly waiting, so all of them run at the same time, each on a conversation of its own; a test asks for
what became of one.
"""

import io
import json
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.e2e.conftest import BUILD
from tests.local.stack import REGION, REPOSITORY, LocalStack, Outcome

ACCOUNT = "000000000000"
INSTANCE = f"arn:aws:connect:{REGION}:{ACCOUNT}:instance/12345678-1234-1234-1234-123456789012"
LEX = {"bot_id": "BOT1234567", "bot_alias_id": "ALIAS12345", "locale_id": "en_US"}
STAGES = [{"name": "still_there", "after": "PT4S"}, {"name": "offer_call", "after": "PT8S"}]
NOTICE = 4.0  # seconds between two of these steps, and from the last to the end
LATEST = 60.0  # seconds after the due time: everything at once, maybe beside other tests, and one scenario kills cleanup
POLL_SECONDS = 0.4  # by each scenario, and the emulator has other things to do

Scenario = Callable[["Stack", str], None]
SCENARIOS: dict[str, Scenario] = {}

# The caller's own code: what it remembers stands in a table that is not ours.
END_HOOK = """
import boto3

def handler(outcome, context):
    boto3.client("dynamodb").update_item(
        TableName="own-store",
        Key={"outcome_id": {"S": outcome["id"]}},
        UpdateExpression="SET conversation_id = :id, reason = :reason ADD calls :one",
        ExpressionAttributeValues={
            ":id": {"S": outcome["conversation_id"]}, ":reason": {"S": outcome["reason"]}, ":one": {"N": "1"}
        },
    )
"""
END_CHECK = """
import math, time

def handler(conversation, context):
    left = float(conversation["attributes"].get("busy_until", 0)) - time.time()
    return {"may_end": True} if left <= 0 else {"may_end": False, "ask_again_in": math.ceil(left)}
"""


class Stack(LocalStack):
    """A stack of our own, with an end hook, an end check, Amazon Connect and Lex."""

    def touch(self, conversation_id: str, **fields: Any) -> dict[str, Any]:
        """A message."""
        answer: dict[str, Any] = self.invoke("touch", {"conversation_id": conversation_id, **fields})
        return answer

    def lifecycle(self, action: str, conversation_id: str, **fields: Any) -> dict[str, Any]:
        """A lifecycle event of the backend."""
        event = {"action": action, "conversation_id": conversation_id, **fields}
        answer: dict[str, Any] = self.invoke("lifecycle", event)
        return answer

    def connect(self, kind: str, contact: str, **detail: Any) -> None:
        """As EventBridge brings it: asynchronously. Nobody but AWS may put events of the source aws.connect."""
        now = {"connectedToAgentTimestamp": datetime.now(UTC).isoformat()}
        content = {"eventType": kind, "contactId": contact, "channel": "CHAT", "agentInfo": now, **detail}
        self.send({"detail-type": "Amazon Connect Contact Event", "detail": content})

    def send(self, event: dict[str, Any]) -> None:
        """To lifecycle, in EventBridge's envelope."""
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        self.invoke("lifecycle", {"version": "0", "source": "aws.connect", "time": now, **event}, event=True)

    def told(self, conversation_id: str, type_: str = "") -> list[Outcome]:
        """The outcomes of a conversation as they happened, repeats left out, as every consumer must."""
        found = {o.body["id"]: o for o in self.outcomes() if o.body["conversation_id"] == conversation_id}
        return sorted((o for o in found.values() if type_ in ("", o.type)), key=lambda o: int(o.body["seq"]))

    def wait_for(
        self, conversation_id: str, type_: str, count: int = 1, timeout: float = 90
    ) -> list[Outcome]:
        """So many outcomes of a type."""
        until(lambda: len(self.told(conversation_id, type_)) >= count, timeout, f"{conversation_id}: {type_}")
        return self.told(conversation_id, type_)

    def item(self, conversation_id: str) -> dict[str, Any]:
        """As it stands in the table."""
        answer = self.client("dynamodb").get_item(
            TableName=self.outputs["ConversationsTableName"],
            Key={"conversation_id": {"S": conversation_id}},
            ConsistentRead=True,
        )
        found: dict[str, Any] = answer.get("Item", {})
        return found

    def state(self, conversation_id: str) -> str:
        """active, paused or ended."""
        return str(self.item(conversation_id)["state"]["S"])

    def timeline(self, conversation_id: str) -> str:
        """Its outcomes in seconds since it was first opened."""
        item = self.item(conversation_id)
        opened_at = int(item["history"]["L"][0]["S"].split()[0]) / 1_000 if item else 0
        parts = [
            f"{seconds(o.body['occurred_at']) - opened_at:.1f} s {o.type.removeprefix('Conversation')}"
            f" {o.body.get('stage') or o.body.get('reason') or ''}".rstrip()
            for o in self.told(conversation_id)
        ]
        return f"{conversation_id}: {', '.join(parts) or 'nothing'}"

    def session(self, conversation_id: str) -> None:
        """A session of the application."""
        self.redis.set(f"session:{conversation_id}", "basket", ex=600)

    def has_session(self, conversation_id: str) -> bool:
        """Whether it is still there, or there again."""
        return bool(self.redis.exists(f"session:{conversation_id}"))

    def own_store(self, conversation_id: str) -> dict[str, int]:
        """What the end hook has written: outcome id -> how often it was called with it."""
        items = self.client("dynamodb").scan(TableName="own-store")["Items"]
        return {
            item["outcome_id"]["S"]: int(item["calls"]["N"])
            for item in items
            if item["conversation_id"]["S"] == conversation_id
        }

    def add_role(self, name: str) -> None:
        """A role for the caller's functions, which may write to the store of their own."""
        trust = {
            "Effect": "Allow",
            "Principal": {"Service": "lambda.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
        may = {
            "Effect": "Allow",
            "Action": "dynamodb:UpdateItem",
            "Resource": f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/own-store",
        }
        iam = self.client("iam")
        iam.create_role(
            RoleName=name,
            AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
        )
        iam.put_role_policy(
            RoleName=name,
            PolicyName="write",
            PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [may]}),
        )

    def add_function(self, name: str, code: str) -> None:
        """Deploy a function that is the caller's."""
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            archive.writestr("app.py", code)
        self.client("lambda").create_function(
            FunctionName=name,
            Runtime="python3.13",
            Handler="app.handler",
            Role=f"arn:aws:iam::{ACCOUNT}:role/own-code",
            Code={"ZipFile": content.getvalue()},
            Timeout=15,
            Environment={"Variables": {"AWS_ENDPOINT_URL": ""}},
        )


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """In place of the shared one: a stack with everything switched on."""
    functions = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function"
    parameters = {
        "EndHookFunctionArn": f"{functions}:own-end-hook",
        "EndCheckFunctionArn": f"{functions}:own-end-check",
        "ConnectEvents": "true",
        "ConnectInstanceArn": INSTANCE,
        "StopConnectContact": "true",
        "LexBotAliasArns": f"arn:aws:lex:{REGION}:{ACCOUNT}:bot-alias/BOT1234567/ALIAS12345",
        "RedriveDelaySeconds": "1",
    }
    with Stack(build=BUILD, parameters=parameters, enforce_iam=True) as running:
        running.add_role("own-code")
        running.client("dynamodb").create_table(
            TableName="own-store",
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": "outcome_id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "outcome_id", "AttributeType": "S"}],
        )
        running.add_function("own-end-hook", END_HOOK)
        running.add_function("own-end-check", END_CHECK)
        yield running


@pytest.fixture(autouse=True)
def no_faults_left() -> None:
    """Not here: the scenarios outlive the test that started them."""


@pytest.fixture(scope="module")
def running(stack: Stack) -> Iterator[dict[str, Future[None]]]:
    """All scenarios, under way."""
    stack.faults.answer("connect", "StopContact", {}, times=0, contains="alive")
    stack.faults.answer("lex", "DeleteSession", {}, times=0, contains="alive")
    stack.faults.refuse("connect", "StopContact", "ContactNotFoundException", 410, times=0, contains="gone")
    stack.faults.refuse("lex", "DeleteSession", "ResourceNotFoundException", 404, times=0, contains="gone")
    with ThreadPoolExecutor(len(SCENARIOS)) as pool:
        started = {}
        for name, function in SCENARIOS.items():
            started[name] = pool.submit(run, function, stack, name.replace("_", "-"))
            time.sleep(POLL_SECONDS)  # a function's process serves the next one, too, instead of each its own
        yield started


def run(function: Scenario, stack: Stack, conversation_id: str) -> None:
    """One scenario; `pytest -s` shows what was told, and when."""
    function(stack, conversation_id)
    print(stack.timeline(conversation_id))


def scenario(function: Scenario) -> Scenario:
    """Run it with the others; it gets the stack and a conversation id."""
    SCENARIOS[function.__name__] = function
    return function


def until(condition: Callable[[], Any], timeout: float, what: str) -> None:
    """Wait; TimeoutError after so many seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout} s for {what}")
        time.sleep(POLL_SECONDS)


def seconds(time_: str) -> float:
    """RFC 3339 -> epoch seconds."""
    return datetime.fromisoformat(time_).timestamp()


def decided(outcome: Outcome) -> float:
    """When it was decided, epoch seconds."""
    return seconds(outcome.body["proof"]["decided_at"])


def check_gone(stack: Stack, conversation_id: str) -> None:
    """Ended: no schedule is left, and no session."""
    assert stack.state(conversation_id) == "ended"
    until(lambda: not stack.has_session(conversation_id), 60, "the session to go")
    assert conversation_id not in stack.schedules()


# --- a full life -----------------------------------------------------------------------------------------------------


@scenario
def silence_is_warned_about_twice_and_then_ends_it(stack: Stack, conversation_id: str) -> None:
    stack.session(conversation_id)
    opened = stack.touch(conversation_id, stages=STAGES, idle_timeout="PT12S")
    first, second = stack.wait_for(conversation_id, "ConversationWarned", 2)
    assert [first.body["stage"], second.body["stage"]] == ["still_there", "offer_call"]
    assert decided(first) >= seconds(opened["last_activity_at"]) + NOTICE
    assert decided(second) >= decided(first) + NOTICE
    [ended] = stack.wait_for(conversation_id, "ConversationEnded")
    assert decided(ended) >= decided(second) + NOTICE
    assert decided(ended) <= seconds(second.body["ends_at"]) + LATEST
    assert ended.body["reason"] == "idle_timeout"
    check_gone(stack, conversation_id)


@scenario
def a_message_after_the_first_warning_starts_over(stack: Stack, conversation_id: str) -> None:
    stack.touch(conversation_id, stages=STAGES, idle_timeout="PT12S")
    stack.wait_for(conversation_id, "ConversationWarned")
    answered = stack.touch(conversation_id)
    assert seconds(answered["due_at"]) <= seconds(answered["last_activity_at"]) + NOTICE + 1
    [ended] = stack.wait_for(conversation_id, "ConversationEnded")
    warnings = stack.told(conversation_id, "ConversationWarned")
    later = [w for w in warnings if decided(w) > seconds(answered["last_activity_at"])]
    assert len(later) < len(warnings)
    assert [w.body["stage"] for w in later] == ["still_there", "offer_call"]
    assert decided(later[0]) >= seconds(answered["last_activity_at"]) + NOTICE
    assert decided(ended) >= seconds(answered["last_activity_at"]) + 12


@scenario
def a_pause_holds_past_the_timeout_and_a_timeout_after_the_resumption_it_ends(
    stack: Stack, conversation_id: str
) -> None:
    stack.session(conversation_id)
    stack.touch(conversation_id, idle_timeout="PT10S", connect_contact_id=f"{conversation_id}-alive")
    stack.connect("CONNECTED_TO_AGENT", f"{conversation_id}-alive")
    stack.wait_for(conversation_id, "ConversationPaused")
    time.sleep(14)
    assert stack.state(conversation_id) == "paused"
    assert stack.has_session(conversation_id)
    resumed = stack.lifecycle("resume", conversation_id)
    assert resumed["state"] == "active"
    [ended] = stack.wait_for(conversation_id, "ConversationEnded")
    assert seconds(resumed["last_activity_at"]) + 10 <= decided(ended) <= seconds(resumed["due_at"]) + LATEST
    check_gone(stack, conversation_id)


@scenario
def the_agents_disconnected_ends_it_at_once(stack: Stack, conversation_id: str) -> None:
    """In the spelling of the other documented samples; repeats change nothing."""
    contact = f"{conversation_id}-alive"
    stack.session(conversation_id)
    stack.touch(conversation_id, idle_timeout="PT5M", connect_contact_id=contact)
    stack.connect("CONNECTED_TO_AGENT", contact)
    stack.wait_for(conversation_id, "ConversationPaused")
    detail = {"EventType": "DISCONNECTED", "ContactId": contact, "Channel": "CHAT"}
    over = {
        "detail-type": "Connect Customer Contact Event",
        "detail": {
            **detail,
            "DisconnectReason": "AGENT_DISCONNECT",
            "DisconnectTimestamp": datetime.now(UTC).isoformat(),
        },
    }
    before = time.time()
    stack.send(over)
    [ended] = stack.wait_for(conversation_id, "ConversationEnded")
    assert ended.received_at - before < LATEST
    assert ended.body["reason"] == "agent_ended"
    check_gone(stack, conversation_id)
    stack.send(over)
    stack.connect("CONNECTED_TO_AGENT", contact, agentInfo={"connectedToAgentTimestamp": over_since(before)})
    time.sleep(4)
    assert stack.state(conversation_id) == "ended"
    assert len(stack.told(conversation_id, "ConversationEnded")) == 1
    assert not stack.calls("connect", "StopContact", contains=contact)  # the contact is over already


def over_since(moment: float) -> str:
    """A second before, as an event writes it."""
    return datetime.fromtimestamp(moment - 1, UTC).isoformat()


@scenario
def a_transfer_keeps_the_link_and_the_first_agents_end_ends_nothing(
    stack: Stack, conversation_id: str
) -> None:
    first, second = f"{conversation_id}-alive-1", f"{conversation_id}-alive-2"
    stack.touch(conversation_id, idle_timeout="PT5M", connect_contact_id=first)
    stack.connect("CONNECTED_TO_AGENT", first)
    stack.wait_for(conversation_id, "ConversationPaused")
    chain = {"initiationMethod": "TRANSFER", "initialContactId": first, "previousContactId": first}
    stack.connect("INITIATED", second, **chain)
    until(lambda: stack.calls("dynamodb", "PutItem", contains=f"{first}#transferred"), 60, "the transfer")
    stack.connect("DISCONNECTED", first)
    until(lambda: '"transferred"' in stack.logs("lifecycle"), 60, "the first agent's end to be ignored")
    assert stack.state(conversation_id) == "paused"
    stack.connect("DISCONNECTED", second, disconnectReason="CUSTOMER_DISCONNECT", **chain)
    [ended] = stack.wait_for(conversation_id, "ConversationEnded")
    assert ended.body["reason"] == "customer_disconnected"
    assert [o.type for o in stack.told(conversation_id)] == ["ConversationPaused", "ConversationEnded"]


@scenario
def contacts_that_nobody_linked_are_ignored_and_counted(stack: Stack, conversation_id: str) -> None:
    stack.connect("DISCONNECTED", conversation_id)
    until(lambda: '"not_linked"' in stack.logs("lifecycle"), 60, "the event to be counted")
    assert stack.calls("dynamodb", contains=f"contact#{conversation_id}")
    assert {call.operation for call in stack.calls("dynamodb", contains=conversation_id)} == {"GetItem"}


# --- lateness and crashes --------------------------------------------------------------------------------------------


@scenario
def a_warning_that_was_not_published_is_published_by_the_retry_under_its_id(
    stack: Stack, conversation_id: str
) -> None:
    # Two of the SDK's own tries make one failed invocation.
    with stack.faults.refuse("sns", "Publish", contains=conversation_id, times=2) as refused:
        stack.touch(conversation_id, stages=STAGES[:1], idle_timeout="PT30S")
        [warned] = stack.wait_for(conversation_id, "ConversationWarned")
        assert refused.hits == 2
    tried = stack.calls("sns", "Publish", contains=warned.body["id"])
    assert len(tried) >= 3
    assert len({call.params["Message"] for call in tried}) == 1  # word for word
    assert stack.lifecycle("end", conversation_id)["state"] == "ended"
    stack.wait_for(conversation_id, "ConversationEnded")
    assert [o.type for o in stack.told(conversation_id)] == ["ConversationWarned", "ConversationEnded"]


@scenario
def a_firing_later_than_every_stage_does_one_and_the_notice_stays_whole(
    stack: Stack, conversation_id: str
) -> None:
    """Scheduler's call is kept for longer than both stages and the whole timeout."""
    with stack.faults.hold("lambda", "Invoke", contains=conversation_id, function="scheduler") as late:
        opened = stack.touch(conversation_id, stages=STAGES, idle_timeout="PT12S")
        late.wait_held(timeout=60)
        time.sleep(max(0.0, seconds(opened["last_activity_at"]) + 14 - time.time()))
    first, second = stack.wait_for(conversation_id, "ConversationWarned", 2)
    [ended] = stack.wait_for(conversation_id, "ConversationEnded")
    assert [o.type for o in stack.told(conversation_id)] == [
        "ConversationWarned",
        "ConversationWarned",
        "ConversationEnded",
    ]
    assert decided(first) >= seconds(opened["last_activity_at"]) + 14
    assert seconds(first.body["ends_at"]) >= decided(first) + 2 * NOTICE
    assert decided(second) >= decided(first) + NOTICE
    assert decided(ended) >= decided(second) + NOTICE


# --- order -----------------------------------------------------------------------------------------------------------


@scenario
def what_comes_out_of_order_is_said_to_be_stale(stack: Stack, conversation_id: str) -> None:
    def now() -> str:
        time.sleep(0.01)
        return datetime.now(UTC).isoformat()

    stack.touch(conversation_id, idle_timeout="PT5M")
    pause, resume = {"occurred_at": now()}, {"occurred_at": now()}
    assert stack.lifecycle("pause", conversation_id, **pause)["state"] == "paused"
    assert stack.lifecycle("resume", conversation_id, **resume)["state"] == "active"
    again = stack.lifecycle("pause", conversation_id, **pause)
    assert (again["result"], again["state"]) == ("stale", "active")

    end = {"occurred_at": now(), "reason": "agent_ended"}
    stack.session(conversation_id)
    assert stack.lifecycle("end", conversation_id, **end)["state"] == "ended"
    until(lambda: not stack.has_session(conversation_id), 60, "the session to go")
    reopened = stack.touch(conversation_id, occurred_at=now())
    assert (reopened["result"], reopened["session"]) == ("reopened", "restoring")
    late = stack.lifecycle("end", conversation_id, **end)
    assert (late["result"], late["state"], late["generation"]) == ("stale", "active", 2)
    until(lambda: stack.has_session(conversation_id), 60, "the session to come back")
    [told] = stack.wait_for(conversation_id, "ConversationReopened")
    assert told.body["previous_end_reason"] == "agent_ended"


# --- the caller's own code -------------------------------------------------------------------------------------------


@scenario
def the_end_hook_writes_once_per_opening_through_a_crash(stack: Stack, conversation_id: str) -> None:
    """Cleanup dies after the hook was invoked and before the outbox entry is removed."""
    opened = stack.touch(conversation_id, idle_timeout="PT5S")
    first = f"{opened['opening_id']}-2"
    with stack.faults.crash("lambda", "Invoke", function="cleanup", contains=first, after=True) as crash:
        crash.wait_hit(timeout=60)
    [ended] = stack.wait_for(conversation_id, "ConversationEnded")
    assert ended.body["id"] == first
    [(written, calls)] = stack.own_store(conversation_id).items()
    assert (written, calls > 1) == (first, True)
    assert stack.touch(conversation_id)["result"] == "reopened"
    stack.lifecycle("end", conversation_id, reason="customer_left")
    _, again = stack.wait_for(conversation_id, "ConversationEnded", 2)
    assert set(stack.own_store(conversation_id)) == {first, again.body["id"]}


@scenario
def not_yet_keeps_it_active_for_as_long_as_the_end_check_asked(stack: Stack, conversation_id: str) -> None:
    stack.touch(conversation_id)
    busy_until = time.time() + 20
    stack.touch(conversation_id, idle_timeout="PT5S", attributes={"busy_until": str(busy_until)})
    states = set()
    while time.time() < busy_until:
        state = stack.state(conversation_id)
        states |= {state} if time.time() < busy_until else set()
        time.sleep(POLL_SECONDS)
    assert states == {"active"}
    [ended] = stack.wait_for(conversation_id, "ConversationEnded")
    assert busy_until <= decided(ended) <= busy_until + LATEST
    assert len(stack.calls("lambda", "Invoke", function="cleanup", contains=str(busy_until))) >= 2


@scenario
def a_message_after_a_not_yet_is_honoured(stack: Stack, conversation_id: str) -> None:
    stack.touch(conversation_id)
    busy_until = time.time() + 20
    stack.touch(conversation_id, idle_timeout="PT5S", attributes={"busy_until": str(busy_until)})
    time.sleep(max(0.0, busy_until - 1 - time.time()))
    message = stack.touch(conversation_id)
    assert message["result"] == "recorded"
    [ended] = stack.wait_for(conversation_id, "ConversationEnded")
    assert ended.body["proof"]["last_activity_at"] == message["last_activity_at"]
    assert decided(ended) >= seconds(message["last_activity_at"]) + 5


# --- Lex and Connect -------------------------------------------------------------------------------------------------


def end_with_bots(stack: Stack, conversation_id: str, fate: str) -> None:
    name = f"{conversation_id}-{fate}"
    stack.touch(
        conversation_id, idle_timeout="PT5S", lex={**LEX, "session_id": name}, connect_contact_id=name
    )
    [ended] = stack.wait_for(conversation_id, "ConversationEnded")
    assert ended.body["reason"] == "idle_timeout"
    [deleted] = stack.calls("lex", "DeleteSession", contains=name)
    assert deleted.params == {
        "botId": "BOT1234567",
        "botAliasId": "ALIAS12345",
        "localeId": "en_US",
        "sessionId": name,
    }
    [stopped] = stack.calls("connect", "StopContact", contains=name)
    assert stopped.params == {"ContactId": name, "InstanceId": INSTANCE.rpartition("/")[2]}


@scenario
def an_idle_end_deletes_the_lex_session_and_stops_the_contact(stack: Stack, conversation_id: str) -> None:
    end_with_bots(stack, conversation_id, "alive")


@scenario
def bots_that_are_gone_already_are_no_failure(stack: Stack, conversation_id: str) -> None:
    end_with_bots(stack, conversation_id, "gone")


# --- the rule --------------------------------------------------------------------------------------------------------


def test_the_rule_passes_contact_events_of_the_instance_on_to_lifecycle(stack: Stack) -> None:
    events = stack.client("events")
    rule = stack.resources["ConnectRule"].rpartition("|")[2]
    pattern = events.describe_rule(Name=rule)["EventPattern"]
    [target] = events.list_targets_by_rule(Rule=rule)["Targets"]
    assert target["Arn"] == stack.outputs["LifecycleFunctionArn"]
    samples = [json.loads(file.read_text()) for file in REPOSITORY.glob("events/lifecycle-connect-*.json")]

    def passes(event: dict[str, Any]) -> bool:
        return bool(events.test_event_pattern(EventPattern=pattern, Event=json.dumps(event))["Result"])

    assert len({sample["detail-type"] for sample in samples}) == 2
    assert all(passes({**sample, "resources": [INSTANCE]}) for sample in samples)
    assert not any(passes(sample) for sample in samples)  # of another instance
    assert not passes({**samples[0], "resources": [INSTANCE], "source": "aws.scheduler"})


@pytest.mark.parametrize("name", SCENARIOS)
def test(name: str, running: dict[str, Future[None]]) -> None:
    """Each scenario above."""
    running[name].result(timeout=120)
