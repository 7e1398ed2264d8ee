"""Unit tests reach no network: what needs one belongs into tests/integration."""

import pytest
from hypothesis import settings
from pytest_socket import disable_socket

settings.register_profile("unit", deadline=None, max_examples=100)
settings.load_profile("unit")


@pytest.hookimpl(trylast=True)
def pytest_runtest_setup() -> None:
    disable_socket(allow_unix_socket=True)
