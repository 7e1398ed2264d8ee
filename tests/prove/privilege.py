"""Least privilege, both ways: what is done is allowed, and what is allowed is done.

A stack with everything switched on runs, with authorization enforced, through all that its functions can do. Each AWS
call on the record is put to the policies of its function's own role, as SAM expands them; and each right that nobody
used is listed. `python -m tests.prove.privilege` prints both.
"""

import os
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from samcli.yamlhelper import yaml_parse

from tests.local.stack import REGION, REPOSITORY, Call
from tests.prove import summary
from tests.prove.everything import EVERYTHING, INSTANCE, LAST_STEPS, STACK_NAME, STEPS, Everything, drive
from tests.prove.policies import ACCOUNT, Grant, Json, Need, Template, allows
from tests.prove.summary import Row
from tests.prove.trust import questions
from tests.unit.test_template import SOURCE, expand

# What each role is granted, and the run has needed. `make test` holds the template to it, `make prove` the run.
GRANTED = """
TouchFunctionRole        ConversationsTable              dynamodb   BatchGetItem PutItem UpdateItem
TouchFunctionRole        ControlTable                    dynamodb   BatchGetItem PutItem
TouchFunctionRole        ScheduleGroup/*                 scheduler  CreateSchedule UpdateSchedule
TouchFunctionRole        ScheduleRole                    iam        PassRole
TouchFunctionRole        CleanupFunctionAliaslive        lambda     InvokeFunction
TouchFunctionRole        FailureQueue                    sqs        SendMessage
LifecycleFunctionRole    ConversationsTable              dynamodb   BatchGetItem PutItem UpdateItem
LifecycleFunctionRole    ControlTable                    dynamodb   BatchGetItem GetItem PutItem
LifecycleFunctionRole    ScheduleGroup/*                 scheduler  CreateSchedule UpdateSchedule DeleteSchedule
LifecycleFunctionRole    ScheduleRole                    iam        PassRole
LifecycleFunctionRole    CleanupFunctionAliaslive        lambda     InvokeFunction
LifecycleFunctionRole    FailureQueue                    sqs        SendMessage
CleanupRole              ConversationsTable              dynamodb   BatchGetItem PutItem UpdateItem DeleteItem
CleanupRole              ControlTable                    dynamodb   BatchGetItem
CleanupRole              ScheduleGroup/*                 scheduler  CreateSchedule UpdateSchedule DeleteSchedule
CleanupRole              ScheduleRole                    iam        PassRole
CleanupRole              OutcomeTopic                    sns        Publish
CleanupRole              FailureQueue                    sqs        SendMessage
CleanupRole              SessionUrlSecretArn             secretsmanager GetSecretValue
CleanupRole              EndCheckFunctionArn             lambda     InvokeFunction
CleanupRole              EndHookFunctionArn              lambda     InvokeFunction
CleanupRole              LexBotAliasArns                 lex        DeleteSession
CleanupRole              ConnectInstanceArn/contact/*    connect    StopContact
SweepFunctionRole        ConversationsTable/index/sweep  dynamodb   Query
SweepFunctionRole        ConversationsTable              dynamodb   BatchGetItem PutItem
SweepFunctionRole        ControlTable                    dynamodb   GetItem UpdateItem
SweepFunctionRole        CleanupFunctionAliaslive        lambda     InvokeFunction
SweepFunctionRole        SweepFunctionAliaslive          lambda     InvokeFunction
SweepFunctionRole        *                               scheduler  ListSchedules
SweepFunctionRole        ScheduleGroup/*                 scheduler  GetSchedule
RedriveFunctionRole      FailureQueue                    sqs        ReceiveMessage DeleteMessage GetQueueAttributes
RedriveFunctionRole      FailureQueue                    sqs        ChangeMessageVisibility
RedriveFunctionRole      TouchFunctionAliaslive          lambda     InvokeFunction
RedriveFunctionRole      LifecycleFunctionAliaslive      lambda     InvokeFunction
RedriveFunctionRole      CleanupFunctionAliaslive        lambda     InvokeFunction
RedriveFunctionRole      ParkedQueue                     sqs        SendMessage
RedriveFunctionRole      ConversationsTable              dynamodb   BatchGetItem PutItem
InspectFunctionRole      ConversationsTable/index/sweep  dynamodb   Query
InspectFunctionRole      ConversationsTable              dynamodb   BatchGetItem PutItem
InspectFunctionRole      ControlTable                    dynamodb   GetItem BatchGetItem PutItem DeleteItem
InspectFunctionRole      CleanupFunctionAliaslive        lambda     InvokeFunction
InspectFunctionRole      ParkedQueue                     sqs        ReceiveMessage DeleteMessage
InspectFunctionRole      FailureQueue                    sqs        SendMessage
ScheduleRole             CleanupFunctionAliaslive        lambda     InvokeFunction
ScheduleRole             FailureQueue                    sqs        SendMessage
InvokePolicy             TouchFunctionAliaslive          lambda     InvokeFunction
InvokePolicy             LifecycleFunctionAliaslive      lambda     InvokeFunction
InvokePolicy             InspectFunctionAliaslive        lambda     InvokeFunction
"""

# Granted, and used inside AWS, where no record of ours reaches.
_POLLER = (
    "Lambda reads the queue with this role: docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html"
)
UNRECORDED = {
    ("RedriveFunctionRole", "FailureQueue", "sqs:ReceiveMessage"): _POLLER,
    ("RedriveFunctionRole", "FailureQueue", "sqs:DeleteMessage"): _POLLER,
    ("RedriveFunctionRole", "FailureQueue", "sqs:GetQueueAttributes"): _POLLER,
}
MANAGED = {
    "AWSLambdaBasicExecutionRole": "Lambda writes the function's logs with it",
    "AWSXrayWriteOnlyAccess": "Lambda sends the traces of `Tracing: Active` with it",
    "AWSLambdaVPCAccessExecutionRole": "with SubnetIds: Lambda makes cleanup's network interfaces with it",
}


def run(deep: bool) -> list[Row]:
    """Rows for the summary: what, figure, kept. Without `deep` nothing is deployed."""
    template = Template(expanded(), EVERYTHING, stack_name=STACK_NAME)
    return [_trust_row(template), _table_row(template), *(_run_rows() if deep else [])]


def expanded() -> Json:
    """The template, as SAM expands it."""
    os.environ.setdefault("AWS_DEFAULT_REGION", REGION)  # SAM asks for one
    return expand(yaml_parse(SOURCE))


def _trust_row(template: Template) -> Row:
    asked = list(questions(template))
    wrong = [question.text for question in asked if question.answer != question.expected]
    _tell("answered wrong", wrong)
    return "Trust policies: questions answered wrong", f"{len(wrong)} of {len(asked)}", not wrong


def _table_row(template: Template) -> Row:
    granted, listed = written(template.grants()), table()
    _tell("granted, and not listed", sorted(map(str, granted - listed)))
    _tell("listed, and not granted", sorted(map(str, listed - granted)))
    differ = len(granted ^ listed)
    return "Permissions other than listed", f"{differ} of {len(granted)}", not differ


def _tell(what: str, cases: Sequence[str]) -> None:
    for case in cases:
        print(f"{what}: {case}")


def table() -> set[tuple[str, str, str]]:
    """(role, resource, action) of each line of GRANTED."""
    found = set()
    for line in GRANTED.strip().splitlines():
        role, resource, service, *operations = line.split()
        found |= {(role, resource, f"{service}:{operation}") for operation in operations}
    return found


def written(grants: Sequence[Grant]) -> set[tuple[str, str, str]]:
    """The same of a template's rights."""
    return {(grant.role, grant.resource, grant.action) for grant in grants}


# --- what is done ------------------------------------------------------------------------------------------------------


def needs(call: Call) -> list[Need]:
    """What IAM is asked for a call. Raises NotImplementedError for one that nobody has thought of."""
    params = call.params
    match call.service, call.operation:
        case "dynamodb", operation:
            arn = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table"
            index = f"/index/{params['IndexName']}" if "IndexName" in params else ""
            tables = list(params.get("RequestItems") or [params["TableName"]])
            return [Need(f"dynamodb:{operation}", f"{arn}/{table}{index}") for table in tables]
        case "scheduler", "ListSchedules":
            return [Need("scheduler:ListSchedules", "*")]
        case "scheduler", (
            "CreateSchedule" | "UpdateSchedule" | "DeleteSchedule" | "GetSchedule"
        ) as operation:
            group, name = params.get("GroupName", "default"), params["Name"]
            arn = f"arn:aws:scheduler:{REGION}:{ACCOUNT}:schedule/{group}/{name}"
            passed = params.get("Target", {}).get("RoleArn")
            context = {"iam:passedtoservice": "scheduler.amazonaws.com"}
            return [
                Need(f"scheduler:{operation}", arn),
                *([Need("iam:PassRole", passed, context)] if passed else []),
            ]
        case "lambda", "Invoke":
            arn, qualifier = params["FunctionName"], params.get("Qualifier")
            in_arn = arn.count(":") == 7
            return [Need("lambda:InvokeFunction", f"{arn}:{qualifier}" if qualifier and not in_arn else arn)]
        case "sns", "Publish":
            return [Need("sns:Publish", params["TopicArn"])]
        case "sqs", operation:
            name = params["QueueUrl"].replace(":", "/").rpartition("/")[2]
            return [Need(f"sqs:{operation}", f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}")]
        case "secretsmanager", "GetSecretValue":
            return [Need("secretsmanager:GetSecretValue", params["SecretId"])]
        case "lex", "DeleteSession":
            alias = f"{params['botId']}/{params['botAliasId']}"
            return [Need("lex:DeleteSession", f"arn:aws:lex:{REGION}:{ACCOUNT}:bot-alias/{alias}")]
        case "connect", "StopContact":
            instance = f"{INSTANCE.rpartition('/')[0]}/{params['InstanceId']}"
            return [Need("connect:StopContact", f"{instance}/contact/{params['ContactId']}")]
    raise NotImplementedError(f"{call.principal}: {call.service} {call.operation}")


@dataclass(frozen=True)
class Verdict:
    """What the record says about the rights."""

    seen: int
    allowed: int
    denied: list[str]  # by the evaluator, over the expanded template
    refused: list[str]  # by the emulator, which enforced the deployed one
    unused: list[Grant]
    per_role: Mapping[str, int]


def judge(template: Template, record: Sequence[Call], roles: Mapping[str, str]) -> Verdict:
    """Put each call to its caller's role. `roles`: principal of the record -> role; others' calls are not looked at."""
    grants = defaultdict[str, list[Grant]](list)
    for grant in template.grants():
        grants[grant.role].append(grant)
    used, denied, refused = set[Grant](), list[str](), list[str]()
    per_role, allowed = Counter[str](), 0
    for call in record:
        role = roles.get(call.principal)
        if role is None:
            continue
        per_role[role] += 1
        trouble = len(denied) + len(refused)
        if "AccessDenied" in call.error or "NotAuthorized" in call.error:
            refused.append(f"{role}: {call.service}:{call.operation} {call.error}")
        for need in needs(call):
            holding = [grant for grant in grants[role] if allows([grant], need)]
            if not holding:
                denied.append(f"{role}: {need.action} on {need.arn}")
            used |= set(holding[:1] if len(holding) == 1 else [])  # two that say the same are one too many
        allowed += len(denied) + len(refused) == trouble
    unused = [
        grant
        for grant in template.grants()
        if grant not in used and (grant.role, grant.resource, grant.action) not in UNRECORDED
    ]
    return Verdict(per_role.total(), allowed, sorted(set(denied)), sorted(set(refused)), unused, per_role)


def _run_rows() -> list[Row]:
    given = {name: value for name, value in EVERYTHING.items() if name != "SessionUrlSecretArn"}
    build_directory = REPOSITORY / ".aws-sam" / "prove-privilege"
    stack = Everything(
        build_directory=build_directory, parameters=given, stack_name=STACK_NAME, enforce_iam=True
    )
    with stack:
        stack.set_up()
        trouble = drive(stack)
        record = stack.calls()
        secret = stack.client("secretsmanager").describe_secret(SecretId="local-session-url")["ARN"]
        parameters = {**EVERYTHING, "SessionUrlSecretArn": secret}
        template = Template(expanded(), parameters, stack.resources, STACK_NAME)
        roles = {
            template.name(function): template.role_of(function)
            for function, _ in template.of_type("AWS::Lambda::Function")
        }
        roles |= {"scheduler.amazonaws.com": "ScheduleRole", stack.backend.principal: "InvokePolicy"}
    verdict = judge(template, record, roles)
    unexplained = sorted({policy for _, policy in template.managed_policies()} - MANAGED.keys())
    unused = [*map(str, verdict.unused), *unexplained]
    _tell("did not come about", trouble)
    _tell("denied by the role", verdict.denied)
    _tell("refused by the stack", verdict.refused)
    _tell("granted, and not needed", unused)
    for exception, reason in {**{" ".join(key): why for key, why in UNRECORDED.items()}, **MANAGED}.items():
        print(f"granted, and used inside AWS: {exception}: {reason}")
    return [
        (
            "Calls allowed by their roles",
            f"{verdict.allowed:,} of {verdict.seen:,}",
            verdict.seen == verdict.allowed > 0,
        ),
        ("Permissions unused", f"{len(unused)} of {len(template.grants())}", not unused),
        ("  exceptions with a reason", str(len(UNRECORDED) + len(MANAGED)), True),
        ("  steps that did not come about", f"{len(trouble)} of {len(STEPS) + len(LAST_STEPS)}", not trouble),
    ]


if __name__ == "__main__":
    results = run(deep=True)
    print(summary.table(results))
    sys.exit(not all(kept for _, _, kept in results))
