"""What `make prove` shows of the rights without a stack; and that it would notice."""

import copy
from typing import Any

import pytest

from tests.local.stack import Call
from tests.prove.everything import EVERYTHING, FUNCTIONS, STACK_NAME
from tests.prove.policies import Json, Template
from tests.prove.privilege import expanded, judge, needs, table, written
from tests.prove.trust import questions


@pytest.fixture(scope="module")
def source() -> Json:
    return expanded()


@pytest.fixture
def changed(source: Json) -> Json:
    """To be damaged by a test."""
    return copy.deepcopy(source)


def template(source: Json) -> Template:
    return Template(source, EVERYTHING, stack_name=STACK_NAME)


def wrong(source: Json) -> set[str]:
    return {question.text for question in questions(template(source)) if question.answer != question.expected}


def call(service: str, operation: str, **params: Any) -> Call:
    return Call(1, 0.0, service, operation, "privilege-touch", params, 1, 200, "")


def test_exactly_those_who_should_be_are_let_in(source: Json) -> None:
    assert wrong(source) == set()


def test_a_trust_policy_without_its_source_lets_in_whom_it_should_not(changed: Json) -> None:
    [statement] = changed["Resources"]["ScheduleRole"]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    del statement["Condition"]["StringEquals"]["aws:SourceArn"]
    assert "ScheduleRole for another group's schedule" in wrong(changed)
    del statement["Condition"]
    assert "ScheduleRole for the wrong account" in wrong(changed)


def test_a_permission_without_its_rule_lets_in_whom_it_should_not(changed: Json) -> None:
    del changed["Resources"]["ConnectMayLifecycle"]["Properties"]["SourceArn"]
    assert "LifecycleFunctionAliaslive for events.amazonaws.com from another" in wrong(changed)


def test_the_template_grants_exactly_what_the_recorded_run_needs(source: Json) -> None:
    assert written(template(source).grants()) == table()


def test_a_call_is_allowed_by_its_own_role_alone(source: Json) -> None:
    mine = template(source)
    roles = {"privilege-touch": "TouchFunctionRole"}
    table_name = mine.name("ConversationsTable")
    record = [
        call("dynamodb", "UpdateItem", TableName=table_name),
        call("dynamodb", "DeleteItem", TableName=table_name),
        call("dynamodb", "UpdateItem", TableName="another"),
        call("scheduler", "DeleteSchedule", Name="c-1", GroupName=STACK_NAME),
        call("scheduler", "CreateSchedule", Name="c-1", GroupName="another", Target={"RoleArn": "another"}),
        call("lambda", "Invoke", FunctionName=f"{FUNCTIONS}:{STACK_NAME}-cleanup"),
        call("lambda", "Invoke", FunctionName=f"{FUNCTIONS}:{STACK_NAME}-cleanup:live"),
    ]
    verdict = judge(mine, record, roles)
    assert [denied.split()[1] for denied in verdict.denied] == [
        "dynamodb:DeleteItem",
        "dynamodb:UpdateItem",
        "iam:PassRole",
        "lambda:InvokeFunction",
        "scheduler:CreateSchedule",
        "scheduler:DeleteSchedule",
    ]
    assert (verdict.seen, verdict.allowed) == (len(record), 2)
    used = {str(grant) for grant in mine.grants()} - {str(grant) for grant in verdict.unused}
    assert {each for each in used if each.startswith("TouchFunctionRole")} == {
        "TouchFunctionRole: dynamodb:UpdateItem on ConversationsTable",
        "TouchFunctionRole: lambda:InvokeFunction on CleanupFunctionAliaslive",
    }


def test_a_call_that_nobody_has_thought_of_is_no_silent_pass() -> None:
    with pytest.raises(NotImplementedError, match="kms Decrypt"):
        needs(call("kms", "Decrypt"))
