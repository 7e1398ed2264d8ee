"""The template, as written and as SAM expands it: what AWS would find out late, or never."""

import copy
import json
import re
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import pytest
from cfnlint.api import ManualArgs, lint
from samcli.yamlhelper import yaml_parse
from samtranslator.translator.transform import transform

from idle_timer.settings import CleanupSettings, Settings, TouchSettings
from idle_timer.upkeep_settings import InspectSettings, RedriveSettings, SweepSettings

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCE = (REPOSITORY / "template.yaml").read_text(encoding="utf-8")
FUNCTIONS = [
    "TouchFunction",
    "LifecycleFunction",
    "CleanupFunction",
    "SweepFunction",
    "RedriveFunction",
    "InspectFunction",
]
FAILURES_GO_TO_THE_QUEUE = ["TouchFunction", "LifecycleFunction", "CleanupFunction"]

Json = dict[str, Any]


class NoManagedPolicies:
    """SAM would ask IAM for the names of managed policies, none of which the template uses."""

    def load(self) -> dict[str, str]:
        return {}


def expand(template: Json) -> Json:
    """What the SAM transform makes of it; folders stand for uploaded archives of the same name."""
    template = copy.deepcopy(template)
    for resource in template["Resources"].values():
        for code in {"CodeUri", "ContentUri"} & resource.get("Properties", {}).keys():
            resource["Properties"][code] = f"s3://bucket/{resource['Properties'][code]}"
    expanded: Json = transform(template, {}, NoManagedPolicies())
    return expanded


@pytest.fixture(scope="module")
def source() -> Json:
    template: Json = yaml_parse(SOURCE)
    return template


@pytest.fixture(scope="module")
def expanded(source: Json) -> Iterator[Json]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")  # SAM asks for one
        yield expand(source)


@pytest.fixture(scope="module")
def resources(expanded: Json) -> Json:
    found: Json = expanded["Resources"]
    return found


def walk(node: Any) -> Iterator[Any]:
    yield node
    if isinstance(node, dict | list):
        for child in node.values() if isinstance(node, dict) else node:
            yield from walk(child)


def references(node: Any) -> Iterator[str]:
    """Every name that Ref, GetAtt, Sub and DependsOn lead to, attributes cut off."""
    for part in walk(node):
        if not isinstance(part, dict):
            continue
        match part:
            case {"Ref": str(name)}:
                yield name
            case {"Fn::GetAtt": [name, *_]}:
                yield name
            case {"Fn::GetAtt": str(name)}:
                yield name.split(".")[0]
            case {"Fn::Sub": text}:
                template, given = text if isinstance(text, list) else (text, {})
                yield from (
                    name.split(".")[0]
                    for name in re.findall(r"\$\{([^!}]+)\}", template)
                    if name not in given
                )
        depends = part.get("DependsOn", [])
        yield from [depends] if isinstance(depends, str) else depends


def check_order(resources: Json) -> None:
    """Raises CycleError where resources wait for each other."""
    graph = {name: set(references(resource)) & resources.keys() for name, resource in resources.items()}
    TopologicalSorter(graph).prepare()


def of_type(resources: Json, kind: str) -> Json:
    return {name: found["Properties"] for name, found in resources.items() if found["Type"] == kind}


def statements(resources: Json) -> Iterator[tuple[str, Json]]:
    """Every statement of every policy that gives rights to a role: (the role or policy, statement); conditions taken as met."""
    for name, resource in resources.items():
        properties = resource.get("Properties", {})
        match resource["Type"]:
            case "AWS::IAM::Role":
                documents = [policy["PolicyDocument"] for policy in properties.get("Policies", [])]
            case "AWS::IAM::Policy" | "AWS::IAM::ManagedPolicy":
                documents = [properties["PolicyDocument"]]
            case _:
                continue
        for document in documents:
            for statement in document["Statement"]:
                yield name, statement["Fn::If"][1] if "Fn::If" in statement else statement


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def may(resources: Json, *actions: str) -> set[str]:
    """The roles and policies that allow any of the actions."""
    return {
        name for name, statement in statements(resources) if set(actions) & set(listed(statement["Action"]))
    }


def variables(resources: Json, function: str) -> Json:
    found: Json = resources[function]["Properties"]["Environment"]["Variables"]
    return found


# --- the template as a whole -------------------------------------------------------------------------------------------


def test_lint_finds_nothing_in_the_template_or_its_expansion(expanded: Json) -> None:
    """sam validate --lint looks less closely at SAM's resources than at those that they become."""
    for text in (SOURCE, json.dumps(expanded)):
        assert [str(match) for match in lint(text, config=ManualArgs(regions=["us-east-1"]))] == []


def test_no_resource_waits_for_itself(resources: Json) -> None:
    check_order(resources)


@pytest.mark.parametrize(
    ("function", "variable", "value"),
    [
        ("CleanupFunction", "CLEANUP_FUNCTION_ARN", {"Ref": "CleanupFunctionAliaslive"}),
        ("CleanupFunction", "SWEEP_FUNCTION_ARN", {"Fn::Sub": "${SweepFunction.Arn}"}),
    ],
)
def test_a_circle_would_be_noticed(resources: Json, function: str, variable: str, value: Json) -> None:
    resources = copy.deepcopy(resources)
    variables(resources, function)[variable] = value
    with pytest.raises(CycleError):
        check_order(resources)


def test_cleanup_knows_its_own_alias_by_the_name_that_it_has(resources: Json) -> None:
    name = resources["CleanupFunction"]["Properties"]["FunctionName"]["Fn::Sub"]
    own = variables(resources, "CleanupFunction")["CLEANUP_FUNCTION_ARN"]["Fn::Sub"]
    assert own.endswith(f":function:{name}:live")


def test_every_reference_leads_somewhere(expanded: Json) -> None:
    known = expanded["Resources"].keys() | expanded["Parameters"].keys()
    used = set(references(expanded["Resources"])) | set(references(expanded["Outputs"]))
    assert {name for name in used - known if not name.startswith("AWS::")} == set()


def test_deleting_the_stack_leaves_nothing(resources: Json) -> None:
    """Published versions go with their function."""
    kept = {
        name for name, resource in resources.items() if resource.get("DeletionPolicy", "Delete") != "Delete"
    }
    assert kept == {name for name in resources if "FunctionVersion" in name}


def test_functions_get_the_time_that_their_work_takes(resources: Json) -> None:
    """Seconds; Lambda allows 900, which cfn-lint does not know. cleanup counts on its 60 (see `bootstrap`)."""
    assert [resources[function]["Properties"]["Timeout"] for function in FUNCTIONS] == [
        10,
        10,
        60,
        120,
        120,
        30,
    ]


def test_every_function_logs_into_a_declared_group(resources: Json) -> None:
    groups = of_type(resources, "AWS::Logs::LogGroup")
    for function in FUNCTIONS:
        group = groups[resources[function]["Properties"]["LoggingConfig"]["LogGroup"]["Ref"]]
        name = resources[function]["Properties"]["FunctionName"]["Fn::Sub"]
        assert group["LogGroupName"] == {"Fn::Sub": f"/aws/lambda/{name}"}  # where sam logs looks
        assert group["RetentionInDays"] == {"Ref": "LogRetentionDays"}


# --- parameters and settings -------------------------------------------------------------------------------------------

CONTRACT = {
    "IdleTimeoutSeconds": (300, 1, 2_592_000),
    "IdleStages": "",
    "EndWhenIdle": "true",
    "OnMessageAfterEnd": "reopen",
    "PublishOpened": "false",
    "ResetOn": "any",
    "PauseTimeoutSeconds": (86_400, 0, 2_592_000),
    "TimerSlackSeconds": (0, 0, 3_600),
    "ClockSkewAllowanceMs": (1_000, 0, 60_000),
    "SweepPeriodMinutes": (5, 1, 60),
    "SweepGraceSeconds": (180, 1, 3_600),
    "SweepShards": (8, 1, 100),
    "MaxAttempts": (5, 1, 100),
    "RedriveDelaySeconds": (300, 0, 900),
    "RetainEndedDays": (30, 1, 3_650),
    "SessionUrlSecretArn": "",
    "SessionKeyTemplate": "session:{conversation_id}",
    "SessionTombstoneSeconds": "3600",
    "SubnetIds": "",
    "SecurityGroupIds": "",
    "NotificationEmail": "",
    "AlarmEmail": "",
    "EndCheckFunctionArn": "",
    "EndHookFunctionArn": "",
    "BackendAccountId": "",
    "Mode": "enforce",
    "Architecture": "arm64",
    "LogLevel": "INFO",
    "LogRetentionDays": 30,
    "SnapStart": "false",
}


@pytest.mark.parametrize("name", CONTRACT)
def test_parameter_is_the_contracts(source: Json, name: str) -> None:
    parameter, agreed = source["Parameters"][name], CONTRACT[name]
    if isinstance(agreed, tuple):
        assert (parameter["Default"], parameter["MinValue"], parameter["MaxValue"]) == agreed
    else:
        assert parameter["Default"] == agreed


def test_every_parameter_has_a_default_limits_and_a_description_with_its_unit(source: Json) -> None:
    units = {
        "Seconds": "econds",
        "Ms": "illiseconds",
        "Minutes": "inutes",
        "Days": "ays",
        "Arn": "ARN",
        "Arns": "ARNs",
    }
    for name, parameter in source["Parameters"].items():
        assert "Default" in parameter, f"{name}: sam deploy would ask for it"
        assert parameter["Description"].endswith("."), name
        if parameter["Type"] == "Number" and "AllowedValues" not in parameter:
            assert {"MinValue", "MaxValue"} <= parameter.keys(), name
        elif "AllowedValues" not in parameter:
            assert {"AllowedPattern", "MaxLength"} & parameter.keys(), name
        assert "AllowedPattern" not in parameter or parameter.get("ConstraintDescription", "").startswith(
            "must be"
        ), name
        for ending, unit in units.items():
            assert not re.search(f"[a-z]{ending}$", name) or unit in parameter["Description"], name


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("SessionTombstoneSeconds", ["0", "3600", "86400"], ["1", "3599", "", "-1"]),
        ("SubnetIds", ["", "subnet-0123abcd"], ["vpc-1"]),
        ("EndHookFunctionArn", ["", "arn:aws:lambda:eu-west-1:123456789012:function:hook:live"], ["hook"]),
        ("NotificationEmail", ["", "a@example.com"], ["a", "a@b c"]),
        ("ConnectInstanceArn", ["", "arn:aws:connect:eu-west-1:123456789012:instance/1-2"], ["*"]),
        (
            "LexBotAliasArns",
            ["", "arn:aws:lex:eu-west-1:123456789012:bot-alias/ABCDEFGHIJ/TSTALIASID"],
            ["*"],
        ),
    ],
)
def test_pattern_takes_what_is_right_and_nothing_else(
    source: Json, name: str, good: list[str], bad: list[str]
) -> None:
    pattern = re.compile(source["Parameters"][name]["AllowedPattern"])
    assert [value for value in good if not pattern.fullmatch(value)] == []
    assert [value for value in bad if pattern.fullmatch(value)] == []


def with_defaults(source: Json, values: Json) -> dict[str, str]:
    """Environment variables as the default parameters fill them in; resources by their logical name."""
    parameters = source["Parameters"]

    def text(value: Any) -> str:
        if not isinstance(value, dict):
            return str(value)
        name = next((name for name in references(value) if not name.startswith("AWS::")), "")
        return str(parameters[name]["Default"] if name in parameters else name)

    return {name: text(value) for name, value in values.items()}


@pytest.mark.parametrize(
    ("function", "model"),
    [
        ("TouchFunction", TouchSettings),
        ("LifecycleFunction", TouchSettings),
        ("CleanupFunction", CleanupSettings),
        ("SweepFunction", SweepSettings),
        ("RedriveFunction", RedriveSettings),
        ("InspectFunction", InspectSettings),
    ],
)
def test_environment_is_what_the_settings_read(
    source: Json, resources: Json, function: str, model: type[Settings]
) -> None:
    environment = with_defaults(source, variables(resources, function))
    assert {name.upper() for name in Settings.model_fields} <= environment.keys()
    read = model.from_environment(environment)  # raises where a resource's name is missing
    by_default = {
        name: field.default for name, field in Settings.model_fields.items() if not field.is_required()
    }
    assert read.model_dump(include=set(by_default)) == by_default


def test_variable_carries_the_parameter_of_the_same_words(source: Json) -> None:
    given = source["Globals"]["Function"]["Environment"]["Variables"]
    for name in Settings.model_fields.keys() - {"conversations_table", "control_table"}:
        parameter = "".join(word.capitalize() for word in name.split("_"))
        assert given[name.upper()] == {"Ref": parameter}


@pytest.mark.parametrize(
    ("function", "own"),
    [
        (
            "TouchFunction",
            {"SCHEDULE_GROUP", "SCHEDULE_ROLE_ARN", "FAILURE_QUEUE_ARN", "CLEANUP_FUNCTION_ARN"},
        ),
        (
            "LifecycleFunction",
            {"SCHEDULE_GROUP", "SCHEDULE_ROLE_ARN", "FAILURE_QUEUE_ARN", "CLEANUP_FUNCTION_ARN"},
        ),
        (
            "CleanupFunction",
            {
                "SCHEDULE_GROUP",
                "SCHEDULE_ROLE_ARN",
                "FAILURE_QUEUE_ARN",
                "CLEANUP_FUNCTION_ARN",
                "OUTCOME_TOPIC_ARN",
            },
        ),
        ("SweepFunction", {"SCHEDULE_GROUP", "CLEANUP_FUNCTION_ARN"}),
        (
            "RedriveFunction",
            {
                "TOUCH_FUNCTION_ARN",
                "LIFECYCLE_FUNCTION_ARN",
                "CLEANUP_FUNCTION_ARN",
                "FAILURE_QUEUE_URL",
                "PARKED_QUEUE_URL",
                "REDRIVE_DELAY_SECONDS",
            },
        ),
        ("InspectFunction", {"CLEANUP_FUNCTION_ARN", "FAILURE_QUEUE_URL", "PARKED_QUEUE_URL"}),
    ],
)
def test_function_is_told_of_what_it_works_with(
    source: Json, resources: Json, function: str, own: set[str]
) -> None:
    of_all = source["Globals"]["Function"]["Environment"]["Variables"].keys()
    assert variables(resources, function).keys() - of_all == own


def test_an_emulator_can_be_given_to_every_function(resources: Json) -> None:
    """sam local invoke --env-vars overrides declared variables alone; to botocore an empty one is unset."""
    assert {variables(resources, function)["AWS_ENDPOINT_URL"] for function in FUNCTIONS} == {""}


# --- what an alias serves ----------------------------------------------------------------------------------------------


def test_nothing_invokes_a_function_past_its_alias(resources: Json) -> None:
    """Versions, aliases, their event configuration and metrics name the function; all else has to name the alias."""
    bare = {
        name
        for name, resource in resources.items()
        if set(references(resource)) & set(FUNCTIONS)
        and resource["Type"]
        not in (
            "AWS::Lambda::Version",
            "AWS::Lambda::Alias",
            "AWS::Lambda::EventInvokeConfig",
            "AWS::CloudWatch::Alarm",
        )
    }
    assert bare == set()


def test_outputs_are_the_contracts(expanded: Json) -> None:
    outputs = expanded["Outputs"]
    assert {name: output["Value"] for name, output in outputs.items()} == {
        "TouchFunctionArn": {"Ref": "TouchFunctionAliaslive"},
        "LifecycleFunctionArn": {"Ref": "LifecycleFunctionAliaslive"},
        "InspectFunctionArn": {"Ref": "InspectFunctionAliaslive"},
        "OutcomeTopicArn": {"Ref": "OutcomeTopic"},
        "AlarmTopicArn": {"Ref": "AlarmTopic"},
        "ConversationsTableName": {"Ref": "ConversationsTable"},
        "ControlTableName": {"Ref": "ControlTable"},
        "ScheduleGroupName": {"Ref": "ScheduleGroup"},
        "InvokePolicyArn": {"Ref": "InvokePolicy"},
        "FailureQueueUrl": {"Ref": "FailureQueue"},
        "ParkedQueueUrl": {"Ref": "ParkedQueue"},
    }
    assert all(output["Description"] for output in outputs.values())


@pytest.mark.parametrize("function", FUNCTIONS)
def test_function_has_an_alias_with_its_own_event_configuration(resources: Json, function: str) -> None:
    alias = resources[f"{function}Aliaslive"]["Properties"]
    assert (alias["Name"], alias["FunctionName"]) == ("live", {"Ref": function})
    asynchronous = resources[f"{function}EventInvokeConfig"]["Properties"]
    assert (asynchronous["FunctionName"], asynchronous["Qualifier"]) == ({"Ref": function}, "live")
    assert "MaximumRetryAttempts" in asynchronous


def version_of(resources: Json, function: str) -> str:
    [version] = [name for name in resources if name.startswith(f"{function}Version")]
    return version


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_changed_parameter_publishes_a_version(resources: Json, function: str) -> None:
    """SAM does not see it (see the template); a changed description makes CloudFormation replace the version, and a
    changed function is what lets Lambda publish one."""
    assert "Settings" in set(
        references(resources[version_of(resources, function)]["Properties"]["Description"])
    )
    assert variables(resources, function)["SETTINGS_VERSION"] == {"Ref": "Settings"}


def test_the_settings_record_every_parameter_that_reaches_a_function(source: Json, expanded: Json) -> None:
    functions = {name: expanded["Resources"][name] for name in FUNCTIONS}
    used = set(references(functions))
    for part in walk(functions):
        if isinstance(part, dict) and "Fn::If" in part:
            used |= set(references(expanded["Conditions"][part["Fn::If"][0]]))
    assert set(references(expanded["Resources"]["Settings"])) >= used & source["Parameters"].keys()


@pytest.mark.usefixtures("expanded")
def test_a_changed_layer_publishes_a_version_of_every_function(
    source: Json, resources: Json, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    changed = copy.deepcopy(source)
    changed["Resources"]["SharedLayer"]["Properties"]["ContentUri"] = "another"
    after = expand(changed)["Resources"]
    assert [name for name in FUNCTIONS if version_of(after, name) == version_of(resources, name)] == []


# --- failures ----------------------------------------------------------------------------------------------------------


def test_both_ways_of_failing_end_in_the_failure_queue(resources: Json) -> None:
    """Scheduler's dead-letter queue is for what it cannot hand over, Lambda's destination for what fails after that."""
    queue = {"Fn::GetAtt": ["FailureQueue", "Arn"]}
    may_send = {
        name
        for name, statement in statements(resources)
        if "sqs:SendMessage" in listed(statement["Action"]) and statement["Resource"] == queue
    }
    assert "ScheduleRolePolicy" in may_send
    for function in FAILURES_GO_TO_THE_QUEUE:
        config = resources[f"{function}EventInvokeConfig"]["Properties"]
        assert config["DestinationConfig"]["OnFailure"]["Destination"] == queue
        assert config["MaximumRetryAttempts"] == 2
        role = resources[function]["Properties"]["Role"]["Fn::GetAtt"][0]
        assert role in may_send, f"{function} could not deliver to its destination"
        assert variables(resources, function)["FAILURE_QUEUE_ARN"] == queue


def test_redrive_reads_the_failure_queue_in_batches_and_answers_for_each_event(resources: Json) -> None:
    [mapping] = of_type(resources, "AWS::Lambda::EventSourceMapping").values()
    assert mapping["EventSourceArn"] == {"Fn::GetAtt": ["FailureQueue", "Arn"]}
    assert mapping["FunctionName"] == {"Ref": "RedriveFunctionAliaslive"}
    assert mapping["BatchSize"] == 20
    assert mapping["MaximumBatchingWindowInSeconds"] >= 1  # AWS asks for it above 10 events
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


def test_an_event_stays_hidden_while_redrive_may_still_work_on_it(resources: Json) -> None:
    """https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html"""
    [mapping] = of_type(resources, "AWS::Lambda::EventSourceMapping").values()
    timeout = resources["RedriveFunction"]["Properties"]["Timeout"]
    hidden = resources["FailureQueue"]["Properties"]["VisibilityTimeout"]
    assert hidden >= 6 * timeout + mapping["MaximumBatchingWindowInSeconds"]


def test_what_no_redrive_mends_is_parked_for_14_days(source: Json, resources: Json) -> None:
    failed, parked = (resources[name]["Properties"] for name in ("FailureQueue", "ParkedQueue"))
    assert failed["DelaySeconds"] == {"Ref": "RedriveDelaySeconds"}
    assert failed["RedrivePolicy"]["deadLetterTargetArn"] == {"Fn::GetAtt": ["ParkedQueue", "Arn"]}
    assert failed["RedrivePolicy"]["maxReceiveCount"] >= source["Parameters"]["MaxAttempts"]["MaxValue"]
    assert parked["MessageRetentionPeriod"] == failed["MessageRetentionPeriod"] == 14 * 86_400
    assert parked["SqsManagedSseEnabled"] is failed["SqsManagedSseEnabled"] is True


# --- rights ------------------------------------------------------------------------------------------------------------

ARN_OF_SCHEDULES = (
    "arn:${AWS::Partition}:scheduler:${AWS::Region}:${AWS::AccountId}:schedule/${ScheduleGroup}/*"
)


def test_rights_name_exact_actions_and_resources(resources: Json) -> None:
    for name, statement in statements(resources):
        assert statement["Effect"] == "Allow"
        actions = listed(statement["Action"])
        assert not [action for action in actions if "*" in action], name
        for resource in listed(statement["Resource"]):
            if "*" not in json.dumps(resource):
                continue
            if resource == "*":
                assert actions == ["scheduler:ListSchedules"], f"{name}: only listing knows no resource"
            elif resource == {"Fn::Sub": "${ConnectInstanceArn}/contact/*"}:
                assert actions == ["connect:StopContact"]
            else:
                assert resource == {"Fn::Sub": ARN_OF_SCHEDULES}, name
                assert all(action.startswith("scheduler:") for action in actions)


def test_managed_policies_are_for_logs_traces_and_a_vpc_alone(resources: Json) -> None:
    for name, role in of_type(resources, "AWS::IAM::Role").items():
        given = json.dumps(role.get("ManagedPolicyArns", []))
        attached = set(re.findall(r"policy/(?:service-role/)?(\w+)", given))
        allowed = {"AWSLambdaBasicExecutionRole", "AWSXrayWriteOnlyAccess"}
        assert attached <= allowed | (
            {"AWSLambdaVPCAccessExecutionRole"} if name == "CleanupRole" else set()
        ), name
    assert [
        part["Fn::If"][0]
        for part in walk(resources["CleanupRole"]["Properties"]["ManagedPolicyArns"])
        if isinstance(part, dict) and "Fn::If" in part
    ] == ["HasVpc"]


def test_only_this_stacks_schedules_may_use_the_schedule_role(resources: Json) -> None:
    [statement] = resources["ScheduleRole"]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Principal"] == {"Service": "scheduler.amazonaws.com"}
    assert statement["Condition"] == {
        "StringEquals": {
            "aws:SourceAccount": {"Ref": "AWS::AccountId"},
            "aws:SourceArn": {"Fn::GetAtt": ["ScheduleGroup", "Arn"]},
        }
    }
    assert [
        (statement["Action"], statement["Resource"])
        for name, statement in statements(resources)
        if name == "ScheduleRolePolicy"
    ] == [
        ("lambda:InvokeFunction", {"Ref": "CleanupFunctionAliaslive"}),
        ("sqs:SendMessage", {"Fn::GetAtt": ["FailureQueue", "Arn"]}),
    ]


def test_a_role_is_passed_to_scheduler_alone_and_only_the_schedule_role(resources: Json) -> None:
    passing = [found for _, found in statements(resources) if "iam:PassRole" in listed(found["Action"])]
    assert len(passing) == len(may(resources, "scheduler:CreateSchedule"))
    for statement in passing:
        assert statement["Action"] == "iam:PassRole"
        assert statement["Resource"] == {"Fn::GetAtt": ["ScheduleRole", "Arn"]}
        assert statement["Condition"] == {"StringEquals": {"iam:PassedToService": "scheduler.amazonaws.com"}}


@pytest.mark.parametrize(
    ("actions", "holders"),
    [
        (["sns:Publish"], {"CleanupRole"}),
        (["secretsmanager:GetSecretValue", "lex:DeleteSession", "connect:StopContact"], {"CleanupRole"}),
        (["scheduler:CreateSchedule", "scheduler:UpdateSchedule"],
         {"TouchFunctionRole", "LifecycleFunctionRole", "CleanupRole"}),
        (["scheduler:DeleteSchedule"], {"LifecycleFunctionRole", "CleanupRole"}),
        (["dynamodb:Query"], {"SweepFunctionRole", "InspectFunctionRole"}),
        (["dynamodb:DeleteItem"], {"CleanupRole", "InspectFunctionRole"}),
        (["dynamodb:Scan"], set()),
    ],
)  # fmt: skip
def test_right_is_held_by_those_whose_work_it_is(
    resources: Json, actions: list[str], holders: set[str]
) -> None:
    assert may(resources, *actions) == holders


def invoked_by(resources: Json) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, statement in statements(resources):
        if "lambda:InvokeFunction" in listed(statement["Action"]):
            found.setdefault(name, set()).update(references(statement["Resource"]))
    return found


def test_functions_invoke_whom_the_design_says(resources: Json) -> None:
    touch, lifecycle, cleanup, inspect = (
        f"{name}FunctionAliaslive" for name in ("Touch", "Lifecycle", "Cleanup", "Inspect")
    )
    assert invoked_by(resources) == {
        "TouchFunctionRole": {cleanup},
        "LifecycleFunctionRole": {cleanup},
        "CleanupRole": {"EndCheckFunctionArn", "EndHookFunctionArn"},
        "SweepFunctionRole": {cleanup},
        "SweepHandOverPolicy": {"SweepFunctionAliaslive"},
        "RedriveFunctionRole": {touch, lifecycle, cleanup},
        "InspectFunctionRole": {cleanup},
        "ScheduleRolePolicy": {cleanup},
        "InvokePolicy": {touch, lifecycle, inspect},
    }


def test_rights_for_what_is_optional_come_with_its_parameter(resources: Json) -> None:
    [policy] = resources["CleanupRole"]["Properties"]["Policies"]
    assert {
        found["Fn::If"][1]["Action"]: found["Fn::If"][0]
        for found in policy["PolicyDocument"]["Statement"]
        if "Fn::If" in found and found["Fn::If"][1]["Action"] != "lambda:InvokeFunction"
    } == {
        "secretsmanager:GetSecretValue": "HasSessionStore",
        "lex:DeleteSession": "HasLex",
        "connect:StopContact": "MayStopContacts",
    }


def test_only_cleanup_is_put_into_a_vpc(resources: Json) -> None:
    assert [name for name in FUNCTIONS if "VpcConfig" in resources[name]["Properties"]] == ["CleanupFunction"]


def test_another_accounts_backend_is_let_in_only_when_named(resources: Json) -> None:
    let_in = {
        properties["FunctionName"]["Ref"]
        for name, properties in of_type(resources, "AWS::Lambda::Permission").items()
        if properties["Principal"] == {"Ref": "BackendAccountId"}
        and resources[name]["Condition"] == "HasBackendAccount"
    }
    assert let_in == {f"{name}FunctionAliaslive" for name in ("Touch", "Lifecycle", "Inspect")}


# --- state, topics, rules ----------------------------------------------------------------------------------------------


def test_tables_are_backed_up_encrypted_on_demand_and_expire_items(resources: Json) -> None:
    tables = of_type(resources, "AWS::DynamoDB::Table")
    assert tables.keys() == {"ConversationsTable", "ControlTable"}
    for table in tables.values():
        assert table["BillingMode"] == "PAY_PER_REQUEST"
        assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
        assert table["SSESpecification"] == {"SSEEnabled": True}
        assert table["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}


def test_sweep_index_holds_keys_alone(resources: Json) -> None:
    table = resources["ConversationsTable"]["Properties"]
    types = {
        attribute["AttributeName"]: attribute["AttributeType"] for attribute in table["AttributeDefinitions"]
    }
    assert types == {"conversation_id": "S", "sweep_shard": "S", "sweep_at": "N"}
    [index] = table["GlobalSecondaryIndexes"]
    assert index["IndexName"] == "sweep"
    assert [key["AttributeName"] for key in index["KeySchema"]] == ["sweep_shard", "sweep_at"]
    assert index["Projection"] == {"ProjectionType": "KEYS_ONLY"}


def test_queues_and_topics_refuse_whatever_is_not_tls(resources: Json) -> None:
    covered: set[str] = set()
    for kind, listed_as in (("AWS::SQS::QueuePolicy", "Queues"), ("AWS::SNS::TopicPolicy", "Topics")):
        for policy in of_type(resources, kind).values():
            refusals = [found for found in policy["PolicyDocument"]["Statement"] if found["Effect"] == "Deny"]
            assert [found["Condition"] for found in refusals] == [{"Bool": {"aws:SecureTransport": "false"}}]
            covered |= set(references(policy[listed_as])) & set(references(refusals[0]["Resource"]))
    assert covered == {"FailureQueue", "ParkedQueue", "OutcomeTopic", "AlarmTopic"}


def test_outcomes_are_encrypted_and_mailed_by_type(resources: Json) -> None:
    assert resources["OutcomeTopic"]["Properties"]["KmsMasterKeyId"] == "alias/aws/sns"
    subscription = resources["NotificationSubscription"]
    assert subscription["Condition"] == "HasNotificationEmail"
    assert subscription["Properties"]["FilterPolicy"] == {"type": {"Ref": "NotificationTypes"}}


def test_alarm_topic_is_under_no_key_that_cloudwatch_cannot_use(source: Json, resources: Json) -> None:
    key = resources["AlarmTopic"]["Properties"]["KmsMasterKeyId"]
    assert key == {"Fn::If": ["HasAlarmTopicKey", {"Ref": "AlarmTopicKeyArn"}, {"Ref": "AWS::NoValue"}]}
    assert source["Parameters"]["AlarmTopicKeyArn"]["Default"] == ""


def test_sweep_runs_by_a_rule_whose_rate_is_spelled_right(resources: Json) -> None:
    [(name, rule)] = [
        (name, rule)
        for name, rule in of_type(resources, "AWS::Events::Rule").items()
        if "ScheduleExpression" in rule
    ]
    assert rule["ScheduleExpression"] == {
        "Fn::If": ["IsEveryMinute", "rate(1 minute)", {"Fn::Sub": "rate(${SweepPeriodMinutes} minutes)"}]
    }
    assert [target["Arn"] for target in rule["Targets"]] == [{"Ref": "SweepFunctionAliaslive"}]
    permission = resources[f"{name}Permission"]["Properties"]
    assert permission["FunctionName"] == {"Ref": "SweepFunctionAliaslive"}
    assert permission["SourceArn"] == {"Fn::GetAtt": [name, "Arn"]}


def test_connect_events_reach_lifecycle_only_when_asked_for(source: Json, resources: Json) -> None:
    assert source["Parameters"]["ConnectEvents"]["Default"] == "false"
    for name in ("ConnectRule", "ConnectMayLifecycle"):
        assert resources[name]["Condition"] == "HasConnectEvents"
    rule = resources["ConnectRule"]["Properties"]
    assert rule["EventPattern"]["source"] == ["aws.connect"]
    assert [target["Arn"] for target in rule["Targets"]] == [{"Ref": "LifecycleFunctionAliaslive"}]
    assert resources["ConnectMayLifecycle"]["Properties"]["SourceArn"] == {
        "Fn::GetAtt": ["ConnectRule", "Arn"]
    }


# --- alarms ------------------------------------------------------------------------------------------------------------


def test_every_alarm_reaches_the_topic_and_says_what_to_do(resources: Json) -> None:
    alarms = of_type(resources, "AWS::CloudWatch::Alarm")
    for name, alarm in alarms.items():
        assert alarm["AlarmActions"] == [{"Ref": "AlarmTopic"}], name
        assert re.search(r"\b([Cc]heck|[Ll]ist|[Rr]ead|[Rr]aise|[Ll]ook)\b", alarm["AlarmDescription"]), name
        missing = "breaching" if name == "SweepMissingAlarm" else "notBreaching"
        assert alarm["TreatMissingData"] == missing, name


def test_what_can_go_wrong_has_an_alarm(resources: Json) -> None:
    watched = {
        (alarm["Namespace"], alarm["MetricName"], *(
            f"{one['Name']}={'/'.join(references(one['Value']))}" for one in alarm["Dimensions"]
        ))
        for alarm in of_type(resources, "AWS::CloudWatch::Alarm").values()
    }  # fmt: skip
    of_functions = {
        ("AWS/Lambda", metric, f"FunctionName={function}")
        for metric in ("Errors", "Throttles")
        for function in FUNCTIONS
    }
    assert watched == of_functions | {
        ("AWS/Lambda", "Invocations", "FunctionName=SweepFunction"),
        ("AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName=ParkedQueue"),
        ("AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName=FailureQueue"),
        ("AWS/Scheduler", "TargetErrorCount", "ScheduleGroup=ScheduleGroup"),
        ("AWS/Scheduler", "InvocationDroppedCount", "ScheduleGroup=ScheduleGroup"),
        # The functions' own metrics carry exactly this dimension: with any other an alarm sees nothing.
        ("IdleTimer", "Parked", "service=AWS::StackName"),
        ("IdleTimer", "SweepRepaired", "service=AWS::StackName"),
        ("IdleTimer", "EndLatenessSeconds", "service=AWS::StackName"),
    }
    for function in FUNCTIONS:
        given = variables(resources, function)
        assert given["POWERTOOLS_SERVICE_NAME"] == {"Ref": "AWS::StackName"}
        assert given["POWERTOOLS_METRICS_NAMESPACE"] == "IdleTimer"


def test_a_missing_sweep_is_noticed_after_three_periods(resources: Json) -> None:
    alarm = resources["SweepMissingAlarm"]["Properties"]
    assert alarm["Period"] == 3 * 60
    assert alarm["EvaluationPeriods"] == {"Ref": "SweepPeriodMinutes"}


# --- sam's settings ----------------------------------------------------------------------------------------------------


def test_sam_deploy_needs_no_edit_and_asks_nothing(source: Json) -> None:
    config = tomllib.loads((REPOSITORY / "samconfig.toml").read_text(encoding="utf-8"))
    assert config["default"]["global"]["parameters"]["stack_name"] == "idle-timer"
    deploy = config["default"]["deploy"]["parameters"]
    assert (deploy["resolve_s3"], deploy["capabilities"], deploy["confirm_changeset"]) == (
        True,
        "CAPABILITY_IAM",
        False,
    )
    assert {"local", "dev", "prod"} <= config.keys()
    for environment in ("dev", "prod"):
        given = config[environment]["deploy"]["parameters"]["parameter_overrides"]
        assert {pair.split("=")[0] for pair in given.split()} <= source["Parameters"].keys()
