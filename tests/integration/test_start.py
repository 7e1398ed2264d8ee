"""What the functions do while they start, on the real botocore: nothing that a release of it may break unnoticed."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import botocore
import botocore.session
import pytest
from botocore import handlers
from botocore.parsers import JSONParser

from idle_timer import bootstrap
from idle_timer.adapters import aws
from idle_timer.ports import Activity, Recorded
from tests.bench.process import RUNTIME, SETTINGS

REPOSITORY = Path(__file__).resolve().parents[2]


class Server(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    connections: list[Any]
    requests: list[str]

    def setup(self) -> None:
        super().setup()
        self.connections.append(self.client_address)

    def do_GET(self) -> None:
        self._answer(b"healthy")

    def do_POST(self) -> None:
        self._answer(b'{"Attributes":{}}')

    def do_PUT(self) -> None:
        self._answer(b'{"ScheduleArn":"a"}')

    def do_DELETE(self) -> None:
        self._answer(b"{}")

    def _answer(self, body: bytes) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.requests.append(self.command)
        self.send_response_only(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Silent."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Server]]:
    """In place of AWS; the function's environment points to it."""
    handler = type("Recording", (Server,), {"connections": [], "requests": []})
    running = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    running.daemon_threads = True
    Thread(target=running.serve_forever, daemon=True).start()
    for name, value in {**RUNTIME, **SETTINGS}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{running.server_address[1]}")
    caches: list[Any] = [aws.client, aws._session, aws._connections, bootstrap.timer]
    for each in caches:
        each.cache_clear()
    yield handler
    aws.close_connections()
    for each in caches:
        each.cache_clear()
    running.shutdown()
    running.server_close()


def test_a_started_touch_sends_through_the_connection_that_it_has_opened(server: type[Server]) -> None:
    bootstrap.start(bootstrap.timer, "dynamodb", "scheduler")
    assert server.requests == ["GET", "GET"]
    assert len(server.connections) == 1  # one host here
    assert bootstrap.timer().timers.scheduler.update("c-1", 1_000) == "done"
    assert bootstrap.timer().timers.scheduler.delete("c-1")
    assert server.requests == ["GET", "GET", "PUT", "DELETE"]
    assert len(server.connections) == 1


def test_a_rehearsed_call_is_refused_before_it_is_sent(server: type[Server]) -> None:
    timers = bootstrap.timer().timers
    with aws.rehearsal("dynamodb", "scheduler"):
        activity = Activity(conversation_id="rehearsal", at=0, changes={}, sweep_bucket_ms=0)
        assert timers.store.record(activity) == Recorded(None, None)
        assert timers.scheduler.update("rehearsal", 0) == "conflict"
    assert server.requests == []
    assert timers.scheduler.update("c-1", 1_000) == "done"


def test_after_a_restored_snapshot_no_connection_is_used_again(server: type[Server]) -> None:
    bootstrap.start(bootstrap.timer, "dynamodb", "scheduler")
    bootstrap.restored("dynamodb", "scheduler")
    assert bootstrap.timer().timers.scheduler.update("c-1", 1_000) == "done"
    assert server.requests == ["GET", "GET", "GET", "GET", "PUT"]
    assert len(server.connections) == 2


def test_for_a_snapshot_it_connects_only_once_restored(
    server: type[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    hooks: list[Any] = []
    runtime = SimpleNamespace(register_after_restore=hooks.append)  # only Lambda's runtime has this module
    monkeypatch.setitem(sys.modules, "snapshot_restore_py", runtime)
    monkeypatch.setenv("AWS_LAMBDA_INITIALIZATION_TYPE", "snap-start")
    bootstrap.start(bootstrap.timer, "dynamodb", "scheduler")
    assert server.requests == []
    for hook in hooks:
        hook()
    assert server.requests == ["GET", "GET"]


def test_aws_out_of_reach_is_no_reason_not_to_start(
    server: type[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    bootstrap.start(bootstrap.timer, "dynamodb", "scheduler")
    assert server.requests == []


def test_outside_lambda_an_entry_point_touches_nothing() -> None:
    """Neither AWS nor the environment: it imports with an empty one."""
    for function in ("touch", "lifecycle", "cleanup", "sweep", "redrive", "inspect"):
        imported = subprocess.run(
            [sys.executable, "-c", "import app, gc; assert gc.isenabled()"],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY / "functions" / function)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert imported.returncode == 0, imported.stderr


@pytest.fixture
def trimmed_data(tmp_path: Path, server: type[Server], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cut-down descriptions, as the layer's build makes them, and used as in the layer."""
    script = REPOSITORY / "layers" / "shared" / "trim_data.py"
    subprocess.run([sys.executable, script, Path(botocore.__file__).parent, tmp_path], check=True)
    monkeypatch.setattr(aws, "_DATA", str(tmp_path))
    return tmp_path


def test_each_client_finds_the_operations_that_the_adapters_call(trimmed_data: Path) -> None:
    shared = REPOSITORY / "layers" / "shared"
    made = {service: aws.client(service) for service in aws._SERVICES}
    trimmed = {path.parent.parent.name for path in trimmed_data.glob("*/*/service-2.json")}
    assert trimmed == set(made) - {"connect", "lexv2-runtime"}  # seldom made, and found in the runtime's own
    known = {method for client in made.values() for method in client.meta.method_to_api_mapping}
    called = {
        method
        for file in (shared / "idle_timer" / "adapters").glob("*.py")
        for method in re.findall(r"_client(?:\(\))?\.([a-z_]+)\(", file.read_text())
        if file.name not in ("aws.py", "redis.py")
    }
    assert called
    assert called <= known
    assert made["dynamodb"].meta.service_model.operation_names == sorted(
        [
            "BatchGetItem",
            "DeleteItem",
            "DescribeEndpoints",
            "GetItem",
            "PutItem",
            "Query",
            "Scan",
            "UpdateItem",
        ]
    )


@pytest.mark.parametrize(
    ("made_from", "fits"), [(botocore.__version__, True), ("1.9.0", True), ("99.0.0", False), (None, False)]
)
def test_only_descriptions_that_are_not_younger_than_the_runtime_are_used(
    made_from: str | None, fits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aws, "_DATA", str(tmp_path))
    if made_from:
        (tmp_path / "version").write_text(made_from)
    assert aws._data_fits(botocore.__version__) is fits


def test_each_call_meets_the_same_event_handlers_as_in_a_session_of_botocores_own(trimmed_data: Path) -> None:
    """All but those of other services are registered, in the same order."""

    def met(session: Any, event: str) -> list[str]:
        found = session.get_component("event_emitter")._emitter._handlers.prefix_search(event)
        return [str(each) for each in found if each.__module__.startswith("botocore")]  # Powertools adds one

    ours, theirs = aws._session(), botocore.session.Session()
    models = [aws.client(service).meta.service_model for service in aws._SERVICES]
    assert {str(model.service_id.hyphenize()) for model in models} == set(aws._SERVICES.values())
    kinds = {spec[0].split(".")[0] for spec in handlers.BUILTIN_HANDLERS} - {"docs"}
    events = [
        f"{kind}.{model.service_id.hyphenize()}.{operation}"
        for kind in kinds
        for model in models
        for operation in model.operation_names
    ]
    assert any(met(ours, event) for event in events)
    assert [met(ours, event) for event in events] == [met(theirs, event) for event in events]


@pytest.mark.parametrize(
    "listed", [{}, {"BUILTIN_HANDLERS": [("before-call",)]}, {"BUILTIN_HANDLERS": [("a", print, "?")]}]
)
def test_a_botocore_that_lists_its_handlers_otherwise_starts_all_the_same(
    listed: dict[str, Any], trimmed_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aws, "handlers", SimpleNamespace(REGISTER_FIRST="f", REGISTER_LAST="l", **listed))
    assert not isinstance(aws._session().get_component("data_loader"), aws._Loader)
    assert aws.client("dynamodb").update_item(TableName="t", Key={})["Attributes"] == {}


@pytest.mark.parametrize(
    ("service", "operation", "status", "body"),
    [
        (
            "dynamodb",
            "UpdateItem",
            200,
            '{"Attributes":{"a":{"S":"c"},"n":{"N":"1"},"l":{"L":[{"NULL":true}]}}}',
        ),
        ("dynamodb", "UpdateItem", 200, '{"Attributes":{"a":{"S"'),
        (
            "dynamodb",
            "UpdateItem",
            400,
            '{"__type":"a#ConditionalCheckFailedException","Item":{"a":{"S":"c"}}}',
        ),
        ("dynamodb", "UpdateItem", 500, ""),
        ("dynamodb", "BatchGetItem", 200, '{"Responses":{"t":[{"a":{"S":"c"}}]},"UnprocessedKeys":{}}'),
        ("dynamodb", "GetItem", 200, "{}"),
        ("dynamodb", "Query", 200, '{"Items":[{"m":{"M":{"a":{"BOOL":false}}}}],"Count":1,"ScannedCount":1}'),
        ("sqs", "ReceiveMessage", 200, '{"Messages":[{"MessageId":"1","Body":"{}","Attributes":{"a":"1"}}]}'),
        ("sqs", "SendMessage", 200, '{"MessageId":"1"}'),
        ("sqs", "DeleteMessage", 200, ""),
        ("secretsmanager", "GetSecretValue", 200, '{"SecretString":"redis://","Name":"url"}'),
    ],
)
def test_an_answer_taken_as_sent_is_what_botocore_would_have_made_of_it(
    service: str, operation: str, status: int, body: str, server: type[Server]
) -> None:
    client = aws.client(service)
    model = client.meta.service_model
    parser = client._endpoint._response_parser_factory.create_parser(model.resolved_protocol)
    assert isinstance(parser, aws._AsSent)
    response = {
        "status_code": status,
        "headers": {"x-amzn-requestid": "1", "Content-Length": "2"},
        "body": body.encode(),
        "context": {"operation_name": operation},
    }
    shape = model.operation_model(operation).output_shape
    assert parser.parse(response, shape) == JSONParser().parse(response, shape)


def test_answers_are_really_taken_as_sent(server: type[Server], monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the client: a botocore that asks somebody else for a parser would be slower, and this would say so."""
    monkeypatch.setattr(aws._AsSent, "parse", lambda self, response, shape: {"taken": response["body"]})
    assert aws.client("dynamodb").update_item(TableName="t", Key={})["taken"] == b'{"Attributes":{}}'


def test_the_user_agent_is_the_fixed_one(server: type[Server]) -> None:
    """Not built anew for every call, which would be a third of a warm touch."""
    sent: list[Any] = []
    client = aws.client("dynamodb")
    client.meta.events.register(
        "before-send", lambda request, **_: sent.append(request.headers["User-Agent"])
    )
    client.update_item(TableName="t", Key={})
    assert [agent.split()[0] for agent in sent] == [b"idle-timer"]
