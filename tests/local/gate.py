"""The door in front of the emulator: records every AWS call, and holds, delays, refuses or answers one on demand.

A request is named as boto3 would name it (service, operation, parameters), by reading botocore's own service
models, so neither the record nor a fault point depends on the emulator's insides. Faults are set and the record
is read over HTTP, under ``/_local/``; ``tests.local.stack`` is the client.
"""

import asyncio
import functools
import itertools
import json
import re
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote

import botocore.session
from botocore.exceptions import UnknownServiceError

type Response = tuple[int, list[tuple[bytes, bytes]], bytes]
type Scope = dict[str, Any]
type Receive = Callable[[], Awaitable[dict[str, Any]]]
type Send = Callable[[dict[str, Any]], Awaitable[None]]
type App = Callable[[Scope, Receive, Send], Awaitable[None]]

RECORDED_CALLS = 100_000  # the oldest are forgotten beyond this
CREDENTIAL = re.compile(r"Credential=([^/,]+)/\d+/[^/]+/([^/]+)/aws4_request")
FORM = "application/x-www-form-urlencoded"
RPC_PATH = re.compile(r"/service/\w+/operation/(\w+)")
# Signing names that are not botocore's name of the service.
MODEL_NAMES = {"lex": "lexv2-runtime", "monitoring": "cloudwatch", "states": "stepfunctions"}


@dataclass
class Call:
    """One AWS call: who asked for what, and what came of it."""

    number: int
    time: float  # epoch seconds of its arrival
    service: str  # signing name: dynamodb, scheduler, sns, lambda, ...
    operation: str
    principal: (
        str  # name of the function whose credentials signed it, scheduler.amazonaws.com, or an access key
    )
    params: dict[str, Any]
    attempt: int = 1  # of the SDK's own retries
    status: int = 0  # HTTP status; 0 while it is under way
    error: str = ""
    key: str = ""  # that signed it; each environment of a function has its own


@dataclass
class Fault:
    """What to do with the next matching calls."""

    number: int
    action: str  # refuse | hold | delay | crash | answer
    service: str
    operation: str
    contains: str = ""
    function: str = ""
    times: int = 1  # 0: every one
    after: bool = False  # let the call take effect first
    code: str = ""
    status: int = 500
    message: str = ""
    seconds: float = 0.0
    body: dict[str, Any] = field(default_factory=dict)
    per_second: float = 0.0  # so many matching calls pass in any second; 0: none
    passed: deque[float] = field(default_factory=deque)  # when they did
    removed: bool = False  # it stays, for its report
    hits: int = 0
    held: list[int] = field(default_factory=list)  # numbers of the calls waiting now
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    def meets(self, call: Call) -> bool:
        """Whether this fault applies to the call."""
        return (
            not self.removed
            and (self.times == 0 or self.hits < self.times)
            and self.service == call.service
            and self.operation == call.operation
            and self.function.lower() in call.principal.lower()
            and self.contains in json.dumps(call.params, ensure_ascii=False)
            and not self._lets_pass()
        )

    def _lets_pass(self) -> bool:
        now = time.monotonic()
        while self.passed and self.passed[0] <= now - 1:
            self.passed.popleft()
        if len(self.passed) >= self.per_second:
            return False
        self.passed.append(now)
        return True

    def remove(self) -> None:
        """Meet no more calls, and let go of those that are held."""
        self.removed = True
        self.opened.set()

    def report(self) -> dict[str, Any]:
        """What the control endpoint says about it."""
        return {"number": self.number, "hits": self.hits, "held": self.held}


class Gate:
    """ASGI application around another one; everything in it runs on one event loop."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._numbers = itertools.count(1)
        self._calls: deque[Call] = deque(maxlen=RECORDED_CALLS)
        self._faults: dict[int, Fault] = {}
        self.principals: dict[str, str] = {}  # access key -> function name
        self.crash: Callable[[str], None] = lambda key: None  # ends the environment with this access key
        self.background: list[Callable[[], Coroutine[Any, Any, None]]] = []  # run beside the server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = await _read(receive)
        if scope["path"].startswith("/_local/"):
            await _reply(
                send, *self._control(scope["method"], scope["path"], scope["query_string"].decode(), body)
            )
            return
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
        }
        signed = CREDENTIAL.search(headers.get("authorization", ""))
        if signed is None:  # health checks, presigned downloads
            await _reply(send, *await self._inner(scope, body))
            return
        key, service = signed.groups()
        operation, params = describe(service, scope, headers, body)
        attempt = re.search(r"attempt=(\d+)", headers.get("amz-sdk-request", ""))
        tries = int(attempt[1]) if attempt else 1
        call = self.arrived(service, operation, self.principals.get(key, key), params, tries, key)
        query = headers.get("content-type", "").startswith(FORM)
        await _reply(
            send, *await self.pass_through(call, lambda: self._inner(scope, body), query_protocol=query)
        )

    def arrived(
        self,
        service: str,
        operation: str,
        principal: str,
        params: dict[str, Any],
        attempt: int = 1,
        key: str = "",
    ) -> Call:
        """Write a call into the record."""
        call = Call(next(self._numbers), time.time(), service, operation, principal, params, attempt, key=key)
        self._calls.append(call)
        return call

    async def pass_through(
        self, call: Call, perform: Callable[[], Awaitable[Response]], *, query_protocol: bool = False
    ) -> Response:
        """Perform a recorded call as the first fault that meets it allows."""
        fault = next((fault for fault in self._faults.values() if fault.meets(call)), None)
        if fault is None:
            response = await perform()
        else:
            fault.hits += 1
            performed = await perform() if fault.after else None
            response = await self._tamper(fault, call, query_protocol) or performed or await perform()
        call.status = response[0]
        call.error = _error_code(response) if call.status >= 400 else ""
        return response

    async def _tamper(self, fault: Fault, call: Call, query_protocol: bool) -> Response | None:
        """Do what the fault says; the answer that it gives in place of the service's, if it does."""
        match fault.action:
            case "delay":
                await asyncio.sleep(fault.seconds)
            case "hold":
                fault.held.append(call.number)
                await fault.opened.wait()
                fault.held.remove(call.number)
            case "crash":
                self.crash(call.key)
                return error_response(
                    500, "InternalServerException", "crashed", query_protocol=query_protocol
                )
            case "answer":
                return fault.status, [(b"content-type", b"application/json")], json.dumps(fault.body).encode()
            case "refuse":
                return error_response(fault.status, fault.code, fault.message, query_protocol=query_protocol)
        return None

    async def _inner(self, scope: Scope, body: bytes) -> Response:
        pending = [{"type": "http.request", "body": body, "more_body": False}]
        status, headers, chunks = 500, list[tuple[bytes, bytes]](), list[bytes]()

        async def receive() -> dict[str, Any]:
            if pending:
                return pending.pop()
            await asyncio.Event().wait()  # the client is still there
            raise AssertionError

        async def send(message: dict[str, Any]) -> None:
            nonlocal status, headers
            if message["type"] == "http.response.start":
                status, headers = message["status"], list(message.get("headers", []))
            elif message["type"] == "http.response.body":
                chunks.append(message.get("body", b""))

        await self._app(scope, receive, send)
        return status, headers, b"".join(chunks)

    def _control(self, method: str, path: str, query: str, body: bytes) -> Response:
        answer: Any = {}
        match method, path.split("/")[2:]:
            case "GET", ["calls"]:
                since = int(parse_qs(query).get("since", ["0"])[0])
                answer = [asdict(call) for call in self._calls if call.number > since]
            case "GET", ["calls", "last"]:
                answer = {"number": self._calls[-1].number if self._calls else 0}
            case "POST", ["faults"]:
                fault = Fault(number=next(self._numbers), **json.loads(body))
                self._faults[fault.number] = fault
                answer = fault.report()
            case "DELETE", ["faults"]:
                for fault in self._faults.values():
                    fault.remove()
            case "GET", ["faults", number] if int(number) in self._faults:
                answer = self._faults[int(number)].report()
            case "DELETE", ["faults", number] if int(number) in self._faults:
                self._faults[int(number)].remove()
            case _:
                return error_response(404, "NotFound", f"{method} {path}", query_protocol=False)
        return 200, [(b"content-type", b"application/json")], json.dumps(answer).encode()


def describe(service: str, scope: Scope, headers: dict[str, str], body: bytes) -> tuple[str, dict[str, Any]]:
    """The operation and its parameters, named as in boto3, of a signed request."""
    path, query = scope["path"], scope["query_string"].decode()
    if target := headers.get("x-amz-target"):
        return target.rpartition(".")[2], _json(body)
    if rpc := RPC_PATH.fullmatch(path):
        return rpc[1], {}
    if service == "s3":  # templates and code on their way to a deployment
        return scope["method"], {"Path": path}
    if headers.get("content-type", "").startswith(FORM):
        form = {name: values[0] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}
        return form.pop("Action", path), form
    raw_path = scope.get("raw_path") or path.encode()
    for method, pattern, operation in _rest_operations(MODEL_NAMES.get(service, service)):
        if method == scope["method"] and (labels := pattern.fullmatch(raw_path.decode("latin-1"))):
            return operation.name, _rest_params(operation, labels.groupdict(), query, headers, body)
    return f"{scope['method']} {path}", {"query": query} if query else {}


@functools.cache
def _rest_operations(service: str) -> list[tuple[str, re.Pattern[str], Any]]:
    try:
        model = botocore.session.get_session().get_service_model(service)
    except UnknownServiceError:
        return []
    if not model.metadata["protocol"].startswith("rest-json"):
        return []
    found = []
    for name in model.operation_names:
        operation = model.operation_model(name)
        uri = operation.http["requestUri"].split("?")[0]
        pattern = "".join(
            f"(?P<{part[1:-1].rstrip('+')}>{'.+' if part.endswith('+}') else '[^/]+'})"
            if part[:1] == "{"
            else re.escape(part)
            for part in re.split(r"(\{[^}]+\})", uri)
        )
        found.append((operation.http["method"], re.compile(pattern), operation))
    return found


def _rest_params(
    operation: Any, labels: dict[str, str], query: str, headers: dict[str, str], body: bytes
) -> dict[str, Any]:
    params: dict[str, Any] = {}
    queries = parse_qs(query)
    shape = operation.input_shape
    payload = shape.serialization.get("payload") if shape else None
    for name, member in shape.members.items() if shape else ():
        where, wire = member.serialization.get("location"), member.serialization.get("name", name)
        if where == "uri" and wire in labels:
            params[name] = unquote(labels[wire])
        elif where == "querystring" and wire in queries:
            params[name] = queries[wire][0]
        elif where == "header" and wire.lower() in headers:
            params[name] = headers[wire.lower()]
        elif name == payload and body:
            params[name] = _json(body)
    return params if payload else params | _json(body)


def _json(body: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(body or b"{}")
    except ValueError:
        return {"body": body.decode("utf-8", "replace")}
    return parsed if isinstance(parsed, dict) else {"body": parsed}


def error_response(status: int, code: str, message: str, *, query_protocol: bool) -> Response:
    """An AWS error in the shape of the JSON protocols, or of the older query protocol."""
    if query_protocol:
        text = (
            f"<ErrorResponse><Error><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
        )
        return status, [(b"content-type", b"text/xml")], text.encode()
    content = json.dumps({"__type": code, "message": message, "Message": message}).encode()
    return status, [(b"content-type", b"application/json"), (b"x-amzn-errortype", code.encode())], content


def _error_code(response: Response) -> str:
    headers = {name.lower(): value for name, value in response[1]}
    if named := headers.get(b"x-amzn-errortype"):
        return named.decode().split(":")[0]
    in_xml = re.search(rb"<Code>([^<]+)</Code>", response[2])
    if in_xml:
        return in_xml[1].decode()
    return str(_json(response[2]).get("__type", response[0])).rpartition("#")[2]


async def _read(receive: Receive) -> bytes:
    chunks = []
    while True:
        message = await receive()
        chunks.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(chunks)


async def _reply(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
