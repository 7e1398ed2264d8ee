"""One process of a measurement, run by the functions' own interpreter: starts as Lambda does, then handles touches.

python driver.py FOLDER READY COUNT TRANSPORT

FOLDER holds app.py; READY names what `bootstrap` must have wired besides (empty: importing app is all); COUNT touches
follow. TRANSPORT: `stub` answers below botocore, `wire` sends to AWS_ENDPOINT_URL; `memory` and `clients` look at the
process instead, and print JSON. Imports as little as it can: what it costs stands on both sides of every ratio.
"""

import importlib
import sys
from collections.abc import Iterator
from typing import Any

ARN = "arn:aws:lambda:us-east-1:123456789012:function:idle-timer:live"
CONVERSATION = "c-5d3c0a4e-8a5e-4f7f-9a53-4b1e2f6f7a10"


class Context:
    """Lambda's, as far as the handlers look at it."""

    aws_request_id = "8a5e4f7f-9a53-4b1e-2f6f-7a105d3c0a4e"
    invoked_function_arn = ARN


class _Body:
    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self) -> Iterator[bytes]:
        yield self._content


def stub_http() -> None:
    """Answer every request below botocore, as DynamoDB and Scheduler would."""
    answers = importlib.import_module("answers")
    awsrequest = importlib.import_module("botocore.awsrequest")
    httpsession = importlib.import_module("botocore.httpsession")

    def send(_session: Any, request: Any) -> Any:
        headers, content = answers.answer(request.headers.get("X-Amz-Target"))
        return awsrequest.AWSResponse(request.url, 200, headers, _Body(content))

    httpsession.URLLib3Session.send = send


def note_clients() -> list[str]:
    """The services for which clients get made."""
    session = importlib.import_module("botocore.session").Session
    made: list[str] = []
    create = session.create_client

    def create_client(self: Any, service_name: str, *args: Any, **options: Any) -> Any:
        made.append(service_name)
        return create(self, service_name, *args, **options)

    session.create_client = create_client
    return made


def memory_kb() -> int:
    """The most that this process has had in memory."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def main(folder: str, ready: str, count: int, transport: str) -> None:
    """See above."""
    sys.path.insert(0, folder)
    made = note_clients() if transport == "clients" else []
    if transport != "wire":
        stub_http()
    app = importlib.import_module("app")
    if ready:
        getattr(importlib.import_module("idle_timer.bootstrap"), ready)(*([ARN] if ready == "sweep" else []))
    for _ in range(count):
        app.handler({"conversation_id": CONVERSATION}, Context)
    if transport == "clients":
        sys.stdout.write("\n" + " ".join(sorted(made)) + "\n")
    elif transport == "memory":
        sys.stdout.write(f"\n{memory_kb()}\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
