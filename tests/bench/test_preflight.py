"""What `make preflight` tells, and how it answers to what cannot be."""

from pathlib import Path

import pytest

from tests.bench import model, preflight
from tests.bench.gaps import synthetic


def test_it_says_whether_the_traffic_fits_what_to_raise_and_what_it_costs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--messages-per-second", "2000", "--region", "eu-north-1", "--results", str(tmp_path)]
    assert preflight.main(given) == 0
    told = capsys.readouterr().out
    assert "**Does not fit the default quotas**" in told
    assert "| UpdateSchedule | 1,7" in told
    assert "raise to" in told
    assert "0 s (asked for)" in told
    for name in ("Step Functions", "Lambda durable", "SQS delay", "DynamoDB TTL", "Temporal Cloud"):
        assert name in told
    assert (tmp_path / "preflight.md").read_text() in told
    assert (tmp_path / "preflight.svg").stat().st_size > 1_000


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (["--messages-per-second", "0"], "must be above 0"),
        (["--messages-per-conversation", "1"], "must be 2 to 1000"),
        (["--region", "Frankfurt"], "must be a Region's name"),
        (["--slack", "-1"], "must be whole seconds"),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    given: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        preflight.main(given)
    told = capsys.readouterr().err
    assert given[0] in told
    assert why in told


def test_a_file_of_timings_that_is_none_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("a,b\n1,2\n")
    assert preflight.main(["--timings", str(wrong)]) == 2
    assert "needs a column conversation" in capsys.readouterr().err


def test_slack_trades_updates_for_firings() -> None:
    talks = synthetic(50)
    without, much = model.usage(talks, 0), model.usage(talks, 240)
    assert much.update < without.update / 2
    assert much.firings > without.firings
    assert without.timer_writes == 0
