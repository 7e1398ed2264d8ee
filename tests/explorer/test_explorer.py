"""The fast set of the race explorer; `python -m tests.explorer --deep` has the rest."""

import logging
import time
from collections.abc import Iterator

import pytest

from tests.explorer import sets
from tests.explorer.mutants import MUTANTS, Mutant
from tests.explorer.scenarios import KINDS, by_name
from tests.explorer.search import Explorer, Scenario

SECONDS = 300  # for each set, on a machine that is busy with much else; the whole takes half a minute on an idle one


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """The protocol warns in runs that are meant to go wrong."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def all_kept(scenarios: Iterator[Scenario]) -> sets.Summary:
    broken: list[str] = []
    summary = sets.explore(scenarios, until=time.monotonic() + SECONDS, say=broken.append)
    print(summary.line())
    assert not summary.broken, "\n".join(broken)
    return summary


def test_any_two_operations_at_once_keep_every_promise() -> None:
    all_pairs = len(KINDS) * (len(KINDS) + 1) // 2
    summary = all_kept(sets.pairs(KINDS, sets.QUIET, sets.CENTRAL))
    assert summary.scenarios == all_pairs * len(sets.CENTRAL)


def test_the_core_ones_keep_them_with_any_one_disturbance() -> None:
    all_kept(sets.pairs(sets.CORE, sets.ANY_ONE, sets.CENTRAL))


def test_the_core_ones_keep_them_with_timer_slack() -> None:
    all_kept(sets.pairs(sets.CORE, sets.QUIET, sets.CENTRAL, "slack"))


def test_three_operations_at_once_keep_every_promise() -> None:
    all_kept(each for each in sets.triples(sets.QUIET) if not sets.is_long(each))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_explorer_notices(mutant: Mutant) -> None:
    with mutant.at_large() as wire:
        explorer = Explorer(sets.machine(wire), by_name(mutant.caught_in))
        report = explorer.explore(until=time.monotonic() + SECONDS)
    assert report.broken.startswith(mutant.breaks), report.broken or "nothing"
    assert report.story[-1] == f"Broken: {report.broken}"


@pytest.mark.parametrize("name", sorted({mutant.caught_in for mutant in MUTANTS}))
def test_where_mutants_are_noticed_the_real_protocol_keeps_every_promise(name: str) -> None:
    report = Explorer(sets.machine(), by_name(name)).explore(until=time.monotonic() + SECONDS)
    assert report.broken == ""


def test_a_seed_tells_the_same_run_again() -> None:
    mutant = MUTANTS[0]
    with mutant.at_large() as wire:
        found = Explorer(sets.machine(wire), by_name(mutant.caught_in)).explore()
        name, _, moves = found.seed.partition(":")
        again = Explorer(sets.machine(wire), by_name(name))
        assert again.tell(tuple(map(int, moves.split(".")))) == found.story


def test_running_out_of_time_is_a_failure() -> None:
    report = Explorer(sets.machine(), by_name("touch+cleanup@fired/00000")).explore(until=0)
    assert report.broken.startswith("out of time")


@pytest.mark.parametrize(
    "name",
    [
        "touch+cleanup@fired/10001",
        "touch+cleanup@fired/01001",
        "touch+cleanup@active/10001",
        "touch+sweep@lost/10001",
        "touch+redrive@fired/00101",
        "touch+touch@new/00101",
        "pause+resume@active/10001",
        "touch+cleanup+cleanup@ended/00000",
    ],
)
def test_no_end_is_lost_by_looking_at_less(name: str) -> None:
    """Equal operations are one, unnoticed steps go first, the clock moves late: the same ends as without all that."""
    less = Explorer(sets.machine(), by_name(name))
    everything = Explorer(sets.machine(), by_name(name))
    everything.reduces = everything.machine.merges = False
    assert less.explore().broken == everything.explore().broken == ""
    assert less.ends() == everything.ends()
