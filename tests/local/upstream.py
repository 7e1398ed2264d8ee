"""Asks MiniStack as it is, without a single mend, which of the mends it still needs.

``python -m tests.local.upstream`` prints ``{mend: still needed}``. A probe that fails with an exception counts as
needed no longer: upstream has changed there, and somebody must look. With ``--mended`` the mends are in place, which
shows that the probes can tell.
"""

import base64
import contextlib
import inspect
import io
import json
import os
import sys
import time
import zipfile
from collections.abc import Callable
from typing import Any

from tests.local.runtime import bare_interpreter

PROBES: dict[str, Callable[[], bool]] = {}
ROLE = "arn:aws:iam::000000000000:role/probe"
SCHEDULE: dict[str, Any] = {
    "ScheduleExpression": "at(2020-01-01T00:00:00)",
    "FlexibleTimeWindow": {"Mode": "OFF"},
    "Target": {"Arn": "arn:aws:lambda:us-east-1:000000000000:function:probe", "RoleArn": ROLE, "Input": "{}"},
}


def probe(function: Callable[[], bool]) -> Callable[[], bool]:
    """Register a probe under its own name, which is its mend's."""
    PROBES[function.__name__] = function
    return function


@probe
def fire_schedules_as_aws_does() -> bool:
    """An updated schedule does not fire again."""
    from ministack.services import eventbridge, scheduler

    fired: list[str] = []
    original = eventbridge._dispatch_to_lambda
    eventbridge._dispatch_to_lambda = lambda arn, payload: fired.append(payload)
    try:
        wanted = {**SCHEDULE, "Target": {**SCHEDULE["Target"], "Input": '"<aws.scheduler.scheduled-time>"'}}
        scheduler._create_schedule("refire", wanted)
        scheduler._tick_schedules()
        scheduler._update_schedule("refire", wanted)
        scheduler._tick_schedules()
    finally:
        eventbridge._dispatch_to_lambda = original
        scheduler.reset()
    source = inspect.getsource(scheduler)
    return (
        len(fired) == 1
        or "<aws.scheduler" in fired[0]
        or scheduler._SCHEDULE_TICK_INTERVAL > 0.5
        or not ("RetryPolicy" in source and "DeadLetterConfig" in source)
    )


@probe
def validate_schedules() -> bool:
    """A name that is too long is taken."""
    from ministack.services import scheduler

    try:
        return bool(
            scheduler._create_schedule("n" * 65, {**SCHEDULE, "ScheduleExpression": "soon"})[0] == 200
        )
    finally:
        scheduler.reset()


@probe
def page_schedules() -> bool:
    """The second of two schedules cannot be listed with pages of one."""
    from ministack.services import scheduler

    try:
        for name in ("one", "two"):
            scheduler._create_schedule(name, SCHEDULE)
        return "NextToken" not in json.loads(scheduler._list_schedules({"MaxResults": "1"})[2])
    finally:
        scheduler.reset()


@probe
def authorise_schedules_of_groups() -> bool:
    """The ARN that is authorised names the wrong group."""
    from ministack.core.iam_actions import extract_resource_arn

    body = json.dumps({"GroupName": "mine"}).encode()
    arn = extract_resource_arn(
        "scheduler", "POST", "/schedules/probe", {}, body, {}, "us-east-1", "000000000000"
    )
    return ":schedule/mine/" not in arn


@probe
def check_roles_of_schedules() -> bool:
    """Nothing in the Scheduler, nor anywhere else, asks about the role."""
    from ministack import app
    from ministack.services import scheduler

    return not any("PassRole" in inspect.getsource(module) for module in (app, scheduler))


@probe
def run_functions_on() -> bool:
    """Functions run on the emulator's interpreter."""
    from ministack.core import lambda_runtime

    return bool(lambda_runtime._detect_runtime_binary("python3.13")[0] == sys.executable)


@probe
def keep_the_emulators_environment_out_of_functions() -> bool:
    """A function sees a variable of the emulator."""
    os.environ["PROBE"] = "leaks"
    return "PROBE" in invoke("import os\ndef handler(event, context): return dict(os.environ)")["body"]


@probe
def point_functions_here() -> bool:
    """An empty endpoint reaches the function as it is."""
    code = "import os\ndef handler(event, context): return os.environ['AWS_ENDPOINT_URL']"
    return bool(invoke(code, {"AWS_ENDPOINT_URL": ""})["body"] == "")


@probe
def tell_functions_apart() -> bool:
    """Two functions have the same credentials."""
    from ministack.core.lambda_runtime import execution_credentials

    arn = "arn:aws:lambda:us-east-1:000000000000:function:"
    one, two = (execution_credentials({"FunctionArn": arn + name, "FunctionName": name}) for name in "ab")
    return bool(one == two)


@probe
def report_what_a_function_raised() -> bool:
    """The error's type is lost."""
    return bool(invoke("def handler(event, context): raise KeyError('x')")["body"]["errorType"] != "KeyError")


@probe
def end_only_the_environment_that_failed() -> bool:
    """A failure ends them all."""
    from ministack.services import lambda_svc

    return "invalidate_worker(func_name" in inspect.getsource(lambda_svc._execute_function_warm)


@probe
def retry_events_as_lambda_does() -> bool:
    """An alias' configuration is not looked at: a retry that it forbids takes place."""
    from ministack.services import lambda_svc

    runs: list[Any] = []
    original = lambda_svc._execute_function

    def fail(function: Any, event: Any) -> dict[str, Any]:
        runs.append(event)
        return {"error": True}

    lambda_svc._execute_function = fail
    try:
        record = function_record("alias:live")
        record["event_invoke_configs"] = {"live": {"MaximumRetryAttempts": 0}}
        lambda_svc._functions["alias"] = record
        lambda_svc.invoke_async_with_retry(record, {})
        time.sleep(0.3)
    finally:
        lambda_svc._execute_function = original
        lambda_svc._functions.clear()
    return len(runs) > 1


@probe
def invoke_rule_targets_as_events() -> bool:
    """A rule's target is not invoked by way of the asynchronous retries."""
    from ministack.services import eventbridge

    source = inspect.getsource(eventbridge._dispatch_to_lambda)
    return "invoke_async_with_retry" not in source and "x-amz-invocation-type" not in source.lower()


@probe
def name_the_alias_to_event_source_targets() -> bool:
    """The record that is run does not take the mapping's ARN."""
    from ministack.services import lambda_svc

    seen: list[dict[str, Any]] = []
    original = lambda_svc._execute_function

    def note(function: Any, event: Any) -> dict[str, Any]:
        seen.append(function)
        return {"body": None}

    lambda_svc._execute_function = note
    try:
        arn = function_record("queue:live")["config"]["FunctionArn"]
        mapping = {"UUID": "probe", "FunctionName": "queue", "FunctionArn": arn}
        lambda_svc._run_sqs_batch(mapping, function_record("queue:1"), {}, [], "", "")
    finally:
        lambda_svc._execute_function = original
    return bool(seen[0]["config"]["FunctionArn"] != arn)


def function_record(name: str, code: str = "", variables: dict[str, str] | None = None) -> dict[str, Any]:
    """A function as MiniStack keeps it."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("app.py", code)
    config = {
        "FunctionName": name.split(":")[0],
        "FunctionArn": f"arn:aws:lambda:us-east-1:000000000000:function:{name}",
        "Runtime": "python3.13",
        "Handler": "app.handler",
        "Role": ROLE,
        "Timeout": 10,
        "Environment": {"Variables": variables or {}},
    }
    return {"config": config, "code_zip": archive.getvalue()}


def invoke(code: str, variables: dict[str, str] | None = None) -> dict[str, Any]:
    """Run a function to its end."""
    from ministack.services import lambda_svc

    name = "probe" + base64.b16encode(os.urandom(4)).decode()
    result: dict[str, Any] = lambda_svc._execute_function(function_record(name, code, variables), {})
    return result


def main() -> None:
    """Print which mends are still needed."""
    needed = {}
    if "--mended" in sys.argv:
        from ministack import app

        from tests.local import mends
        from tests.local.gate import Gate

        mends.apply(Gate(app.app), str(bare_interpreter()))
    with contextlib.redirect_stdout(sys.stderr):
        for name, ask in PROBES.items():
            try:
                needed[name] = ask()
            except Exception as changed:  # noqa: BLE001 - whatever upstream's change makes of the probe
                print(f"{name}: {changed!r}")
                needed[name] = False
        from ministack.core import lambda_runtime

        lambda_runtime.reset()
    print(json.dumps(needed))


if __name__ == "__main__":
    main()
