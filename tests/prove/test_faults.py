"""The verifier of the faults on the deployed stack notices each kind of broken promise."""

from types import SimpleNamespace
from typing import Any

from tests.local.promises import to_wire
from tests.local.stack import Outcome
from tests.prove.faults import Journal, Observer, Told

NOW = 1_800_000_000_000
SECOND = 1_000


def end(generation: int = 1, *, at: int = NOW, id_: str = "o-2", opening: str = "o") -> Outcome:
    body = {
        "type": "ConversationEnded",
        "conversation_id": "c",
        "id": id_,
        "opening_id": opening,
        "generation": generation,
        "reason": "idle_timeout",
        "proof": {"decided_at": to_wire(at), "lateness_seconds": 1.0},
    }
    return Outcome(body, {}, at / SECOND)


def observer(
    kind: str = "silent",
    state: str | None = "ended",
    *ends: Outcome,
    generation: int = 1,
    there: bool = False,
    schedules: int = 0,
    timeout_seconds: int = 4,
) -> Observer:
    """One conversation with a message 10 s ago."""
    told = Told(NOW - 10 * SECOND, NOW - 9 * SECOND, timeout_seconds, "o")
    stack: Any = SimpleNamespace(
        redis=SimpleNamespace(exists=lambda key: there), schedules=lambda: ["s"] * schedules
    )
    watching = Observer(stack, [Journal("c", kind, [told], sent=1, paused=kind == "handed over")])
    watching.status = {"c": {"state": state, "generation": generation, "outbox": [], "attempts": 0}}
    by_generation: dict[int, list[Outcome]] = {}
    for each in ends:
        by_generation.setdefault(each.body["generation"], []).append(each)
    watching.ends = {"c": by_generation}
    return watching


def broken(watching: Observer) -> list[str]:
    found = {
        "early": watching.early(),
        "forgotten": watching.forgotten(),
        "repeated": watching.repeated(),
        "sessions": watching.sessions(),
    }
    return [promise for promise, cases in found.items() if cases]


def test_an_end_that_was_told_twice_under_its_id_keeps_every_promise() -> None:
    assert broken(observer("silent", "ended", end(), end())) == []


def test_an_end_within_the_timeout_of_an_answered_message_is_early() -> None:
    assert broken(observer("silent", "ended", end(at=NOW - 7 * SECOND))) == ["early"]
    assert broken(observer("silent", "ended", end(), timeout_seconds=0)) == ["early"]


def test_a_message_that_nobody_had_answered_yet_may_be_overtaken() -> None:
    assert broken(observer("silent", "ended", end(at=NOW - 9_500))) == []


def test_who_is_still_active_or_whose_end_nobody_told_is_forgotten() -> None:
    assert broken(observer("silent", "active", there=True)) == ["forgotten"]
    assert broken(observer("silent", "ended")) == ["forgotten"]
    assert broken(observer("returning", "ended", end(2), generation=2)) == ["forgotten"]
    assert broken(observer("silent", None)) == ["forgotten"]


def test_who_must_not_end_and_does_is_noticed() -> None:
    assert "forgotten" in broken(observer("never", "ended", end()))
    assert "forgotten" in broken(observer("handed over", "active", there=True))


def test_two_ids_for_one_opening_are_a_repeated_end() -> None:
    assert broken(observer("silent", "ended", end(), end(id_="o-3"))) == ["repeated"]


def test_what_is_left_behind_or_taken_too_much_is_noticed() -> None:
    assert broken(observer("silent", "ended", end(), there=True)) == ["sessions"]
    assert broken(observer("never", "active", there=False)) == ["sessions"]
    assert broken(observer("silent", "ended", end(), schedules=1)) == ["sessions"]
