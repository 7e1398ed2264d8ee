"""The fast set of the race explorer; `python -m tests.explorer --deep` has the rest."""

import logging
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.explorer import sets
from tests.explorer.mutants import MUTANTS, Mutant
from tests.explorer.running import Summary, explore, explored
from tests.explorer.scenarios import KINDS, TRIPLES, by_name
from tests.explorer.search import Explorer

SECONDS = 300  # for each set, on a machine that is busy with much else; the whole takes half a minute on an idle one


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """The protocol warns in runs that are meant to go wrong."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("group", sets.fast(), ids=lambda group: group.title)
def test_every_interleaving_keeps_every_promise(group: sets.Group) -> None:
    summary = Summary()
    for report in explore(group.scenarios, until=time.monotonic() + SECONDS):
        summary.add(report)
        assert not report.broken, "\n".join([*report.story, f"seed: {report.seed}"])
    print(summary.line())


def test_every_pair_and_every_triple_is_in_the_deep_set() -> None:
    groups = {group.title: len(group.scenarios) for group in sets.deep()}
    assert groups[f"all pairs, {sets.IN_FULL}"] == len(KINDS) * (len(KINDS) + 1) // 2
    assert groups[f"all triples, {sets.CLOCK_STANDING}"] == len(TRIPLES)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_explorer_notices(mutant: Mutant) -> None:
    with mutant.at_large() as wire:
        explorer = Explorer(sets.machine(wire), by_name(mutant.caught_in))
        report = explorer.explore(until=time.monotonic() + SECONDS)
    assert report.broken.startswith(mutant.breaks), report.broken or "nothing"
    assert report.story[-1] == f"Broken: {report.broken}"


def test_runs_drawn_at_random_notice_too_and_can_be_told() -> None:
    scenario = replace(by_name("touch+cleanup+cleanup@fired/22105"), runs=1_000)
    assert Explorer(sets.machine(), scenario).sample().sequences == 1_000
    mutant = MUTANTS[0]
    with mutant.at_large() as wire:
        report = Explorer(sets.machine(wire), scenario).sample()
    assert report.broken.startswith(mutant.breaks)
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


def test_a_broken_promise_is_told_at_once_and_ends_it(capsys: pytest.CaptureFixture[str]) -> None:
    name = "cleanup commits before it deletes"
    group = sets.Group("both", (by_name("touch+cleanup@fired/00000"), by_name("touch+cleanup@active/00000")))
    found = explored([group], jobs=1, minutes=1, mutant=name)
    assert found["both"].scenarios == 1
    assert "Broken: never forgotten" in capsys.readouterr().out


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
        "touch+pause@warned/11101",
        "longer_touch+cleanup@warning/11101",
        "touch+end@fired/22115",
        "touch+cleanup+cleanup@ended/00000",
        "touch+earlier_touch+cleanup@new/00101",
    ],
)
def test_no_end_is_lost_by_looking_at_less(name: str) -> None:
    """Equal operations are one, unnoticed steps go first, the clock moves late, and who may do less than another in the
    same place is not followed: the same ends as without all that."""
    less = Explorer(sets.machine(), by_name(name))
    everything = Explorer(sets.machine(), by_name(name))
    everything.reduces = everything.machine.merges = False
    assert less.explore().broken == everything.explore().broken == ""
    assert less.ends() == everything.ends()
