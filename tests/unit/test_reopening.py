"""What a reopening gives back and what it is counted as."""

import pytest

from tests.fakes.sessions import Session
from tests.fakes.world import World, settings

SECRET = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:session-url"  # noqa: S105 - a name


def ended(**changed: int) -> World:
    """A conversation with a session that fell silent and was ended, its outbox worked off."""
    world = World(settings(session_url_secret_arn=SECRET, **changed))
    world.touch()
    world.sessions.live["session:c-1"] = Session("basket", world.clock.time + 86_400_000)
    assert world.fire()["decision"] == "ended"
    assert "session:c-1" not in world.sessions.live
    return world


def test_the_session_comes_back_with_its_time_to_live_and_the_answer_says_so() -> None:
    world = ended()
    left = world.sessions.tombstones["session:c-1", "opening-1"].ttl
    world.clock.advance(3_599)
    assert world.touch()["session"] == "restoring"
    world.drain()
    session = world.sessions.live["session:c-1"]
    assert session.value == "basket"
    assert session.expires_at == world.clock.time + (left or 0)


def test_a_repeat_of_the_reopening_message_says_so_too_until_it_is_done() -> None:
    world = ended()
    world.clock.advance(10)
    message = {"occurred_at": "2026-01-01T12:05:05Z"}
    assert world.touch(**message)["session"] == "restoring"
    again = world.touch(**message)
    assert (again["result"], again["session"]) == ("repeat", "restoring")
    world.drain()
    assert "session" not in world.touch(**message)


def test_after_the_tombstones_life_nothing_is_promised() -> None:
    world = ended()
    world.clock.advance(3_600)
    assert "session" not in world.touch()
    world.drain()
    assert "session:c-1" not in world.sessions.live


def test_without_tombstones_nothing_is_promised() -> None:
    world = ended(session_tombstone_seconds=0)
    world.clock.advance(1)
    assert "session" not in world.touch()


@pytest.mark.parametrize(
    ("minutes", "away_seconds", "counted"), [(10, 600, 1), (10, 601, 0), (1, 60, 1), (0, 0, 0), (0, 1, 0)]
)
def test_a_quick_return_after_an_idle_end_counts_as_a_false_end(
    minutes: int, away_seconds: int, counted: int
) -> None:
    world = ended(false_end_minutes=minutes)
    world.clock.advance(away_seconds)
    assert world.touch()["result"] == "reopened"
    assert world.telemetry.totals["FalseEnds"] == counted


def test_a_quick_return_after_an_agents_end_is_no_false_end() -> None:
    world = World()
    world.touch()
    world.clock.advance(1)
    world.lifecycle("end", reason="agent_ended")
    world.clock.advance(1)
    assert world.touch()["result"] == "reopened"
    assert world.telemetry.totals["FalseEnds"] == 0
