"""The README tells the truth: what it names exists, and what exists is named."""

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest
from samcli.yamlhelper import yaml_parse

from idle_timer import errors
from idle_timer.conversation import Conversation, Firing, ended_by_timer
from idle_timer.messages import TouchEvent, answer, end_check, outcome, sentence
from idle_timer.operator_events import OneEvent, Which
from idle_timer.settings import Settings
from idle_timer.timestamps import parse_time

REPOSITORY = Path(__file__).parents[2]
README = (REPOSITORY / "README.md").read_text()
TEMPLATE: dict[str, Any] = yaml_parse((REPOSITORY / "template.yaml").read_text())
MAKEFILE = (REPOSITORY / "Makefile").read_text()
SOURCES = sorted((REPOSITORY / "layers/shared/idle_timer").rglob("*.py"))

# Capitals in the README that are nobody's environment variable here.
OTHERS_WORDS = {
    "AWS_ACCESS_KEY_ID",  # of sam and the AWS CLI
    "AWS_SECRET_ACCESS_KEY",
    "AWS_DEFAULT_REGION",
    "DOCKER_HOST",
    "HOST_ADDRESS",  # of make
}


def section(title: str) -> str:
    """The text under a heading, up to the next of its level or a higher one."""
    heading = next(line for line in README.splitlines() if re.fullmatch(rf"#+ {re.escape(title)}", line))
    level = heading.index(" ")
    text = README.partition(f"\n{heading}\n")[2]
    return re.split(rf"^#{{1,{level}}} ", text, maxsplit=1, flags=re.MULTILINE)[0]


def first_cells(text: str) -> list[str]:
    """The names in the first column of the text's tables."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rules = {number for number, line in enumerate(lines) if line.startswith("| ---")}
    cells = [
        line.split("|")[1]
        for number, line in enumerate(lines)
        if not rules.intersection((number, number + 1))
    ]
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


def code_blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


# --- the template ----------------------------------------------------------------------------------------------------


def parameter_rows() -> list[str]:
    """The configuration table, as the template says it."""
    return [
        f"| `{name}` | {_code(parameter['Default'])} | {_takes(parameter)} | {parameter['Description']} |"
        for name, parameter in TEMPLATE["Parameters"].items()
    ]


def _takes(parameter: dict[str, Any]) -> str:
    if "AllowedValues" in parameter:
        several = "any of " if parameter["Type"] == "CommaDelimitedList" else ""
        return several + ", ".join(_code(value) for value in parameter["AllowedValues"])
    if "MinValue" in parameter:
        return f"{parameter['MinValue']} to {parameter['MaxValue']}"
    if "ConstraintDescription" in parameter:
        return str(parameter["ConstraintDescription"]).removeprefix("must be ")
    return f"{parameter.get('MinLength', 0)} to {parameter['MaxLength']} characters"


def _code(value: object) -> str:
    return "" if value == "" else f"`{value}`"


def output_rows() -> list[str]:
    """The table of outputs, as the template says it."""
    return [f"| `{name}` | {output['Description']} |" for name, output in TEMPLATE["Outputs"].items()]


def test_the_configuration_table_is_the_templates_parameters() -> None:
    rows = [line for line in section("Configuration").splitlines() if line.startswith("| `")]
    assert rows == parameter_rows()


def test_the_table_of_outputs_is_the_templates_outputs() -> None:
    rows = [line for line in section("Deploy").splitlines() if line.startswith("| `")]
    assert rows == output_rows()


def test_each_capitalised_compound_in_code_is_a_parameter_an_output_a_metric_or_an_error() -> None:
    known = {*TEMPLATE["Parameters"], *TEMPLATE["Outputs"], *metrics(), *dir(errors)}
    known |= {f"Conversation{word}" for word in OUTCOME_WORDS} | set(TEMPLATE["Resources"])
    known |= {"ActionAfterCompletion", "IdleTimer"}
    known |= {"InvocationType", "RequestResponse", "ClientToken", "ConflictException", "UpdateSchedule"}
    named = set(re.findall(r"`([A-Z][a-z]+(?:[A-Z][a-z]+)+)(?:=[^`]*)?`", README))
    assert named - known == set()


def test_each_environment_variable_that_it_names_is_declared() -> None:
    functions = [r for r in TEMPLATE["Resources"].values() if r["Type"] == "AWS::Serverless::Function"]
    environments = [TEMPLATE["Globals"]["Function"], *(function["Properties"] for function in functions)]
    declared = {name for each in environments for name in each["Environment"]["Variables"]}
    named = set(re.findall(r"\b[A-Z]{2,}(?:_[A-Z]+)+\b", README))
    assert named - declared - OTHERS_WORDS == set()


def test_the_runbook_has_every_alarm() -> None:
    alarms = [
        r["Properties"] for r in TEMPLATE["Resources"].values() if r["Type"] == "AWS::CloudWatch::Alarm"
    ]
    names = [str(alarm["AlarmName"]["Fn::Sub"]).removeprefix("${AWS::StackName}-") for alarm in alarms]
    assert sorted(first_cells(section("Alarms"))) == sorted(names)


def test_it_counts_the_alarms_that_cost_money() -> None:
    alarms = [r for r in TEMPLATE["Resources"].values() if r["Type"] == "AWS::CloudWatch::Alarm"]
    assert f"{len(alarms)} alarms" in section("What it costs")


# --- the code --------------------------------------------------------------------------------------------------------

OUTCOME_WORDS = ("Opened", "Warned", "Ended", "Reopened", "Paused", "Resumed", "EndFailed")


def metrics() -> set[str]:
    """The first argument of every `count(...)` in the code."""
    return {
        argument.value
        for source in SOURCES
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.Call) and _called(node.func) == "count"
        for argument in node.args[:1]
        if isinstance(argument, ast.Constant)
        if isinstance(argument.value, str) and re.fullmatch(r"([A-Z][a-z]+)+", argument.value)
    }


def _called(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def test_the_table_of_metrics_is_what_the_code_counts() -> None:
    assert set(re.findall(r"^\| `(\w+)`", section("Metrics"), re.MULTILINE)) == metrics()


def test_the_table_of_state_is_the_items_fields() -> None:
    assert first_cells(section("State")) == [field.name for field in fields(Conversation)] or (
        sorted(first_cells(section("State"))) == sorted(field.name for field in fields(Conversation))
    )


def test_the_table_of_the_touch_event_is_its_fields() -> None:
    table = section("Invoke").partition("Fields of the event")[2].partition("The answer")[0]
    assert first_cells(table) == list(TouchEvent.model_fields)


def test_the_table_of_outcomes_is_what_the_template_lets_one_subscribe_to() -> None:
    types = TEMPLATE["Parameters"]["NotificationTypes"]["AllowedValues"]
    assert sorted(first_cells(section("Outcomes"))) == sorted(types)


def test_the_tables_of_inspect_are_what_it_takes() -> None:
    actions, which = get_args(OneEvent.model_fields["action"].annotation), get_args(Which)
    named = re.findall(r"^\| `(\w+)` \|", section("Inspect"), re.MULTILINE)
    assert set(named) == {"action", "list", "retry", "hold", *actions, "which", *which}


def test_the_table_of_errors_is_the_codes() -> None:
    ours = {
        name: kind
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.IdleTimerError)
    }
    parents = {parent for kind in ours.values() for parent in kind.__bases__}
    leaves = {name for name, kind in ours.items() if kind not in parents}
    assert {name for name in first_cells(section("Errors")) if name.endswith("Error")} == leaves


SETTINGS = Settings(conversations_table="t", control_table="c")
CONVERSATION = Conversation(
    conversation_id="c-1",
    opening_id="ad871ff6b9fd8a66f8d6726a",
    opened_at=parse_time("2026-01-31T12:00:00.412Z"),
    last_activity_at=parse_time("2026-01-31T12:00:00.412Z"),
    state_since=parse_time("2026-01-31T12:00:00.412Z"),
    attributes={"channel": "web"},
)


def example_outcome() -> dict[str, Any]:
    firing = Firing(
        source="schedule",
        fired_at=parse_time("2026-01-31T12:05:07.902Z"),
        scheduled_for="2026-01-31T12:05:02Z",
    )
    ended = ended_by_timer(CONVERSATION, parse_time("2026-01-31T12:05:07.981Z"), firing, SETTINGS)
    [entry] = [entry for entry in ended.outbox.values() if entry.kind == "outcome"]
    return outcome("c-1", entry)


def test_the_example_of_an_outcome_is_what_is_published() -> None:
    assert [json.loads(block) for block in code_blocks("json") if '"proof"' in block] == [example_outcome()]
    assert f"{sentence(example_outcome())}\n" in code_blocks("text")


def test_the_example_of_an_end_check_is_what_is_asked() -> None:
    [asked] = [
        json.loads(block) for block in re.findall(r"```json\n(.*?)```", section("Your own code"), re.DOTALL)
    ]
    assert asked == end_check(CONVERSATION, parse_time("2026-01-31T12:05:01.000Z"))


def test_the_example_of_an_answer_has_the_answers_fields() -> None:
    [answered] = [json.loads(block) for block in code_blocks("json") if '"timer"' in block]
    assert list(answered) == list(
        answer("c-1", CONVERSATION, result="opened", timer="created", due_at=None, ignored=())
    )


# --- files, commands, links ------------------------------------------------------------------------------------------


def test_each_make_command_exists_and_each_is_told() -> None:
    commands = set(re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z]+)`", README)) == commands


def linked() -> Iterator[str]:
    for target in re.findall(r"\]\(([^)\s]+)\)", README):
        if not target.startswith("https://"):
            yield target


@pytest.mark.parametrize("target", sorted(set(linked())))
def test_each_link_leads_somewhere(target: str) -> None:
    file, _, anchor = target.partition("#")
    assert not file or (REPOSITORY / file).exists()
    headings = re.findall(r"^#+ (.+)$", README, re.MULTILINE)
    assert not anchor or anchor in {re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"\b(?:events|tests|functions|layers)/[\w./-]*\w", README)))
)
def test_each_file_that_it_names_exists(path: str) -> None:
    assert (REPOSITORY / path).exists()


def test_its_sql_is_the_samples() -> None:
    sample = (REPOSITORY / "tests/samples/postgres_end_hook.py").read_text().partition('UPDATE = """')[2]
    statement = re.sub(r" -- .*", "", sample.partition('"""')[0])
    assert [block.split() for block in code_blocks("sql")] == [statement.split()]


def test_its_python_compiles() -> None:
    for block in code_blocks("python"):
        compile(block, "README.md", "exec")


def test_each_sample_that_it_names_exists() -> None:
    named = set(
        re.findall(r"`((?:bad-)?(?:touch|lifecycle|cleanup|sweep|redrive|inspect)[\w-]*\.json)`", README)
    )
    assert named
    assert all((REPOSITORY / "events" / name).exists() for name in named)
