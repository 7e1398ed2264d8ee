"""The simulation keeps every promise, and notices each one that is broken."""

from dataclasses import replace

import pytest

from idle_timer import cleanup, conversation, messages
from tests.fakes.sessions import MemorySessions
from tests.prove.simulation import CALM, Faults, Report, simulate

SEED = 5


def small(faults: Faults | None = None, seed: int = SEED) -> Report:
    return simulate(seed, 0, conversations=60, hours=1, faults=faults)


def test_hours_of_faults_break_no_promise() -> None:
    report = simulate(SEED, 1, conversations=250, faults=Faults(killed=0.004, lost=0.02))
    assert report.broken == []
    assert report.ended > 250
    assert (
        min(report.faults[what] for what in ("functions killed", "events lost", "messages delivered twice"))
        > 0
    )


def test_the_same_seed_is_the_same_run() -> None:
    assert small() == small()
    assert small() != small(seed=SEED + 1)


def test_without_faults_nothing_is_late() -> None:
    report = small(CALM)
    assert report.broken == []
    assert (
        max(report.lateness_seconds) < 1 + 1 + 60 + 3
    )  # allowance, rounding, Scheduler's minute, hosts' clocks
    assert report.repaired == 0


def test_without_a_single_firing_the_sweep_ends_everything_in_time() -> None:
    report = small(replace(CALM, lost_firing=1))
    assert report.broken == []
    assert report.repaired > 50


@pytest.mark.parametrize(
    ("place", "name", "wrong", "promise"),
    [
        (conversation, "is_due", lambda due, settings, now: True, "early: "),
        (conversation, "sweeps_too_early", None, "failed with TypeError"),
        (cleanup.Cleanup, "_perform", lambda self, current, entry: None, "was never published"),
        (MemorySessions, "remove", lambda self, key, opening_id: True, "its session is still there"),
    ],
)  # fmt: skip
def test_a_broken_promise_is_noticed(
    place: object, name: str, wrong: object, promise: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, name, wrong)
    broken = small(CALM).broken
    assert any(promise in line for line in broken)
    assert all("again: python -m tests.prove.simulation --seed 5 --cell 0" in line for line in broken)


def test_a_conversation_that_nobody_comes_for_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.prove.simulation.Simulation._sweep", lambda self: None)
    monkeypatch.setattr("tests.prove.simulation.LONGEST_RUN_HOURS", 6)
    report = small(replace(CALM, lost_firing=0.1))
    assert report.lost > 0
    assert any("forgotten: still active" in line for line in report.broken)


def test_an_end_under_two_ids_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter(range(1_000_000))
    told = messages.outcome
    monkeypatch.setattr(messages, "outcome", lambda *given: {**told(*given), "id": str(next(numbers))})
    assert small(replace(CALM, killed=0.05)).doubled_ends > 0
