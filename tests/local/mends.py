"""What MiniStack gets wrong, put right: one function per mend, each saying what is wrong upstream.

Imported by ``tests.local.emulator`` only, after the environment is set, since importing MiniStack reads it.
``tests/integration/test_local_stack.py`` shows each mend working, and tells when upstream no longer needs it.
"""

import asyncio
import collections
import contextvars
import functools
import hashlib
import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
import types
import uuid
import zoneinfo
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import botocore.session
from ministack import app
from ministack.core import iam_actions, iam_evaluator, lambda_runtime
from ministack.core.responses import get_region, set_request_account_id, set_request_region
from ministack.core.router import extract_access_key_id
from ministack.services import eventbridge, lambda_svc, scheduler, sts

from tests.local.gate import Gate, Response

LOGGER = logging.getLogger("tests.local.mends")
SCHEDULER_TICK_SECONDS = 0.2
SCHEDULER_RETRY_SECONDS = 0.2  # AWS waits from seconds to minutes between attempts
EVENTS_AT_ONCE = 2 + 2 * (os.cpu_count() or 1)  # asynchronous runs of one function
AT_EXPRESSION = re.compile(r"at\((\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\)")
RECURRING_EXPRESSION = re.compile(r"(rate|cron)\(.+\)")

# What the Python 3.13 runtime's environment holds besides the function's own variables
# (docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html).
RUNTIME_ENVIRONMENT = {
    "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13",
    "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
    "LANG": "en_US.UTF-8",
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "TZ": ":UTC",
}


def apply(gate: Gate, interpreter: str) -> None:
    """Apply every mend; the functions then run on the interpreter."""
    fire_schedules_as_aws_does(gate)
    validate_schedules()
    page_schedules()
    authorise_schedules_of_groups()
    check_roles_of_schedules()
    count_loopback_as_tls()
    run_functions_on(interpreter)
    keep_the_emulators_environment_out_of_functions()
    point_functions_here()
    tell_functions_apart(gate)
    report_what_a_function_raised()
    end_only_the_environment_that_failed()
    retry_events_as_lambda_does(gate)
    invoke_rule_targets_as_events(gate)
    name_the_alias_to_event_source_targets()
    crash_functions_on_demand(gate)


def fire_schedules_as_aws_does(gate: Gate) -> None:
    """One-time schedules are fired here instead of by MiniStack.

    Upstream remembers by name what has fired, so an updated or re-created schedule of that name never fires again,
    and one that had fired does so again after a restart; it looks every 10 seconds; it passes
    ``<aws.scheduler.*>`` on verbatim; it knows no RetryPolicy and no dead-letter queue; and it runs a function
    without Lambda's own retries and on-failure destination.
    """
    scheduler._at_time_epoch = lambda expression: (
        None
    )  # MiniStack's own ticker is left with rate() and cron()
    gate.background.append(functools.partial(_fire_due_schedules, gate))


async def _fire_due_schedules(gate: Gate) -> None:
    deliveries = set[asyncio.Task[None]]()
    while True:
        await asyncio.sleep(SCHEDULER_TICK_SECONDS)
        for (account, region, key), schedule in list(scheduler._schedules._data.items()):
            due = _at_epoch(schedule["ScheduleExpression"], schedule["ScheduleExpressionTimezone"])
            if due is None or time.time() < due or schedule["State"] != "ENABLED" or "FiredAt" in schedule:
                continue
            schedule["FiredAt"] = time.time()  # an update puts a new record in place of this one
            set_request_account_id(account)
            set_request_region(region)
            delivery = asyncio.create_task(_deliver(gate, schedule, due))
            deliveries.add(delivery)
            delivery.add_done_callback(deliveries.discard)
            if schedule["ActionAfterCompletion"] == "DELETE":
                scheduler._schedules._data.pop((account, region, key), None)


@functools.lru_cache(maxsize=100_000)
def _at_epoch(expression: str, timezone: str) -> float | None:
    found = AT_EXPRESSION.fullmatch(expression)
    if found is None:
        return None
    return datetime.fromisoformat(found[1]).replace(tzinfo=zoneinfo.ZoneInfo(timezone)).timestamp()


async def _deliver(gate: Gate, schedule: Mapping[str, Any], due: float) -> None:
    """Hand one firing to its target; retry; give up to the dead-letter queue."""
    target = schedule["Target"]
    policy = {"MaximumRetryAttempts": 185, "MaximumEventAgeInSeconds": 86_400} | (
        target.get("RetryPolicy") or {}
    )
    execution_id, started, attempt = uuid.uuid4().hex[:16], time.monotonic(), 0
    context = {
        "schedule-arn": schedule["Arn"],
        "scheduled-time": datetime.fromtimestamp(due, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "execution-id": execution_id,
    }
    while True:
        attempt += 1
        payload = target.get("Input") or _default_input(schedule, due)
        for name, value in {**context, "attempt-number": str(attempt)}.items():
            payload = payload.replace(f"<aws.scheduler.{name}>", value)
        status, code, message = await _send(gate, target["Arn"], payload, role=target["RoleArn"])
        if status < 300:
            return
        exhausted = ""
        if attempt > policy["MaximumRetryAttempts"]:
            exhausted = "MaximumRetryAttempts"
        elif time.monotonic() - started + SCHEDULER_RETRY_SECONDS > policy["MaximumEventAgeInSeconds"]:
            exhausted = "MaximumEventAgeInSeconds"
        if exhausted:
            break
        await asyncio.sleep(SCHEDULER_RETRY_SECONDS)
    queue = (target.get("DeadLetterConfig") or {}).get("Arn")
    if not queue:
        return
    # docs.aws.amazon.com/scheduler/latest/UserGuide/configuring-schedule-dlq.html
    attributes = {
        "ERROR_CODE": code,
        "ERROR_MESSAGE": message,
        "EXECUTION_ID": execution_id,
        "EXHAUSTED_RETRY_CONDITION": exhausted,
        "IS_PAYLOAD_TRUNCATED": "false",
        "RETRY_ATTEMPTS": str(attempt - 1),
        "SCHEDULED_TIME": context["scheduled-time"],
        "SCHEDULE_ARN": schedule["Arn"],
        "TARGET_ARN": target["Arn"],
    }
    if denial := _denial(target["RoleArn"], "sqs:SendMessage", queue):
        LOGGER.error("%s: event lost", denial)
        return
    sent = gate.arrived(
        "sqs", "SendMessage", "scheduler.amazonaws.com", {"QueueUrl": queue, "MessageBody": payload}
    )
    sent.status, _, _ = await _ask("sqs", *_sqs_message(queue, payload, attributes))


def _default_input(schedule: Mapping[str, Any], due: float) -> str:
    parts = schedule["Arn"].split(":")
    event = {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "Scheduled Event",
        "source": "aws.scheduler",
        "account": parts[4],
        "time": datetime.fromtimestamp(due, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": parts[3],
        "resources": [schedule["Arn"]],
        "detail": "{}",
    }
    return json.dumps(event)


async def _send(
    gate: Gate, arn: str, payload: str, *, principal: str = "scheduler.amazonaws.com", role: str = ""
) -> tuple[int, str, str]:
    """Invoke a function asynchronously, or send to a queue, in a service's name; (status, error code, message)."""
    action = {"lambda": "lambda:InvokeFunction", "sqs": "sqs:SendMessage"}.get(arn.split(":")[2], "")
    if role and (denial := _denial(role, action, arn)):
        return 403, "AccessDeniedException", denial
    service = arn.split(":")[2]
    if service == "lambda":
        call = gate.arrived("lambda", "Invoke", principal, {"FunctionName": arn, "Payload": _loads(payload)})
        path = f"/2015-03-31/functions/{quote(arn)}/invocations"
        request = "POST", path, {"x-amz-invocation-type": "Event"}, payload.encode()
    elif service == "sqs":
        call = gate.arrived("sqs", "SendMessage", principal, {"QueueUrl": arn, "MessageBody": payload})
        request = _sqs_message(arn, payload, {})
    else:
        return 400, "ValidationException", f"targets of {service} are not emulated"
    status, _, body = await gate.pass_through(call, lambda: _ask(service, *request))
    error = _loads(body.decode()) if status >= 300 else {}
    return status, call.error, str(error.get("message") or error.get("Message") or "")


def _loads(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return {"body": text}


async def _ask(service: str, method: str, path: str, headers: dict[str, str], body: bytes) -> Response:
    status, answered, content = await app.SERVICE_HANDLERS[service](method, path, headers, body, {})
    named = [(str(name).lower().encode(), str(value).encode()) for name, value in answered.items()]
    return status, named, content if isinstance(content, bytes) else str(content).encode()


def _sqs_message(
    queue_arn: str, body: str, attributes: Mapping[str, str]
) -> tuple[str, str, dict[str, str], bytes]:
    *_, account, name = queue_arn.split(":")
    request = {
        "QueueUrl": f"http://127.0.0.1:{os.environ['GATEWAY_PORT']}/{account}/{name}",
        "MessageBody": body,
        "MessageAttributes": {
            key: {"DataType": "String", "StringValue": value} for key, value in attributes.items() if value
        },
    }
    headers = {"x-amz-target": "AmazonSQS.SendMessage", "content-type": "application/x-amz-json-1.0"}
    return "POST", "/", headers, json.dumps(request).encode()


def validate_schedules() -> None:
    """Upstream takes any name, expression, time zone and option; here botocore's model of the request decides."""
    model = botocore.session.get_session().get_service_model("scheduler")

    def checked(operation: str, upstream: Callable[..., Any]) -> Callable[..., Any]:
        shape = model.operation_model(operation).input_shape

        def handle(name: str, body: dict[str, Any]) -> Any:
            problems = [*_violations(shape, {**body, "Name": name}, "")]
            if not problems and operation.endswith("Schedule"):
                problems = [*_expression_problems(body)]
            if problems:
                count = f"{len(problems)} validation error{'s' if len(problems) > 1 else ''} detected: "
                return scheduler._error(400, "ValidationException", count + "; ".join(problems))
            return upstream(name, body)

        return handle

    scheduler._create_schedule = checked("CreateSchedule", scheduler._create_schedule)
    scheduler._update_schedule = checked("UpdateSchedule", scheduler._update_schedule)
    scheduler._create_schedule_group = checked("CreateScheduleGroup", scheduler._create_schedule_group)


def _violations(shape: Any, value: Any, path: str) -> list[str]:
    found: list[str] = []
    if shape.type_name == "structure":
        found = [
            f"Value at '{path}{name}' failed to satisfy constraint: Member must not be null"
            for name in shape.required_members
            if value.get(name) is None
        ]
        for name, member in shape.members.items():
            if value.get(name) is not None:
                found += _violations(member, value[name], f"{path}{name}.")
        return found
    if shape.type_name == "list":
        return [problem for item in value for problem in _violations(shape.member, item, path)]
    limits, size = shape.metadata, len(value) if isinstance(value, str) else value
    allowed = getattr(shape, "enum", [])
    pattern = limits.get("pattern")
    if pattern and not re.fullmatch(pattern.removeprefix("^").removesuffix("$"), value):
        found.append(f"Value at '{path[:-1]}' failed to satisfy constraint: Member must satisfy {pattern}")
    if allowed and value not in allowed:
        found.append(f"Value at '{path[:-1]}' failed to satisfy constraint: Member must be one of {allowed}")
    if isinstance(size, int | float) and not limits.get("min", size) <= size <= limits.get("max", size):
        found.append(
            f"Value at '{path[:-1]}' failed to satisfy constraint: Member's size must be within {limits}"
        )
    return found


def _expression_problems(body: Mapping[str, Any]) -> list[str]:
    expression, timezone = body["ScheduleExpression"], body.get("ScheduleExpressionTimezone", "UTC")
    try:
        if _at_epoch(expression, timezone) is None and not RECURRING_EXPRESSION.fullmatch(expression):
            return [f"Invalid Schedule Expression {expression}."]
    except zoneinfo.ZoneInfoNotFoundError:
        return [f"Invalid ScheduleExpressionTimezone {timezone}."]
    except ValueError:  # the 31st of June
        return [f"Invalid Schedule Expression {expression}."]
    return []


def page_schedules() -> None:
    """Upstream cuts ListSchedules at MaxResults and gives no NextToken; an unknown group is an empty list."""
    upstream = scheduler._list_schedules

    def handle(query: dict[str, str]) -> Any:
        group = query.get("ScheduleGroup", "default")
        scheduler._ensure_default_group()
        if group not in scheduler._schedule_groups:
            return scheduler._error(
                404, "ResourceNotFoundException", f"Schedule group {group} does not exist."
            )
        status, headers, body = upstream({**query, "MaxResults": str(sys.maxsize)})
        schedules = sorted(
            json.loads(body)["Schedules"], key=lambda found: (found["GroupName"], found["Name"])
        )
        start, size = int(query.get("NextToken", 0)), int(query.get("MaxResults", 100))
        page: dict[str, Any] = {"Schedules": schedules[start : start + size]}
        if start + size < len(schedules):
            page["NextToken"] = str(start + size)
        return status, headers, json.dumps(page).encode()

    scheduler._list_schedules = handle


def authorise_schedules_of_groups() -> None:
    """Upstream authorises every schedule as one of the group ``default``."""
    upstream = iam_actions.extract_resource_arn

    def handle(
        service: str, method: str, path: str, headers: Any, body: bytes, query: Any, *scope: Any
    ) -> Any:
        arn = upstream(service, method, path, headers, body, query, *scope)
        if service == "scheduler" and ":schedule/default/" in str(arn):
            in_query = query.get("groupName", ["default"])
            in_query = in_query if isinstance(in_query, str) else in_query[0]
            group = _loads(body.decode() or "{}").get("GroupName", in_query)
            return arn.replace(":schedule/default/", f":schedule/{group}/")
        return arn

    iam_actions.extract_resource_arn = handle


def check_roles_of_schedules() -> None:
    """With AUTH, upstream checks neither what a schedule's role may do nor whether the caller may pass that role."""
    if not app.AUTH:
        return
    upstream = scheduler.handle_request

    async def handle(method: str, path: str, headers: dict[str, str], body: bytes, query: Any) -> Any:
        role = (_loads(body.decode() or "{}").get("Target") or {}).get("RoleArn")
        if role and path.startswith("/schedules/"):
            key = extract_access_key_id(headers, query)
            context = {"iam:PassedToService": "scheduler.amazonaws.com"}
            denied = iam_evaluator.enforce(
                key, "iam:PassRole", "iam", get_region(), resource_arn=role, service_context=context
            )
            if denied:
                message = f"{key} is not authorized to perform: iam:PassRole on resource: {role}"
                return scheduler._error(403, "AccessDeniedException", message)
        return await upstream(method, path, headers, body, query)

    scheduler.handle_request = handle


def _denial(role: str, action: str, resource: str) -> str:
    """Why a role may not do something; empty if it may, or if policies are not enforced."""
    if not app.AUTH:
        return ""
    session = f"arn:aws:sts::{role.split(':')[4]}:assumed-role/{role.rsplit('/', 1)[-1]}/scheduler"
    key = "ASIA" + hashlib.sha256(session.encode()).hexdigest()[:16].upper()
    secret = {"SecretAccessKey": key, "SessionToken": key}
    sts.register_session(key, {"Arn": session, "UserId": f"{key}:scheduler", **secret})
    iam_evaluator.pin_request_origin("127.0.0.1", True)  # AWS's services talk TLS among each other
    denied = iam_evaluator.enforce(key, action, action.split(":")[0], get_region(), resource_arn=resource)
    return f"{role} is not authorized to perform: {action} on resource: {resource}" if denied else ""


def count_loopback_as_tls() -> None:
    """Not a mend: nothing is encrypted on loopback, yet policies that want TLS (aws:SecureTransport) must pass."""
    upstream = app.pin_request_origin
    app.pin_request_origin = lambda address, _: upstream(address, True)


def run_functions_on(interpreter: str) -> None:
    """Upstream runs Python functions on its own interpreter, where its own packages hide missing ones."""
    upstream = lambda_runtime._detect_runtime_binary

    def handle(runtime: str) -> tuple[str, str]:
        binary, script = upstream(runtime)
        return (interpreter if runtime.startswith("python") else binary), script

    lambda_runtime._detect_runtime_binary = handle


def keep_the_emulators_environment_out_of_functions() -> None:
    """Upstream gives a function the emulator's whole environment, and not what the runtime sets."""
    start: Any = subprocess.Popen

    def popen(*arguments: Any, env: Mapping[str, str], **options: Any) -> Any:
        # A function's own variable that happens to equal the emulator's is set again by the worker script.
        kept = {name: value for name, value in env.items() if os.environ.get(name) != value}
        return start(*arguments, env=RUNTIME_ENVIRONMENT | kept, **options)

    lambda_runtime.subprocess = types.SimpleNamespace(**{**vars(subprocess), "Popen": popen})


def point_functions_here() -> None:
    """Upstream takes an empty AWS_ENDPOINT_URL for a wish: such a function would call the real AWS.

    A template must declare the variable for ``sam local invoke --env-vars`` to be able to set it.
    """
    upstream = lambda_runtime.Worker.__init__

    def handle(worker: Any, name: str, config: dict[str, Any], code: bytes) -> None:
        variables = (config.get("Environment") or {}).get("Variables", {})
        here = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{os.environ['GATEWAY_PORT']}"}
        if variables.get("AWS_ENDPOINT_URL") == "":
            config = {**config, "Environment": {"Variables": variables | here}}
        upstream(worker, name, config, code)

    lambda_runtime.Worker.__init__ = handle


def tell_functions_apart(gate: Gate) -> None:
    """Upstream gives all functions the same credentials, with AUTH all environments of one; the record names them."""
    upstream = lambda_runtime.execution_credentials

    def handle(config: dict[str, Any]) -> dict[str, str]:
        credentials = dict(upstream(config))
        key = "ASIA" + uuid.uuid4().hex[:16].upper()
        if app.AUTH:
            sts.register_session(key, sts._sessions[credentials["AWS_ACCESS_KEY_ID"]])
        gate.principals[key] = config["FunctionName"]
        return {**credentials, "AWS_ACCESS_KEY_ID": key}

    lambda_runtime.execution_credentials = handle


def report_what_a_function_raised() -> None:
    """Upstream calls every error ``Runtime.HandlerError`` and throws the environment away that raised it."""
    upstream_report = '{"status": "error", "error": str(e), "trace": traceback.format_exc()}'
    report = (
        '(traceback.print_exc(), {"status": "ok", "result": {"__raised__": {'
        '"errorMessage": str(e), "errorType": type(e).__name__, "requestId": context.aws_request_id, '
        '"stackTrace": traceback.format_tb(e.__traceback__)}}})[1]'
    )
    script = lambda_runtime._PYTHON_WORKER_SCRIPT
    if script.count(upstream_report) != 1:
        raise RuntimeError("MiniStack's worker script has changed: see report_what_a_function_raised")
    lambda_runtime._PYTHON_WORKER_SCRIPT = script.replace(upstream_report, report)
    upstream = lambda_svc._execute_function_warm

    def handle(*arguments: Any) -> dict[str, Any]:
        result: dict[str, Any] = upstream(*arguments)
        body = result.get("body")
        if isinstance(body, dict) and "__raised__" in body:
            return {**result, "body": body["__raised__"], "error": True, "function_error": "Unhandled"}
        return result

    lambda_svc._execute_function_warm = handle


def end_only_the_environment_that_failed() -> None:
    """Upstream ends all environments of a function with one that dies or does not start, those just starting as well.

    On a busy machine each failure then causes the next ones, without end.
    """
    upstream = lambda_svc.invalidate_worker

    def handle(*arguments: Any, **scope: Any) -> None:
        caller = sys._getframe(1)
        if caller.f_code.co_name != "_execute_function_warm":
            upstream(*arguments, **scope)
            return
        failed = caller.f_locals["worker"]
        with lambda_runtime._lock:
            for workers in lambda_runtime._workers.values():
                workers[:] = [worker for worker in workers if worker is not failed]
        lambda_runtime.kill_workers([failed])

    lambda_svc.invalidate_worker = handle


def retry_events_as_lambda_does(gate: Gate) -> None:
    """Asynchronous invocations.

    Upstream looks up the retries and destinations of ``$LATEST`` whatever alias was invoked, gives every retry a
    new request id, leaves most fields of the failure record out, and sends it with nobody's rights. It also starts
    a process for every event that waits; AWS has the room, this machine has not, so the rest queue here.
    """
    request_id = contextvars.ContextVar[str]("request_id")
    running = collections.defaultdict[str, threading.Semaphore](lambda: threading.Semaphore(EVENTS_AT_ONCE))
    upstream_uuid = lambda_svc.new_uuid
    lambda_svc.new_uuid = lambda: request_id.get(None) or upstream_uuid()

    def run(function: dict[str, Any], event: Any) -> None:
        config = function["config"]
        name, arn = config["FunctionName"], config["FunctionArn"].split(":")
        qualifier = arn[7] if len(arn) > 7 else ""
        stored = lambda_svc._functions.get(name) or {}
        settings = (stored.get("event_invoke_configs") or {}).get(qualifier) or {}
        retries = settings.get("MaximumRetryAttempts", 2)
        age = settings.get("MaximumEventAgeInSeconds", 21_600)
        request_id.set(upstream_uuid())
        started, attempt, condition = time.monotonic(), 0, ""
        while not condition:
            with running[name]:
                result = lambda_svc._execute_function(function, event)
            if not result.get("error"):
                return
            attempt += 0 if result.get("throttle") else 1
            wait = min(
                lambda_svc._LAMBDA_ASYNC_RETRY_BASE_SECONDS * 2 ** max(attempt - 1, 0),
                lambda_svc._LAMBDA_ASYNC_RETRY_MAX_SECONDS,
            )
            if attempt > retries:
                condition = "RetriesExhausted"
            elif time.monotonic() - started + wait > age:
                condition = "EventAgeExceeded"
            else:
                time.sleep(wait)
        destination = ((settings.get("DestinationConfig") or {}).get("OnFailure") or {}).get(
            "Destination", ""
        )
        if not destination.startswith("arn:aws:sqs:"):
            if destination:
                lambda_svc._route_async_failure(destination, name, event, result)
            return
        if denial := _denial(config["Role"], "sqs:SendMessage", destination):
            LOGGER.error("%s: event lost", denial)
            return
        # docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
        record = {
            "version": "1.0",
            "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "requestContext": {
                "requestId": request_id.get(),
                "functionArn": ":".join([*arn[:7], qualifier or "$LATEST"]),
                "condition": condition,
                "approximateInvokeCount": attempt,
            },
            "requestPayload": event,
            "responseContext": {
                "statusCode": 200,
                "executedVersion": config.get("Version", "$LATEST"),
                "functionError": result.get("function_error") or "Unhandled",
            },
            "responsePayload": result.get("body"),
        }

        async def send(*request: Any) -> Any:
            # Lambda sends it with the function's role, and so in its name.
            call = gate.arrived("sqs", "SendMessage", name, {"QueueUrl": destination, "MessageBody": record})
            response = await app.SERVICE_HANDLERS["sqs"](*request)
            call.status = response[0]
            return response

        app.call_service_handler_sync(send, *_sqs_message(destination, json.dumps(record), {}), {})

    def handle(function: dict[str, Any], event: Any) -> None:
        threading.Thread(
            target=contextvars.copy_context().run, args=(run, function, event), daemon=True
        ).start()

    lambda_svc.invoke_async_with_retry = handle


def invoke_rule_targets_as_events(gate: Gate) -> None:
    """Upstream runs the function behind an EventBridge rule once, without retries and without its alias."""

    def handle(arn: str, payload: str) -> None:
        asyncio.run_coroutine_threadsafe(
            _send(gate, arn, payload, principal="events.amazonaws.com"), app._MAIN_LOOP
        )

    eventbridge._dispatch_to_lambda = handle


def name_the_alias_to_event_source_targets() -> None:
    """Upstream tells a function behind a queue the ARN of its version instead of the alias that was mapped."""
    upstream = lambda_svc._run_sqs_batch

    def handle(mapping: dict[str, Any], function: dict[str, Any], *arguments: Any) -> None:
        config = {**(function.get("config") or function), "FunctionArn": mapping["FunctionArn"]}
        upstream(mapping, {**function, "config": config}, *arguments)

    lambda_svc._run_sqs_batch = handle


def crash_functions_on_demand(gate: Gate) -> None:
    """Not a mend: lets the gate end the environment that made a call, as a crash would."""
    start: Any = lambda_runtime.subprocess.Popen
    environments: dict[str, subprocess.Popen[str]] = {}

    def popen(*arguments: Any, env: Mapping[str, str], **options: Any) -> Any:
        process = environments[env["AWS_ACCESS_KEY_ID"]] = start(*arguments, env=env, **options)
        return process

    def crash(key: str) -> None:
        if key in environments:
            environments[key].kill()

    lambda_runtime.subprocess = types.SimpleNamespace(**{**vars(lambda_runtime.subprocess), "Popen": popen})
    gate.crash = crash
