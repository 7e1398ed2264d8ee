"""AWS clients, made in one place: one session, and timeouts for a function that answers in tens of milliseconds."""

import functools
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

CONNECT_TIMEOUT_SECONDS = 1  # a healthy endpoint in the same Region answers in milliseconds
READ_TIMEOUT_SECONDS = (
    3  # with two tries a hung endpoint holds touch for 6 s at most, below its timeout of 10 s
)
TRIES = 2  # what fails twice goes to the caller, or to Lambda's retries, which wait longer than botocore does

__all__ = ["AwsError", "ClientError", "client", "error_code"]

AwsError = (ClientError, BotoCoreError)
"""What a call can raise: AWS refused, or was not reached."""


@functools.cache
def _session() -> botocore.session.Session:
    return botocore.session.Session()


@functools.cache
def client(service: str, *, read_timeout_seconds: int = READ_TIMEOUT_SECONDS) -> Any:
    """One client per service and process. `read_timeout_seconds`: longer for calls that wait for somebody's code."""
    config = Config(
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        read_timeout=read_timeout_seconds,
        retries={"mode": "standard", "total_max_attempts": TRIES},
        user_agent="idle-timer",  # otherwise botocore builds its own anew for every call, a third of a warm touch
    )
    return _session().create_client(service, config=config)


def error_code(error: BaseException) -> str:
    """AWS's own code for a refusal; empty where AWS was not reached."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""
