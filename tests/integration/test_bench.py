"""What the benchmark claims and can be checked in a moment: calls per message, slack, the sweep's work; and preflight."""

from pathlib import Path

import pytest

from tests.bench import calls, gaps, model, preflight, sweeping
from tests.bench.figures import Figure, write


@pytest.fixture(autouse=True)
def region(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("DEFAULT_REGION", "us-east-1"), ("ACCESS_KEY_ID", "a"), ("SECRET_ACCESS_KEY", "b")):
        monkeypatch.setenv(f"AWS_{name}", value)


@pytest.mark.parametrize("mode", calls.MODES, ids=lambda mode: mode.name)
def test_no_message_after_the_first_takes_more_than_two_calls(mode: calls.Mode) -> None:
    counts = calls.conversation(mode)
    assert counts.calls == counts.round_trips <= 2
    if not mode.stack and "idle_timeout" not in mode.event:
        assert counts.by_operation == {"UpdateItem": 19, "UpdateSchedule": 19}


def test_a_sweep_reads_what_is_overdue_however_many_conversations_are_open() -> None:
    assert sweeping.work(1_000) == sweeping.work(100_000)


def test_slack_saves_writes_and_moves_no_end() -> None:
    talks = gaps.synthetic(200)
    without, with_slack = gaps.simulate(talks, 0), gaps.simulate(talks, 240)
    writes = ("scheduler.create", "scheduler.update")
    assert with_slack.per_message(*writes) < without.per_message(*writes) / 2
    assert with_slack.firings > without.firings, "the price of it"
    assert gaps.ends_apart_seconds(without, with_slack) <= 5  # what is due sooner is asked for 5 s ahead


def test_timings_that_cannot_be_read_are_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "timings.csv"
    file.write_text("a,b\n1,2\n")
    assert preflight.main(["--timings", str(file), "--results", str(tmp_path)]) == 2
    assert (
        capsys.readouterr().err
        == f"preflight: {file}: needs a column conversation and a column seconds or minute\n"
    )


def test_preflight_says_what_to_raise_in_a_small_region(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--messages-per-second", "2000", "--region", "eu-north-1", "--results", str(tmp_path)]
    assert preflight.main(arguments) == 0
    told = capsys.readouterr().out
    assert "**Does not fit the default quotas**" in told
    assert "raise to" in told
    assert "| 0 s (asked for) |" in told, "the default, beside what slack would change"
    assert "| 240 s |" in told
    for name in ("Step Functions", "Lambda durable", "SQS delay", "DynamoDB TTL", "Temporal Cloud"):
        assert name in told
    assert {path.name for path in tmp_path.iterdir()} == {"preflight.md", "preflight.svg"}


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (["--messages-per-second", "0"], "must be above 0"),
        (["--messages-per-conversation", "1"], "must be 2 to 1000"),
        (["--region", "Frankfurt"], "must be a Region's name"),
        (["--slack", "-1"], "must be whole seconds"),
    ],
)
def test_preflight_refuses_by_name_what_cannot_be(
    given: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        preflight.main(given)
    told = capsys.readouterr().err
    assert given[0] in told
    assert why in told


def test_each_price_has_its_source() -> None:
    for name, price in model.facts()["prices"].items():
        assert price["usd"] > 0, name
        assert price["source"].startswith("https://"), name


def test_a_missed_target_is_told_as_missed(tmp_path: Path) -> None:
    figures = [
        Figure(1, "too much", 1.2, target=1.0),
        Figure(13, "enough", 5_000, "", 4_000, at_least=True),
    ]
    table = write(figures, tmp_path, "a machine")
    assert "| **not met** |" in table
    assert "| met |" in table
