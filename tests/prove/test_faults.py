"""The verifier of the faults on the deployed stack notices each kind of broken promise."""

from types import SimpleNamespace
from typing import Any

import pytest

from tests.local.promises import to_wire
from tests.local.stack import Outcome
from tests.prove.faults import Journal, Met, Observer, Told, rows

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


def told(type_: str, generation: int = 1) -> Outcome:
    body = {"type": type_, "conversation_id": "c", "id": f"o-{type_}", "generation": generation}
    return Outcome(body, {}, NOW / SECOND)


def observer(
    kind: str = "silent",
    state: str | None = "ended",
    *outcomes: Outcome,
    generation: int = 1,
    there: bool = False,
    schedules: int = 0,
    timeout_seconds: int = 4,
) -> Observer:
    """One conversation with a message 10 s ago."""
    message = Told(NOW - 10 * SECOND, NOW - 9 * SECOND, timeout_seconds, "o")
    paused = kind == "handed over"
    status: dict[str, Any] = {
        "state": state,
        "generation": generation,
        "outbox": [],
        "attempts": 0,
        "ended_at": to_wire(NOW),
        "history": [],
    }
    stack: Any = SimpleNamespace(
        redis=SimpleNamespace(exists=lambda key: there),
        schedules=lambda: ["s"] * schedules,
        outcomes=lambda: [*outcomes],
        invoke=lambda function, event: status,
    )
    watching = Observer(stack, [Journal("c", kind, [message], sent=1, paused=paused)])
    watching.look()
    return watching


def broken(watching: Observer) -> list[str]:
    found = {
        "early": watching.early(),
        "forgotten": watching.forgotten(),
        "repeated": watching.repeated(),
        "left behind": watching.left_behind(),
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


def test_a_pause_or_a_reopening_that_nobody_told_is_forgotten() -> None:
    assert broken(observer("handed over", "paused", told("ConversationPaused"), there=True)) == []
    assert broken(observer("handed over", "paused", there=True)) == ["forgotten"]
    twice = (end(), end(2, id_="p-2", opening="p"))
    assert broken(observer("returning", "ended", *twice, told("ConversationReopened", 2), generation=2)) == []
    assert broken(observer("returning", "ended", *twice, generation=2)) == ["forgotten"]


def test_who_must_not_end_and_does_is_noticed() -> None:
    assert "forgotten" in broken(observer("never", "ended", end()))
    assert "forgotten" in broken(observer("handed over", "active", there=True))


def test_two_ids_for_one_opening_are_a_repeated_end() -> None:
    assert broken(observer("silent", "ended", end(), end(id_="o-3"))) == ["repeated"]


def test_what_is_left_behind_or_taken_too_much_is_noticed() -> None:
    assert broken(observer("silent", "ended", end(), there=True)) == ["left behind"]
    assert broken(observer("never", "active", there=False)) == ["left behind"]
    assert broken(observer("silent", "ended", end(), schedules=1)) == ["left behind"]


def test_a_session_that_the_backend_wrote_after_the_end_is_its_own() -> None:
    watching = observer("silent", "ended", end(), there=True)
    watching.journals[0].session_at = NOW + SECOND
    assert broken(watching) == []


@pytest.mark.parametrize(("hits", "shown"), [(0, 0), (3, 0), (3, 1)])
def test_a_fault_that_left_too_few_traces_was_not_met(hits: int, shown: int) -> None:
    met = [
        Met("refused", 3, 3, "told later", wanted=3),
        Met("killed", hits, shown, "of all points", wanted=2),
    ]
    kept = {
        name.strip(): kept
        for name, _, kept in rows(observer("silent", "ended", end()), met, {}, settled=True)
    }
    assert [name for name, was_kept in kept.items() if not was_kept] == ["kinds of them that were really met"]


def test_a_broken_promise_a_call_given_up_and_what_never_settles_are_told() -> None:
    met = [Met("refused", 3, 3, "told later")]
    watching = observer("silent", "ended", end())
    assert all(kept for _, _, kept in rows(watching, met, {"early": []}, settled=True))
    assert not all(kept for _, _, kept in rows(watching, met, {"early": ["c"]}, settled=True))
    assert not all(kept for _, _, kept in rows(watching, met, {"early": []}, settled=False))
    watching.journals[0].gave_up = 1
    assert not all(kept for _, _, kept in rows(watching, met, {"early": []}, settled=True))
