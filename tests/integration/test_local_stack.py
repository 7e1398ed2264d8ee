"""The local stack itself: each mend at work, and a word when a new MiniStack no longer needs it.

Runs a small application of its own, so that nothing here depends on the real one.
"""

import contextlib
import functools
import importlib.metadata
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.local.stack import REPOSITORY, FunctionError, LocalStack, LocalStackError, Session, eventually

TEMPLATE = """
AWSTemplateFormatVersion: "2010-09-09"
Transform: AWS::Serverless-2016-10-31
Parameters:
  Architecture: {Type: String}
  SessionUrlSecretArn: {Type: String}
  Greeting: {Type: String, Default: none}
Resources:
  EchoFunction:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: echo/
      Handler: app.handler
      Runtime: python3.13
      Architectures: [!Ref Architecture]
      Timeout: 20
      AutoPublishAlias: live
      Environment:
        Variables: {GREETING: !Ref Greeting, SECRET: !Ref SessionUrlSecretArn, AWS_ENDPOINT_URL: ""}
      Policies:
        - Version: "2012-10-17"
          Statement:
            - {Effect: Allow, Action: "scheduler:*", Resource: !Sub "arn:aws:scheduler:*:*:schedule/${Group}/*"}
            - {Effect: Allow, Action: "sns:Publish", Resource: !Ref Topic}
            - Effect: Allow
              Action: iam:PassRole
              Resource: !Sub "arn:aws:iam::${AWS::AccountId}:role/*GoodRole*"
              Condition: {StringEquals: {iam:PassedToService: scheduler.amazonaws.com}}
            - {Effect: Allow, Action: "secretsmanager:GetSecretValue", Resource: !Ref SessionUrlSecretArn}
      EventInvokeConfig:
        MaximumRetryAttempts: 2
        DestinationConfig:
          OnFailure: {Type: SQS, Destination: !GetAtt Failures.Arn}
  FromQueueFunction:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: echo/
      Handler: app.handler
      Runtime: python3.13
      Architectures: [!Ref Architecture]
      Timeout: 3
      AutoPublishAlias: live
      Events:
        Queue: {Type: SQS, Properties: {Queue: !GetAtt Source.Arn, BatchSize: 1}}
  Source: {Type: AWS::SQS::Queue}
  Failures: {Type: AWS::SQS::Queue}
  Undelivered: {Type: AWS::SQS::Queue}
  Topic: {Type: AWS::SNS::Topic}
  Group: {Type: AWS::Scheduler::ScheduleGroup, Properties: {Name: test-group}}
  GoodRole:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument: &trust
        Version: "2012-10-17"
        Statement: [{Effect: Allow, Principal: {Service: scheduler.amazonaws.com}, Action: sts:AssumeRole}]
      Policies:
        - PolicyName: target
          PolicyDocument:
            Version: "2012-10-17"
            Statement:
              - {Effect: Allow, Action: lambda:InvokeFunction, Resource: !Ref EchoFunction.Alias}
              - {Effect: Allow, Action: sqs:SendMessage, Resource: !GetAtt Undelivered.Arn}
  PoorRole:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument: *trust
      Policies:
        - PolicyName: target
          PolicyDocument:
            Version: "2012-10-17"
            Statement: [{Effect: Allow, Action: sqs:SendMessage, Resource: !GetAtt Undelivered.Arn}]
  TlsOnly:
    Type: AWS::SNS::TopicPolicy
    Properties:
      Topics: [!Ref Topic]
      PolicyDocument:
        Version: "2012-10-17"
        Statement:
          - Effect: Deny
            Principal: "*"
            Action: sns:Publish
            Resource: !Ref Topic
            Condition: {Bool: {aws:SecureTransport: false}}
  Rule:
    Type: AWS::Events::Rule
    Properties:
      EventPattern: {source: [test.rule]}
      Targets: [{Id: echo, Arn: !Ref EchoFunction.Alias}]
Outputs:
  EchoFunctionArn: {Value: !Ref EchoFunction.Alias}
  OutcomeTopicArn: {Value: !Ref Topic}
  ScheduleGroupName: {Value: !Ref Group}
  SourceUrl: {Value: !Ref Source}
  FailuresUrl: {Value: !Ref Failures}
  UndeliveredUrl: {Value: !Ref Undelivered}
  UndeliveredArn: {Value: !GetAtt Undelivered.Arn}
  GoodRoleArn: {Value: !GetAtt GoodRole.Arn}
  PoorRoleArn: {Value: !GetAtt PoorRole.Arn}
"""

FUNCTION = """
import json, os, sys, time, importlib.util
import boto3


class TooBadError(Exception):
    pass


def handler(event, context):
    print(json.dumps({"seen": event, "arn": context.invoked_function_arn, "request_id": context.aws_request_id}))
    do = event.get("do")
    if do == "raise":
        raise TooBadError("no good")
    if do == "delete":
        boto3.client("scheduler").delete_schedule(Name=event["name"], GroupName=event["group"])
    if do == "create":
        boto3.client("scheduler").create_schedule(**event["schedule"])
    if do == "publish":
        boto3.client("sns").publish(TopicArn=event["topic"], Message=json.dumps(event), MessageAttributes={
            "type": {"DataType": "String", "StringValue": "Test"}})
    return {
        "arn": context.invoked_function_arn,
        "name": os.environ["AWS_LAMBDA_FUNCTION_NAME"],
        "remaining": context.get_remaining_time_in_millis(),
        "environment": dict(os.environ),
        "importable": [name for name in ("boto3", "pydantic", "ministack", "pytest") if importlib.util.find_spec(name)],
        "pid": os.getpid(),
    }
"""


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("application")
    (root / "echo").mkdir()
    (root / "echo" / "app.py").write_text(FUNCTION)
    (root / "template.yaml").write_text(TEMPLATE)
    return root


@pytest.fixture(scope="module")
def stack(application: Path) -> Iterator[LocalStack]:
    with LocalStack(
        template=application / "template.yaml",
        build_directory=application / ".aws-sam" / "build",
        parameters={"Greeting": 'two "words"'},
        stack_name="local-stack-test",
    ) as running:
        yield running


@pytest.fixture(autouse=True)
def _no_faults_left(stack: LocalStack) -> Iterator[None]:
    yield
    stack.faults.clear()


def at(seconds: float) -> tuple[str, datetime]:
    """An expression for the first whole second that is so far away, and that second."""
    due = (datetime.now(UTC) + timedelta(seconds=seconds + 1)).replace(microsecond=0)
    return f"at({due:%Y-%m-%dT%H:%M:%S})", due


def definition(
    stack: Session, payload: dict[str, Any], expression: str = "", **target: Any
) -> dict[str, Any]:
    return {
        "GroupName": stack.outputs["ScheduleGroupName"],
        "ScheduleExpression": expression or at(0)[0],
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "Target": {
            "Arn": stack.outputs["EchoFunctionArn"],
            "RoleArn": stack.outputs["GoodRoleArn"],
            "Input": json.dumps(payload),
            **target,
        },
    }


def runs(stack: Session, mark: str, function: str = "echo") -> list[dict[str, Any]]:
    """What each run printed whose event holds the mark."""
    lines = [
        line for line in stack.logs(function).splitlines() if line.startswith('{"seen"') and mark in line
    ]
    return [json.loads(line) for line in lines]


def messages(stack: Session, url: str, mark: str) -> list[dict[str, Any]]:
    """Takes what is in a queue and holds the mark."""
    found = stack.client("sqs").receive_message(
        QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], VisibilityTimeout=0
    )
    return [message for message in found.get("Messages", []) if mark in message["Body"]]


@pytest.fixture
def mark() -> str:
    return uuid.uuid4().hex


# --- Functions ------------------------------------------------------------------------------------------------


def test_functions_see_what_the_real_runtime_shows_them(stack: LocalStack) -> None:
    seen = stack.invoke("EchoFunctionArn", {})

    assert seen["arn"] == stack.outputs["EchoFunctionArn"]
    assert seen["arn"].endswith(":live")
    assert seen["name"] == stack.function_name("echo")
    assert 15_000 < seen["remaining"] <= 20_000
    assert seen["importable"] == ["boto3"]
    environment = seen["environment"]
    assert environment["GREETING"] == 'two "words"'
    assert environment["AWS_EXECUTION_ENV"] == "AWS_Lambda_python3.13"
    assert environment["AWS_ENDPOINT_URL"] == stack.endpoint_url
    assert not {"GATEWAY_PORT", "STATE_DIR", "PERSIST_STATE", "HOME", "TMPDIR", "VIRTUAL_ENV"} & set(
        environment
    )


def test_an_error_keeps_its_type_and_its_environment(stack: LocalStack) -> None:
    before = stack.invoke("echo", {})["pid"]

    with pytest.raises(FunctionError, match="TooBadError: no good") as raised:
        stack.invoke("echo", {"do": "raise"})

    assert raised.value.record["stackTrace"]
    assert stack.invoke("echo", {})["pid"] == before
    assert "TooBadError: no good" in stack.logs("echo")


def test_the_session_url_is_in_the_secret(stack: LocalStack) -> None:
    arn = stack.invoke("echo", {})["environment"]["SECRET"]

    url = stack.client("secretsmanager").get_secret_value(SecretId=arn)["SecretString"]

    assert url == stack.redis_url
    assert stack.redis.ping()


def test_an_event_is_retried_with_one_request_id_then_sent_to_the_destination_of_its_alias(
    stack: LocalStack, mark: str
) -> None:
    stack.invoke("echo", {"do": "raise", "mark": mark}, event=True)

    eventually(lambda: messages(stack, stack.outputs["FailuresUrl"], mark), what="a failure record")
    [message] = messages(stack, stack.outputs["FailuresUrl"], mark)
    record = json.loads(message["Body"])
    tries = runs(stack, mark)
    assert len(tries) == 3
    assert {run["request_id"] for run in tries} == {record["requestContext"]["requestId"]}
    assert record["requestContext"]["functionArn"] == stack.outputs["EchoFunctionArn"]
    assert record["requestContext"]["condition"] == "RetriesExhausted"
    assert record["requestContext"]["approximateInvokeCount"] == 3
    assert record["requestPayload"] == {"do": "raise", "mark": mark}
    assert record["responsePayload"]["errorType"] == "TooBadError"


def test_a_rule_invokes_its_target_as_an_event(stack: LocalStack, mark: str) -> None:
    detail = json.dumps({"mark": mark})
    entry = {"Source": "test.rule", "DetailType": "test", "Detail": detail}
    with stack.faults.refuse(
        "lambda", "Invoke", contains=mark, function="events.amazonaws.com", times=0
    ) as refusal:
        stack.client("events").put_events(Entries=[entry])
        refusal.wait_hit()

    stack.client("events").put_events(Entries=[entry])

    eventually(lambda: len(runs(stack, mark)) == 1)
    assert runs(stack, mark)[0]["arn"] == stack.outputs["EchoFunctionArn"]


def test_a_queue_invokes_the_alias(stack: LocalStack, mark: str) -> None:
    stack.client("sqs").send_message(QueueUrl=stack.outputs["SourceUrl"], MessageBody=mark)

    eventually(lambda: len(runs(stack, mark, "FromQueue")) == 1)
    assert runs(stack, mark, "FromQueue")[0]["arn"].endswith(":live")


# --- Schedules ------------------------------------------------------------------------------------------------


def test_a_schedule_that_has_fired_fires_again_when_updated_and_when_made_anew(
    stack: LocalStack, mark: str
) -> None:
    scheduler, group = stack.client("scheduler"), stack.outputs["ScheduleGroupName"]
    dues = []
    for step in ("create", "update", "anew"):
        expression, due = at(0)
        dues.append(due.timestamp())
        wanted = {"Name": mark, **definition(stack, {"mark": mark}, expression)}
        if step == "anew":
            scheduler.delete_schedule(Name=mark, GroupName=group)
        (scheduler.update_schedule if step == "update" else scheduler.create_schedule)(**wanted)
        eventually(lambda: len(runs(stack, mark)) == len(dues), 10, f"firing after {step}")

    firings = stack.calls("lambda", "Invoke", function="scheduler.amazonaws.com", contains=mark)

    assert len(firings) == 3
    for wished, firing in zip(dues, firings, strict=True):
        assert 0 <= firing.time - wished < 2


def test_context_attributes_are_filled_in(stack: LocalStack, mark: str) -> None:
    expression, due = at(0)
    attributes = ("scheduled-time", "execution-id", "schedule-arn", "attempt-number")
    payload = {"mark": mark} | {name: f"<aws.scheduler.{name}>" for name in attributes}

    arn = stack.client("scheduler").create_schedule(Name=mark, **definition(stack, payload, expression))[
        "ScheduleArn"
    ]

    eventually(lambda: runs(stack, mark))
    [run] = runs(stack, mark)
    seen = run["seen"]
    assert seen["scheduled-time"] == f"{due:%Y-%m-%dT%H:%M:%SZ}"
    assert seen["schedule-arn"] == arn
    assert seen["attempt-number"] == "1"
    assert seen["execution-id"].isalnum()
    assert run["arn"] == stack.outputs["EchoFunctionArn"]


def test_a_scheduled_event_gets_lambdas_retries_and_destination(stack: LocalStack, mark: str) -> None:
    stack.client("scheduler").create_schedule(Name=mark, **definition(stack, {"do": "raise", "mark": mark}))

    eventually(lambda: messages(stack, stack.outputs["FailuresUrl"], mark), what="a failure record")
    assert len(runs(stack, mark)) == 3
    assert not messages(stack, stack.outputs["UndeliveredUrl"], mark)


def test_a_refused_delivery_is_tried_again(stack: LocalStack, mark: str) -> None:
    refusal = stack.faults.refuse("lambda", "Invoke", "TooManyRequestsException", 429, contains=mark, times=2)
    payload = {"mark": mark, "attempt": "<aws.scheduler.attempt-number>"}

    stack.client("scheduler").create_schedule(Name=mark, **definition(stack, payload))

    eventually(lambda: runs(stack, mark))
    assert refusal.hits == 2
    assert [run["seen"]["attempt"] for run in runs(stack, mark)] == ["3"]


def test_what_cannot_be_delivered_goes_to_the_dead_letter_queue(stack: LocalStack, mark: str) -> None:
    missing = stack.outputs["EchoFunctionArn"].replace("Echo", "Missing")
    expression, due = at(0)
    wanted = definition(
        stack,
        {"mark": mark},
        expression,
        Arn=missing,
        DeadLetterConfig={"Arn": stack.outputs["UndeliveredArn"]},
        RetryPolicy={"MaximumRetryAttempts": 2, "MaximumEventAgeInSeconds": 60},
    )

    arn = stack.client("scheduler").create_schedule(Name=mark, **wanted)["ScheduleArn"]

    eventually(lambda: messages(stack, stack.outputs["UndeliveredUrl"], mark), what="a dead letter")
    [letter] = messages(stack, stack.outputs["UndeliveredUrl"], mark)
    assert json.loads(letter["Body"]) == {"mark": mark}
    attributes = {name: value["StringValue"] for name, value in letter["MessageAttributes"].items()}
    assert attributes.pop("EXECUTION_ID")
    assert "not found" in attributes.pop("ERROR_MESSAGE").lower()
    assert attributes == {
        "ERROR_CODE": "ResourceNotFoundException",
        "EXHAUSTED_RETRY_CONDITION": "MaximumRetryAttempts",
        "IS_PAYLOAD_TRUNCATED": "false",
        "RETRY_ATTEMPTS": "2",
        "SCHEDULED_TIME": f"{due:%Y-%m-%dT%H:%M:%SZ}",
        "SCHEDULE_ARN": arn,
        "TARGET_ARN": missing,
    }


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"Name": "a" * 65}, "Name"),
        ({"Name": "a@b"}, "Name"),
        ({"GroupName": "gr(o)up"}, "GroupName"),
        ({"ScheduleExpression": "at(2099-01-01T00:00:00Z)"}, "Schedule Expression"),
        ({"ScheduleExpression": "at(2099-01-01T00:00:00.5)"}, "Schedule Expression"),
        ({"ScheduleExpression": "at(2099-02-30T00:00:00)"}, "Schedule Expression"),
        ({"ScheduleExpression": "in five minutes"}, "Schedule Expression"),
        ({"ScheduleExpressionTimezone": "Nowhere/Land"}, "Timezone"),
        ({"FlexibleTimeWindow": {"Mode": "SOMETIMES"}}, "Mode"),
        ({"ActionAfterCompletion": "KEEP"}, "ActionAfterCompletion"),
        ({"Description": "d" * 513}, "Description"),
    ],
)
@pytest.mark.parametrize("operation", ["create_schedule", "update_schedule"])
def test_a_schedule_that_aws_would_not_take_is_refused(
    stack: LocalStack, operation: str, change: dict[str, Any], problem: str
) -> None:
    scheduler = stack.client("scheduler")
    wanted = {"Name": "valid", **definition(stack, {}, "at(2099-01-01T00:00:00)"), **change}

    with pytest.raises(scheduler.exceptions.ValidationException, match=f"{problem}|No route"):
        getattr(scheduler, operation)(**wanted)


def test_unknown_groups_and_names_taken_are_told_apart(stack: LocalStack, mark: str) -> None:
    scheduler = stack.client("scheduler")
    wanted = {"Name": mark, **definition(stack, {}, "at(2099-01-01T00:00:00)")}

    with pytest.raises(scheduler.exceptions.ResourceNotFoundException):
        scheduler.create_schedule(**{**wanted, "GroupName": "nowhere"})
    with pytest.raises(scheduler.exceptions.ResourceNotFoundException):
        scheduler.update_schedule(**wanted)
    scheduler.create_schedule(**wanted)
    with pytest.raises(scheduler.exceptions.ConflictException):
        scheduler.create_schedule(**wanted)


def test_schedules_are_listed_in_pages(stack: LocalStack, mark: str) -> None:
    scheduler, group = stack.client("scheduler"), stack.outputs["ScheduleGroupName"]
    names = [f"{mark}-{number}" for number in range(5)]
    for name in names:
        scheduler.create_schedule(Name=name, **definition(stack, {}, "at(2099-01-01T00:00:00)"))

    pages = scheduler.get_paginator("list_schedules").paginate(
        GroupName=group, NamePrefix=mark, PaginationConfig={"PageSize": 2}
    )

    assert [[found["Name"] for found in page["Schedules"]] for page in pages] == [
        names[:2],
        names[2:4],
        names[4:],
    ]
    assert set(names) <= set(stack.schedules())
    with pytest.raises(scheduler.exceptions.ResourceNotFoundException):
        scheduler.list_schedules(GroupName="nowhere")


# --- Record and faults ----------------------------------------------------------------------------------------


def test_the_record_names_caller_operation_and_parameters(stack: LocalStack, mark: str) -> None:
    group, since = stack.outputs["ScheduleGroupName"], stack.last_call
    stack.client("scheduler").create_schedule(Name=mark, **definition(stack, {}, "at(2099-01-01T00:00:00)"))
    stack.invoke("echo", {"do": "delete", "name": mark, "group": group})
    stack.invoke("echo", {"do": "publish", "topic": stack.outputs["OutcomeTopicArn"], "mark": mark})

    made = stack.calls(function="echo", since=since)

    assert [(call.service, call.operation, call.status) for call in made] == [
        ("scheduler", "DeleteSchedule", 200),
        ("sns", "Publish", 200),
    ]
    assert made[0].params == {"Name": mark, "GroupName": group} | (
        {"ClientToken": made[0].params["ClientToken"]} if "ClientToken" in made[0].params else {}
    )
    assert made[0].principal == stack.function_name("echo")
    assert made[1].params["TopicArn"] == stack.outputs["OutcomeTopicArn"]
    [created] = stack.calls("scheduler", "CreateSchedule", contains=mark)
    assert created.principal == "test"
    [invoked, _] = stack.calls("lambda", "Invoke", since=since)
    assert invoked.params["Payload"] == {"do": "delete", "name": mark, "group": group}
    [outcome] = [found for found in stack.outcomes(at_least=1) if found.body.get("mark") == mark]
    assert outcome.attributes == {"type": "Test"}


def test_a_refusal_meets_only_what_it_was_set_for(stack: LocalStack, mark: str) -> None:
    scheduler, group = stack.client("scheduler"), stack.outputs["ScheduleGroupName"]
    refusal = stack.faults.refuse("scheduler", "GetSchedule", "ThrottlingException", 429, contains=mark)

    with pytest.raises(scheduler.exceptions.ResourceNotFoundException):
        scheduler.get_schedule(Name="other", GroupName=group)
    with pytest.raises(scheduler.exceptions.ThrottlingException):
        scheduler.get_schedule(Name=mark, GroupName=group)
    with pytest.raises(scheduler.exceptions.ResourceNotFoundException):
        scheduler.get_schedule(Name=mark, GroupName=group)

    assert refusal.hits == 1
    [refused, answered] = stack.calls("scheduler", "GetSchedule", contains=mark)
    assert (refused.status, refused.error) == (429, "ThrottlingException")
    assert (answered.status, answered.error) == (404, "ResourceNotFoundException")


@pytest.mark.parametrize("service", ["sns", "dynamodb", "sqs", "secretsmanager"])
def test_a_refusal_is_worded_as_each_protocol_wants_it(stack: LocalStack, service: str) -> None:
    operation = {
        "sns": "ListTopics",
        "dynamodb": "ListTables",
        "sqs": "ListQueues",
        "secretsmanager": "ListSecrets",
    }[service]
    client = stack.client(service)
    method = next(name for name, api in client.meta.method_to_api_mapping.items() if api == operation)

    with (
        stack.faults.refuse(service, operation, "Throttling", 400),
        pytest.raises(Exception, match="Throttling") as refused,
    ):
        getattr(client, method)()

    assert refused.value.response["Error"]["Code"] == "Throttling"  # type: ignore[attr-defined]


def test_a_refusal_afterwards_hides_that_the_call_took_effect(stack: LocalStack, mark: str) -> None:
    scheduler = stack.client("scheduler")
    stack.faults.refuse("scheduler", "CreateSchedule", contains=mark, after=True)

    with pytest.raises(scheduler.exceptions.InternalServerException):
        scheduler.create_schedule(Name=mark, **definition(stack, {}, "at(2099-01-01T00:00:00)"))

    assert mark in stack.schedules()


def test_a_held_call_waits_alone(stack: LocalStack, mark: str) -> None:
    scheduler = stack.client("scheduler")
    with (
        ThreadPoolExecutor() as pool,
        stack.faults.hold("scheduler", "CreateSchedule", contains=mark) as hold,
    ):
        creation = pool.submit(
            scheduler.create_schedule, Name=mark, **definition(stack, {}, "at(2099-01-01T00:00:00)")
        )
        hold.wait_held()

        assert mark not in stack.schedules()
        assert not creation.done()

        hold.release()
        creation.result(timeout=10)
    assert mark in stack.schedules()


def test_a_delayed_call_arrives_later(stack: LocalStack) -> None:
    stack.faults.delay("scheduler", "ListSchedules", 0.5)
    started = time.monotonic()

    stack.schedules()

    assert time.monotonic() - started >= 0.5


@pytest.mark.parametrize("after", [False, True])
def test_a_crash_ends_the_function_at_that_call(stack: LocalStack, mark: str, after: bool) -> None:
    group = stack.outputs["ScheduleGroupName"]
    stack.client("scheduler").create_schedule(Name=mark, **definition(stack, {}, "at(2099-01-01T00:00:00)"))
    before = stack.invoke("echo", {})["pid"]
    stack.faults.crash("scheduler", "DeleteSchedule", contains=mark, after=after)

    with pytest.raises(FunctionError):
        stack.invoke("echo", {"do": "delete", "name": mark, "group": group})

    assert (mark in stack.schedules()) is not after
    assert stack.invoke("echo", {})["pid"] != before


def test_a_crash_leaves_the_functions_other_environments_alone(stack: LocalStack, mark: str) -> None:
    group, slow, crashing = stack.outputs["ScheduleGroupName"], f"{mark}-slow", f"{mark}-crashing"
    for name in (slow, crashing):
        stack.client("scheduler").create_schedule(
            Name=name, **definition(stack, {}, "at(2099-01-01T00:00:00)")
        )
    with (
        ThreadPoolExecutor() as pool,
        stack.faults.hold("scheduler", "DeleteSchedule", contains=slow) as hold,
    ):
        deletion = pool.submit(stack.invoke, "echo", {"do": "delete", "name": slow, "group": group})
        hold.wait_held()
        stack.faults.crash("scheduler", "DeleteSchedule", contains=crashing)

        with pytest.raises(FunctionError):
            stack.invoke("echo", {"do": "delete", "name": crashing, "group": group})

        hold.release()
        deletion.result(timeout=10)
    assert slow not in stack.schedules()


def test_a_service_that_is_not_emulated_can_be_answered_for(stack: LocalStack) -> None:
    stack.faults.answer("lex", "DeleteSession", {"sessionId": "s-1"})

    answer = stack.client("lexv2-runtime").delete_session(
        botId="ABCDEFGHIJ", botAliasId="TSTALIASID", localeId="en_US", sessionId="s-1"
    )

    assert answer["sessionId"] == "s-1"
    [call] = stack.calls("lex", "DeleteSession")
    assert call.params["sessionId"] == "s-1"


# --- Policies -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Up:
    """What ``python -m tests.local up`` says."""

    printed: str
    files: Path
    session: Session


@pytest.fixture(scope="module")
def up(application: Path, stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """The same application, already built, kept up by the command with policies enforced."""
    files = tmp_path_factory.mktemp("files")
    command = [sys.executable, "-m", "tests.local", "up", "--no-build", "--stack-name", "up", "--enforce-iam"]
    command += ["--template", str(application / "template.yaml"), "--files", str(files)]
    command += ["--host-address", "127.0.0.2", "--parameter", "Greeting=hello there"]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            printed = ""
            for line in process.stdout:
                printed += line
                if "sam local invoke" in line:  # the last one
                    break
            session = Session.attach(files / "stack.json")
            yield Up(printed, files, session)
            session.close()
        finally:
            process.send_signal(signal.SIGINT)
    assert process.returncode == 0
    assert not list(files.iterdir())


@pytest.fixture
def strict(up: Up) -> Session:
    return up.session


def test_a_function_may_do_what_its_role_allows(strict: Session, mark: str) -> None:
    group = strict.outputs["ScheduleGroupName"]
    schedule = {"Name": mark, **definition(strict, {"mark": mark})}

    strict.invoke("echo", {"do": "create", "schedule": schedule})
    strict.invoke("echo", {"do": "publish", "topic": strict.outputs["OutcomeTopicArn"]})
    strict.invoke("echo", {"do": "raise", "mark": mark}, event=True)

    eventually(lambda: runs(strict, mark), what="the schedule to fire with its role")
    assert strict.outcomes(at_least=1)
    eventually(lambda: messages(strict, strict.outputs["FailuresUrl"], mark), what="a failure record")
    strict.invoke("echo", {"do": "delete", "name": mark, "group": group})


def test_a_schedule_in_a_group_that_is_not_allowed_is_refused(strict: Session, mark: str) -> None:
    with pytest.raises(FunctionError, match=r"AccessDenied.*scheduler:DeleteSchedule"):
        strict.invoke("echo", {"do": "delete", "name": mark, "group": "default"})


def test_a_role_that_may_not_be_passed_is_refused(strict: Session, mark: str) -> None:
    schedule = {"Name": mark, **definition(strict, {}, RoleArn=strict.outputs["PoorRoleArn"])}

    with pytest.raises(FunctionError, match=r"AccessDenied.*iam:PassRole"):
        strict.invoke("echo", {"do": "create", "schedule": schedule})


def test_a_role_that_may_not_invoke_ends_in_the_dead_letter_queue(strict: Session, mark: str) -> None:
    target: dict[str, Any] = {
        "RoleArn": strict.outputs["PoorRoleArn"],
        "DeadLetterConfig": {"Arn": strict.outputs["UndeliveredArn"]},
        "RetryPolicy": {"MaximumRetryAttempts": 0},
    }

    strict.client("scheduler").create_schedule(Name=mark, **definition(strict, {"mark": mark}, **target))

    eventually(lambda: messages(strict, strict.outputs["UndeliveredUrl"], mark), what="a dead letter")
    [letter] = messages(strict, strict.outputs["UndeliveredUrl"], mark)
    assert letter["MessageAttributes"]["ERROR_CODE"]["StringValue"] == "AccessDeniedException"
    assert not runs(strict, mark)


# --- Mends ----------------------------------------------------------------------------------------------------

# Read in upstream's source, since they show in a running stack only.
READ_IN_THE_SOURCE = {"check_roles_of_schedules", "invoke_rule_targets_as_events"}
NO_MENDS = {"count_loopback_as_tls", "crash_functions_on_demand"}


def probe_upstream(directory: Path, *options: str) -> dict[str, bool]:
    environment = {
        "GATEWAY_PORT": "1",
        "LAMBDA_ASYNC_RETRY_BASE_SECONDS": "0.01",
        "PATH": os.defpath,
        "TMPDIR": str(directory),
    }
    command = [sys.executable, "-m", "tests.local.upstream", *options]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    needed: dict[str, bool] = json.loads(done.stdout)
    return needed


def test_upstream_still_needs_every_mend(tmp_path: Path) -> None:
    needed = probe_upstream(tmp_path)

    version = importlib.metadata.version("ministack")
    superfluous = [mend for mend, still in needed.items() if not still]
    assert not superfluous, (
        f"MiniStack {version} may do without these mends in tests/local/mends.py: look at them"
    )


def test_the_probes_notice_a_mend(tmp_path: Path) -> None:
    needed = probe_upstream(tmp_path, "--mended")

    assert {mend for mend, still in needed.items() if still} == READ_IN_THE_SOURCE


def test_every_mend_has_its_probe() -> None:
    source = (REPOSITORY / "tests" / "local" / "mends.py").read_text()
    applied = re.findall(r"^    (\w+)\(", source.split("def apply(")[1].split("\n\n\n")[0], re.MULTILINE)
    probes = re.findall(
        r"^@probe\ndef (\w+)", (REPOSITORY / "tests" / "local" / "upstream.py").read_text(), re.MULTILINE
    )

    assert sorted(set(applied) - NO_MENDS) == sorted(probes)


# --- Processes ------------------------------------------------------------------------------------------------


def test_a_restart_keeps_what_was_there(stack: LocalStack, mark: str) -> None:
    scheduler = stack.client("scheduler")
    scheduler.create_schedule(Name=f"{mark}-fired", **definition(stack, {"mark": f"{mark}-fired"}))
    eventually(lambda: runs(stack, f"{mark}-fired"))
    scheduler.create_schedule(Name=f"{mark}-later", **definition(stack, {"mark": f"{mark}-later"}, at(2)[0]))
    stack.client("sqs").send_message(QueueUrl=stack.outputs["FailuresUrl"], MessageBody=mark)
    stack.redis.set(mark, "kept")

    stack.restart_emulator()

    eventually(lambda: runs(stack, f"{mark}-later"))
    assert len(runs(stack, f"{mark}-fired")) == 1
    assert {f"{mark}-fired", f"{mark}-later"} <= set(stack.schedules())
    assert messages(stack, stack.outputs["FailuresUrl"], mark)
    assert stack.redis.get(mark) == "kept"
    stack.client("sqs").send_message(QueueUrl=stack.outputs["SourceUrl"], MessageBody=mark)
    eventually(lambda: runs(stack, mark, "FromQueue"), what="the queue to be read again")


OWNER = """
import sys
from tests.local.stack import LocalStack
stack = LocalStack(deploy=False).__enter__()
print(stack.directory, stack.endpoint_url, stack.redis_url, flush=True)
sys.stdin.read()
"""


def test_nothing_outlives_its_owner() -> None:
    ends = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
    command = [sys.executable, "-c", OWNER]
    pipes: dict[str, Any] = {
        "stdin": subprocess.PIPE,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.DEVNULL,
    }
    with contextlib.ExitStack() as closing:
        owners = [closing.enter_context(subprocess.Popen(command, cwd=REPOSITORY, **pipes)) for _ in ends]
        for owner, end in zip(owners, ends, strict=True):
            assert owner.stdout is not None
            directory, *urls = owner.stdout.readline().decode().split()
            addresses = [("127.0.0.1", urlsplit(url).port) for url in urls]
            assert all(answers(address) for address in addresses)
            owner.send_signal(end)

            eventually(functools.partial(none_answers, addresses), 10, f"the servers to end after {end.name}")
            eventually(functools.partial(is_gone, Path(directory)), 10, f"the files to go after {end.name}")


def none_answers(addresses: list[tuple[str, int | None]]) -> bool:
    return not any(answers(address) for address in addresses)


def is_gone(path: Path) -> bool:
    return not path.exists()


def answers(address: tuple[str, int | None]) -> bool:
    with socket.socket() as client:
        return client.connect_ex(address) == 0


def test_a_stack_that_does_not_deploy_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "template.yaml").write_text("Resources: {Odd: {Type: 'AWS::Odd::Thing'}}")
    broken = LocalStack(build=False, build_directory=tmp_path, stack_name="broken")

    with pytest.raises(LocalStackError, match="AWS::Odd::Thing"):
        broken.__enter__()

    assert not broken.directory.exists()
    assert not answers(("127.0.0.1", urlsplit(broken.endpoint_url).port))


def test_up_tells_how_to_reach_it(up: Up) -> None:
    for needed in (
        up.session.endpoint_url,
        up.session.outputs["EchoFunctionArn"],
        "boto3.client",
        "aws --endpoint-url",
        "sam remote invoke EchoFunction --stack-name up",
    ):
        assert needed in up.printed


def test_up_writes_the_environment_that_containers_need(up: Up) -> None:
    environment = json.loads((up.files / "env.json").read_text())["EchoFunction"]

    assert environment["GREETING"] == "hello there"
    assert environment["SECRET"] == up.session.invoke("echo", {})["environment"]["SECRET"]
    port = urlsplit(up.session.endpoint_url).port
    assert environment["AWS_ENDPOINT_URL"] == f"http://127.0.0.2:{port}"
    assert answers(("127.0.0.2", port))
    assert urlsplit(up.session.redis_url).hostname == "127.0.0.2"
    assert up.session.redis.ping()
