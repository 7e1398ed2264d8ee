"""AWS clients, made in one place: one session, and timeouts for a function that answers in tens of milliseconds."""

import contextlib
import functools
import json
import os
from collections.abc import Iterator
from typing import Any

import botocore
import botocore.session
from botocore import handlers
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.httpsession import URLLib3Session
from botocore.loaders import Loader
from botocore.parsers import JSONParser, ResponseParser, ResponseParserFactory
from botocore.utils import get_environ_proxies

CONNECT_TIMEOUT_SECONDS = 1  # a healthy endpoint in the same Region answers in milliseconds
READ_TIMEOUT_SECONDS = (
    3  # with two tries a hung endpoint holds touch for 6 s at most, below its timeout of 10 s
)
TRIES = 2  # what fails twice goes to the caller, or to Lambda's retries, which wait longer than botocore does

# Name -> what botocore's events call it.
_SERVICES = {
    "connect": "connect",
    "dynamodb": "dynamodb",
    "lambda": "lambda",
    "lexv2-runtime": "lex-runtime-v2",
    "scheduler": "scheduler",
    "secretsmanager": "secrets-manager",
    "sns": "sns",
    "sqs": "sqs",
}
# Service descriptions cut down by the layer's build (trim_data.py); not there when run from the sources.
_DATA = os.path.join(os.path.dirname(os.path.dirname(__file__)), "aws_data")

__all__ = [
    "AwsError",
    "ClientError",
    "client",
    "close_connections",
    "error_code",
    "open_connections",
    "rehearsal",
]

AwsError = (ClientError, BotoCoreError)
"""What a call can raise: AWS refused, or was not reached."""


@functools.cache
def _session() -> botocore.session.Session:
    session = None
    if _data_fits(botocore.__version__):
        # The runtime brings its own botocore: one that lists its handlers otherwise costs a slower start, not the start.
        with contextlib.suppress(AttributeError, LookupError, TypeError, ValueError):
            session = _lean_session()
    session = session or botocore.session.Session()
    session.register_component("response_parser_factory", _ParserFactory())
    return session


def _lean_session() -> botocore.session.Session:
    """With the cut-down descriptions, and without event handlers of services that nobody calls: 127 are 4 % of a start."""
    session = botocore.session.Session(include_builtin_handlers=False)
    session.register_component("data_loader", _Loader(extra_search_paths=[_DATA]))
    events = session.get_component("event_emitter")
    places = {handlers.REGISTER_FIRST: events.register_first, handlers.REGISTER_LAST: events.register_last}
    for event, handler, *place in handlers.BUILTIN_HANDLERS:
        _, *service = event.split(".")[:2]
        if not service or service[0] in _SERVICES.values():
            (places[place[0]] if place else events.register)(event, handler)
    return session


class _Loader(Loader):
    """Looks at the cut-down descriptions first. Finding out which 400 services there are would be 2 % of a start."""

    def list_available_services(self, type_name: str) -> list[str]:  # noqa: ARG002 - the Loader's signature
        return list(_SERVICES)


class _ParserFactory(ResponseParserFactory):
    def __init__(self) -> None:
        super().__init__()
        self._json = _AsSent()

    def create_parser(self, protocol_name: str) -> ResponseParser:
        return self._json if protocol_name == "json" else super().create_parser(protocol_name)


class _AsSent(JSONParser):
    """Takes the answers of DynamoDB, SQS and Secrets Manager as the JSON that they are.

    botocore walks through every attribute of an item with the service's description at hand, a tenth of a warm touch,
    to turn binary values into bytes and times into datetimes. Nothing here reads either.
    """

    def parse(self, response: Any, shape: Any) -> Any:
        if response["status_code"] == 200:
            # Empty, or damaged on the way, which botocore notices and tries again.
            with contextlib.suppress(ValueError):
                return json.loads(response["body"]) | super().parse({**response, "body": b"{}"}, shape)
        return super().parse(response, shape)


def _data_fits(version: str) -> bool:
    """Descriptions older than the code are what botocore has always taken; newer ones it may not understand."""
    try:
        with open(os.path.join(_DATA, "version"), encoding="ascii") as file:
            made_from = file.read()
    except OSError:
        return False
    return _numbers(version) >= _numbers(made_from)


def _numbers(version: str) -> list[int]:
    return [int(number) for number in version.split(".") if number.isdigit()]


@functools.cache
def client(service: str, *, read_timeout_seconds: int = READ_TIMEOUT_SECONDS) -> Any:
    """One client per service and process. `read_timeout_seconds`: longer for calls that wait for somebody's code."""
    config = Config(
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        read_timeout=read_timeout_seconds,
        retries={"mode": "standard", "total_max_attempts": TRIES},
        user_agent="idle-timer",  # otherwise botocore builds its own anew for every call, a third of a warm touch
        parameter_validation=False,  # requests are built in the adapters alone, and each is asserted by a test
    )
    return _session().create_client(service, config=config)


@functools.cache
def _connections() -> URLLib3Session:
    verify = _session().get_config_variable("ca_bundle") or True
    timeout: Any = (CONNECT_TIMEOUT_SECONDS, READ_TIMEOUT_SECONDS)
    return URLLib3Session(verify=verify, timeout=timeout)


def _send(request: Any, **_: Any) -> Any:
    return _connections().send(request)


def open_connections(*services: str) -> None:
    """Connect now, while the function starts, rather than in its first invocation: a handshake costs 26 warm touches.

    The clients then send through these connections (botocore's event `before-send`). What cannot be reached now is
    tried again by the first call. Behind a proxy the clients keep to botocore's own connections.
    """
    for service in services:
        made = client(service)
        url = made.meta.endpoint_url
        if get_environ_proxies(url):
            continue
        made.meta.events.register("before-send", _send, unique_id="idle-timer-connections")
        with contextlib.suppress(BotoCoreError):
            _connections().send(AWSRequest("GET", url).prepare())  # unsigned: any answer will do


class _Refusal:
    """A refusal's body, read as botocore reads one from the network."""

    def __init__(self, code: str) -> None:
        self._content = f'{{"__type":"{code}"}}'.encode()

    def stream(self) -> Iterator[bytes]:
        yield self._content


def _refuse(request: Any, **_: Any) -> AWSResponse:
    code = "ConditionalCheckFailedException" if "X-Amz-Target" in request.headers else "ConflictException"
    headers: Any = {"x-amzn-errortype": code}
    return AWSResponse(request.url, 400, headers, _Refusal(code))


@contextlib.contextmanager
def rehearsal(*services: str) -> Iterator[None]:
    """Calls made inside are refused before they are sent, as lost races: so what botocore makes at a first call is made."""
    events = [client(service).meta.events for service in services]
    for each in events:
        each.register("before-send", _refuse, unique_id="idle-timer-rehearsal")
    try:
        yield
    finally:
        for each in events:
            each.unregister("before-send", unique_id="idle-timer-rehearsal")


def close_connections() -> None:
    """Those of a snapshot lead nowhere; the next call connects anew."""
    _connections().close()


def error_code(error: BaseException) -> str:
    """AWS's own code for a refusal; empty where AWS was not reached."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""
