"""One deployed stack for a run's end-to-end tests; each test uses conversation ids of its own."""

import os
from collections.abc import Callable, Iterator

import pytest

from tests.local.stack import LocalStack

# Parallel workers share what `make test` has built before them.
BUILD = "PYTEST_XDIST_WORKER" not in os.environ


@pytest.fixture(scope="session")
def stack() -> Iterator[LocalStack]:
    """The application as `sam build` and `sam deploy` make it, on the local stack."""
    with LocalStack(build=BUILD, parameters={"RedriveDelaySeconds": 1}) as running:
        yield running


@pytest.fixture(autouse=True)
def no_faults_left(stack: LocalStack) -> Iterator[None]:
    """A fault that a test set must not meet the next one."""
    yield
    stack.faults.clear()


@pytest.fixture
def new_id(request: pytest.FixtureRequest) -> Callable[[str], str]:
    """Conversation ids that no other test uses."""
    return lambda name: f"{request.node.name[:40]}-{name}"
