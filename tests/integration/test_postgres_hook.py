"""The sample end hook against a real PostgreSQL, where one is installed."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from idle_timer import messages
from idle_timer.conversation import Conversation, Entry
from tests.fakes.world import World, settings
from tests.samples import postgres_end_hook

CANDIDATES = [
    *(Path(found).parent for found in [shutil.which("initdb")] if found),
    *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True),  # Debian and Ubuntu
    *sorted(Path("/usr").glob("pgsql-*/bin"), reverse=True),  # the PostgreSQL project's RPMs
    *sorted(Path("/opt/homebrew/opt").glob("postgresql*/bin"), reverse=True),  # Homebrew
]
BINARIES = next((folder for folder in CANDIDATES if (folder / "initdb").exists()), None)

pytestmark = pytest.mark.skipif(
    BINARIES is None, reason="no PostgreSQL server is installed (initdb is not on the PATH)"
)

TABLE = """
    CREATE TABLE conversations (
        conversation_id text PRIMARY KEY, status text NOT NULL DEFAULT 'active', end_reason text,
        ended_at timestamptz, outcome_id text, outcome_seq bigint NOT NULL DEFAULT 0)
"""


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """The URL of a server of our own, on a Unix socket in a private directory."""
    assert BINARIES is not None
    with tempfile.TemporaryDirectory(prefix="pg-") as home:  # short: a socket's path has 107 characters
        owner: dict[str, Any] = {}
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            nobody = pwd.getpwnam("nobody")
            os.chown(home, nobody.pw_uid, nobody.pw_gid)
            owner = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        options = {"cwd": home, "env": {"LC_ALL": "C", "PATH": os.defpath}, **owner}
        init = [str(BINARIES / "initdb"), "-D", f"{home}/data", "-U", "test", "-A", "trust"]
        subprocess.run(
            [*init, "-E", "UTF8", "--locale=C", "--no-sync"], check=True, capture_output=True, **options
        )
        serve = [str(BINARIES / "postgres"), "-D", f"{home}/data", "-k", home]
        with open(f"{home}/log", "wb") as log:
            server = subprocess.Popen(
                [*serve, "-c", "listen_addresses=", "-c", "fsync=off"],
                stdout=log,
                stderr=subprocess.STDOUT,
                **options,
            )
        try:
            url = f"postgresql://test@/postgres?host={home}"
            wait_until_up(url, Path(home, "log"))
            with psycopg.connect(url) as connection:
                connection.execute(TABLE)
            yield url
        finally:
            server.send_signal(signal.SIGINT)  # fast shutdown
            server.wait(timeout=30)


def wait_until_up(url: str, log: Path, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                pytest.fail(f"PostgreSQL did not start: {log.read_text()}")
            time.sleep(0.05)
        else:
            return


@pytest.fixture
def url(database: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The hook's environment, and an empty table."""
    monkeypatch.setenv("DATABASE_URL", database)
    with psycopg.connect(database) as connection:
        connection.execute("TRUNCATE conversations")
        connection.execute("INSERT INTO conversations (conversation_id) VALUES ('c-1'), ('c-2')")
    return database


def outcome(seq: int = 2, reason: str = "idle_timeout", conversation_id: str = "c-1") -> dict[str, Any]:
    body = {"type": "ConversationEnded", "occurred_at": 1_767_268_800_000 + seq, "reason": reason}
    return messages.outcome(conversation_id, Entry("outcome", f"opening-{seq}", seq, body))


def row(url: str, conversation_id: str = "c-1") -> tuple[Any, ...]:
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "SELECT status, end_reason, outcome_id, outcome_seq FROM conversations WHERE conversation_id = %s",
            [conversation_id],
        ).fetchone()
    assert found is not None
    return found


def test_an_end_reaches_the_row_once_however_often_the_hook_is_invoked(url: str) -> None:
    assert postgres_end_hook.handler(outcome(), None) == {"changed": True}
    with psycopg.connect(url) as connection:  # the application's own later change stays
        connection.execute("UPDATE conversations SET status = 'archived' WHERE conversation_id = 'c-1'")
    assert postgres_end_hook.handler(outcome(), None) == {"changed": False}
    assert row(url) == ("archived", "idle_timeout", "opening-2-2", 2)
    assert row(url, "c-2") == ("active", None, None, 0)


def test_many_at_once_change_the_row_once(url: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: postgres_end_hook.handler(outcome(), None), range(16)))
    assert [answer["changed"] for answer in answers].count(True) == 1


def test_an_end_that_a_later_one_has_overtaken_changes_nothing(url: str) -> None:
    assert postgres_end_hook.handler(outcome(5, "agent_ended"), None)["changed"]
    assert not postgres_end_hook.handler(outcome(2), None)["changed"]
    assert row(url)[:2] == ("ended", "agent_ended")


def test_a_conversation_that_the_table_does_not_know_is_no_error(url: str) -> None:
    assert postgres_end_hook.handler(outcome(conversation_id="c-9"), None) == {"changed": False}


def test_it_takes_what_cleanup_gives_it(url: str) -> None:
    """Two openings of one conversation through the protocol itself: the second end is a new one for the row."""
    world = World(settings(end_hook_function_arn="arn:aws:lambda:eu-west-1:111122223333:function:hook"))
    world.touch()
    world.fire()
    world.clock.advance(1)
    world.touch()
    world.drain()
    world.clock.advance(1)
    world.lifecycle("end", reason="agent_ended")
    world.drain()
    first, second = world.callers_code.hooked
    for told in (first, second, first, second):
        postgres_end_hook.handler(dict(told), None)
    item: Conversation = world.item()
    assert row(url) == ("ended", "agent_ended", f"{item.opening_id}-{item.seq}", item.seq)


def test_a_database_that_is_away_is_an_error_so_that_cleanup_tries_again(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://test@/postgres?host=/nowhere")
    with pytest.raises(psycopg.OperationalError):
        postgres_end_hook.handler(outcome(), None)
