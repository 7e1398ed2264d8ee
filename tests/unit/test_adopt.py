"""The backlog that people bring: taken over with its real last activity, at a bounded rate."""

import io
from pathlib import Path
from typing import Any

import pytest

from idle_timer import adopt
from tests.fakes.operations import WorldFunctions
from tests.fakes.system import NOON
from tests.fakes.world import World

HEADER = "conversation_id,last_activity_at,idle_timeout,attributes\n"


class Adopting:
    """A run over CSV text against a world."""

    def __init__(self, text: str) -> None:
        self.world = World()
        self.functions = WorldFunctions(self.world)
        self.out, self.err = io.StringIO(), io.StringIO()
        self.slept: list[float] = []
        self._text = text

    def run(self, *, dry_run: bool = False, rate: float = 20, resume_after: str | None = None) -> int:
        def sleep(seconds: float) -> None:
            self.slept.append(seconds)
            self.world.clock.advance(seconds)

        rows = adopt.csv_rows(io.StringIO(self._text), resume_after)
        return adopt.Adoption(self.functions, out=self.out, err=self.err).run(
            rows,
            rate=rate,
            dry_run=dry_run,
            idle_timeout_seconds=300,
            now=lambda: self.world.clock.time / 1_000,
            sleep=sleep,
        )


def test_conversations_come_in_with_their_real_last_activity() -> None:
    adopting = Adopting(
        HEADER
        + "old,2025-12-31T23:00:00+01:00,,\n"
        + f"seconds,{NOON // 1_000 - 60},PT10M,\n"
        + f'milliseconds,{NOON - 1_000},0,"{{""channel"": ""web""}}"\n'
    )
    assert adopting.run() == 0
    items = adopting.world.store.items
    assert items["old"].last_activity_at == 1_767_218_400_000
    assert (items["seconds"].last_activity_at, items["seconds"].idle_timeout_seconds) == (NOON - 60_000, 600)
    assert (items["milliseconds"].last_activity_at, items["milliseconds"].idle_timeout_seconds) == (
        NOON - 1_000,
        0,
    )
    assert items["milliseconds"].attributes == {"channel": "web"}
    assert "old: opened, due at 2025-12-31T22:05:00.000Z" in adopting.out.getvalue()
    assert "milliseconds: opened, due at no time: it never ends" in adopting.out.getvalue()
    adopting.world.fire("old")
    assert items["old"].state == "ended"


def test_whoever_is_known_already_is_left_as_he_is_and_a_second_run_is_harmless() -> None:
    adopting = Adopting(HEADER + "known,2026-01-01T11:00:00Z,,\n")
    adopting.world.touch("known")
    before = adopting.world.item("known")
    adopting.run()
    adopting.run()
    assert adopting.world.item("known") == before
    assert adopting.err.getvalue().count("1 repeat") == 2


def test_a_dry_run_calls_nothing_and_says_what_would_happen() -> None:
    adopting = Adopting(
        HEADER
        + "late,2026-01-01T11:00:00Z,,\nyoung,2026-01-01T11:58:00Z,,\nnever,2026-01-01T11:00:00Z,0,\nbad,noon,,\n"
    )
    assert adopting.run(dry_run=True) == 1
    assert adopting.functions.called == []
    said = adopting.out.getvalue().splitlines()
    assert said[0].endswith(
        "last activity 2026-01-01T11:00:00.000Z, due at 2026-01-01T11:05:00.000Z (at once)"
    )
    assert said[1].endswith("due at 2026-01-01T12:03:00.000Z")
    assert said[2].endswith("would never end")
    assert "5: last_activity_at must be an RFC 3339 time with a zone" in adopting.err.getvalue()
    assert "dry run: 1 invalid, 3 would be opened" in adopting.err.getvalue()


def test_the_rate_is_kept() -> None:
    adopting = Adopting(HEADER + "".join(f"c-{number},2026-01-01T11:00:00Z,,\n" for number in range(40)))
    adopting.run(rate=20)
    assert adopting.world.clock.time - NOON == pytest.approx(2_000, abs=20)


def test_one_that_fails_is_named_and_the_others_go_on() -> None:
    adopting = Adopting(HEADER + "a,2026-01-01T11:00:00Z,,\nb,2026-01-01T11:00:00Z,,\nc,,,\n")
    adopting.functions.broken["a"] = "TimerNotArmedError"
    assert adopting.run() == 2
    assert "2: a: TimerNotArmedError" in adopting.err.getvalue()
    assert "4: last_activity_at is missing" in adopting.err.getvalue()
    assert set(adopting.world.store.items) == {"b"}


def test_a_run_that_was_broken_off_says_where_to_go_on() -> None:
    adopting = Adopting(HEADER + "".join(f"c-{number},2026-01-01T11:00:00Z,,\n" for number in range(250)))
    taken = adopting.functions.call_each

    def broken_off(calls: Any) -> Any:
        if len(adopting.functions.called) == 120:
            raise KeyboardInterrupt
        return taken(calls)

    adopting.functions.call_each = broken_off  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        adopting.run()
    assert "100 done; to go on from here: --resume-after '101'" in adopting.err.getvalue()
    assert "120 opened; to go on from here: --resume-after '121'" in adopting.err.getvalue()
    adopting.functions.call_each = taken  # type: ignore[method-assign]
    adopting.functions.called.clear()
    adopting.run(resume_after="121")
    assert [call.key for call in adopting.functions.called] == [f"c-{number}" for number in range(120, 250)]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"conversation_id": "c"}, "without it everybody would look active now"),
        ({"conversation_id": "c", "last_activity_at": "2026-01-01T11:00:00"}, "with a zone"),
        ({"conversation_id": "c", "last_activity_at": "1", "attributes": "{"}, "must be a JSON object"),
    ],
)
def test_a_bad_row_is_told(row: dict[str, str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        adopt.event_of(row)


def test_a_file_without_the_columns_is_told() -> None:
    with pytest.raises(ValueError, match="lacks last_activity_at"):
        list(adopt.csv_rows(io.StringIO("conversation_id,when\n"), None))


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        ([], "give either FILE.csv or --table NAME"),
        (["x.csv", "--table", "t"], "give either FILE.csv or --table NAME"),
        (["x.csv"], "--function is needed"),
        (["x.csv", "--dry-run", "--rate", "0"], "--rate must be above 0"),
    ],
)
def test_a_wrong_command_line_is_told(
    argv: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        adopt.main(argv)
    assert problem in capsys.readouterr().err


def test_help_names_everything(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        adopt.main(["--help"])
    shown = capsys.readouterr().out
    for word in (
        "FILE.csv",
        "--table",
        "--function",
        "--rate",
        "--dry-run",
        "--resume-after",
        "last_activity_at",
    ):
        assert word in shown


def test_the_command_reads_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    backlog = tmp_path / "backlog.csv"
    backlog.write_text("\ufeff" + HEADER + "c-1,2026-01-01T11:00:00Z,,\n", encoding="utf-8")
    assert adopt.main([str(backlog), "--dry-run"]) == 0
    assert "c-1: would be opened" in capsys.readouterr().out
    assert adopt.main([str(tmp_path / "absent.csv"), "--dry-run"]) == 2
    assert "absent.csv" in capsys.readouterr().err
