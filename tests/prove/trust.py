"""Who is let in: what the trust policies and the resource policies of the expanded template answer to whom."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

from tests.local.stack import REGION
from tests.prove.everything import EVERYTHING
from tests.prove.policies import ACCOUNT, Need, Template, lets_in


@dataclass(frozen=True)
class Question:
    """Whether somebody is let in, and whether they should be."""

    text: str
    expected: bool
    answer: bool


def questions(template: Template) -> Iterator[Question]:
    """What the trust policies, function policies, topic policies and queue policies say."""
    yield from _role_questions(template)
    yield from _function_questions(template)
    yield from _transport_questions(template)


def _role_questions(template: Template) -> Iterator[Question]:
    group = template.arn("ScheduleGroup")
    scheduler = "scheduler.amazonaws.com"
    other = "999999999999"
    cases = [
        ("this stack's group", scheduler, ACCOUNT, group, True),
        ("the wrong account", scheduler, other, group, False),
        ("another account's group of that name", scheduler, other, group.replace(ACCOUNT, other), False),
        ("another group's schedule", scheduler, ACCOUNT, f"{group}-2", False),
        ("the default group", scheduler, ACCOUNT, f"{group.rpartition('/')[0]}/default", False),
        ("a schedule's ARN", scheduler, ACCOUNT, f"{group.replace('-group', '')}/c-1", False),
        ("no source at all", scheduler, "", "", False),
        ("another service, Lambda", "lambda.amazonaws.com", ACCOUNT, group, False),
        ("another service, EventBridge", "events.amazonaws.com", ACCOUNT, group, False),
    ]
    trust = template.trust_policy("ScheduleRole")
    for text, service, account, source, expected in cases:
        context = {"aws:sourceaccount": account, "aws:sourcearn": source} if account else {}
        need = Need("sts:AssumeRole", "*", context)
        yield Question(f"ScheduleRole for {text}", expected, lets_in(trust, service, need))
    anybody = Need("sts:AssumeRole", "*")
    for role, _ in template.of_type("AWS::IAM::Role"):
        trust = template.trust_policy(role)
        a_user = f"arn:aws:iam::{ACCOUNT}:user/somebody"
        yield Question(f"{role} for a user", False, lets_in(trust, "", anybody, caller=a_user))
        if role != "ScheduleRole":
            for service in ("lambda.amazonaws.com", scheduler, "ec2.amazonaws.com"):
                expected = service.startswith("lambda.")
                yield Question(f"{role} for {service}", expected, lets_in(trust, service, anybody))


def _function_questions(template: Template) -> Iterator[Question]:
    backend, other = EVERYTHING["BackendAccountId"], "999999999999"
    rules = {"LifecycleFunction": "ConnectRule", "SweepFunction": "SweepFunctionPeriod"}
    for function in ("Touch", "Lifecycle", "Cleanup", "Sweep", "Redrive", "Inspect"):
        alias = f"{function}FunctionAliaslive"
        policy = template.function_policy(alias)
        invoke = Need("lambda:InvokeFunction", template.reference(alias))
        for account in (backend, other):
            caller = f"arn:aws:iam::{account}:role/backend"
            expected = account == backend and function in ("Touch", "Lifecycle", "Inspect")
            answer = lets_in(policy, "", invoke, caller=caller, account=account)
            yield Question(f"{alias} for account {account}", expected, answer)
        bare = Need("lambda:InvokeFunction", str(template.reference(alias)).removesuffix(":live"))
        caller = f"arn:aws:iam::{backend}:role/backend"
        yield Question(
            f"{function} past its alias", False, lets_in(policy, "", bare, caller=caller, account=backend)
        )
        own = rules.get(f"{function}Function")
        for rule in (*rules.values(), "another"):
            source = template.arn(rule) if rule != "another" else f"arn:aws:events:{REGION}:{other}:rule/x"
            need = Need("lambda:InvokeFunction", invoke.arn, {"aws:sourcearn": source})
            for service in ("events.amazonaws.com", "s3.amazonaws.com"):
                expected = rule == own and service.startswith("events.")
                yield Question(f"{alias} for {service} from {rule}", expected, lets_in(policy, service, need))


def _transport_questions(template: Template) -> Iterator[Question]:
    alarms = template.resource_policy("AWS::SNS::TopicPolicy", "AlarmTopic")
    for account, expected in ((ACCOUNT, True), ("999999999999", False)):
        need = Need("sns:Publish", template.arn("AlarmTopic"), {"aws:sourceaccount": account})
        answer = lets_in(alarms, "cloudwatch.amazonaws.com", need)
        yield Question(f"AlarmTopic for alarms of {account}", expected, answer)
        yield Question(
            f"AlarmTopic for another service of {account}",
            False,
            lets_in(alarms, "events.amazonaws.com", need),
        )
    for kind, logical_id, action in (
        ("AWS::SNS::TopicPolicy", "OutcomeTopic", "sns:Publish"),
        ("AWS::SNS::TopicPolicy", "AlarmTopic", "sns:Publish"),
        ("AWS::SQS::QueuePolicy", "FailureQueue", "sqs:SendMessage"),
        ("AWS::SQS::QueuePolicy", "ParkedQueue", "sqs:ReceiveMessage"),
    ):
        # Refused even to somebody whom another statement would let in.
        policy = copy.deepcopy(template.resource_policy(kind, logical_id))
        arn = template.arn(logical_id)
        everybody = {"Effect": "Allow", "Principal": "*", "Action": action, "Resource": arn}
        policy["Statement"].append(everybody)
        for tls in (True, False):
            answer = lets_in(policy, "", Need(action, arn), caller=f"arn:aws:iam::{ACCOUNT}:user/x", tls=tls)
            yield Question(f"{logical_id} {'with' if tls else 'without'} TLS", tls, answer)
