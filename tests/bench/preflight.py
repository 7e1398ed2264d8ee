"""Before you deploy: which quotas your traffic uses, what to raise, what a month costs, and what else would cost.

Offline. The rates per message come from the real touch and cleanup, played over conversations of the length that you give.
"""

import argparse
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.bench import chart, gaps, model
from tests.bench.figures import table

RESULTS = Path(".local/bench")
MONTH_SECONDS = 2_592_000
RAISE_ABOVE = 0.7  # of a quota: traffic has peaks within its peak
SLACKS = (0, 60, 120, 240)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables, and leave them with a plot in the results folder."""
    options = _options(arguments)
    try:
        talks = gaps.read(options.timings) if options.timings else _talks(options.messages_per_conversation)
    except gaps.TimingsError as error:
        print(f"preflight: {error}", file=sys.stderr)
        return 2
    report, plot = describe(talks, options)
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "preflight.md").write_text(report)
    (options.results / "preflight.svg").write_text(plot)
    print(report)
    print(f"Written to {options.results}/preflight.md, with preflight.svg.")
    return 0


def describe(talks: Sequence[gaps.Talk], options: argparse.Namespace) -> tuple[str, str]:
    """The report in markdown, and the plot of costs."""
    slacks = sorted({options.slack, *(slack for slack in SLACKS if slack < options.timeout)})
    by_slack = {slack: model.usage(talks, slack, options.timeout) for slack in slacks}
    used = by_slack[options.slack]
    monthly = options.messages_per_month or options.messages_per_second * MONTH_SECONDS / options.peak_factor
    capacity, first = model.capacity(used, options.region)
    ours, whole = model.timer_usd(used), model.whole_usd(used)
    others = model.alternatives(used, options.timeout)
    millions = monthly / 1e6
    lengths = sum(len(talk) for talk in talks) / len(talks)
    allowed, raise_ = model.quotas(options.region), model.facts()["quotas"]["raise"]
    quota_rows = [
        [
            name,
            f"{rate:,.1f}",
            f"{allowed[name]:,}",
            f"{rate / allowed[name]:.0%}",
            _advice(rate, allowed[name], raise_[name]),
        ]
        for name, rate in model.rates(used, options.messages_per_second).items()
    ]
    slack_rows = [
        [f"{slack} s{' (asked for)' if slack == options.slack else ''}", *_reach(each, options.region)]
        for slack, each in by_slack.items()
    ]
    cost_rows = [
        [
            each.name,
            f"{each.usd:,.2f}",
            f"{each.usd * millions:,.2f}",
            _times(each.usd, ours),
            "yes" if each.keeps else "no",
            each.assumption,
            each.source,
        ]
        for each in sorted(others, key=lambda each: each.usd)
    ]
    report = "\n".join(
        [
            "# Preflight",
            "",
            f"{options.messages_per_second:,.0f} messages a second at the peak, {lengths:.1f} messages per conversation,"
            f" {options.region}, idle timeout {options.timeout} s, timer slack {options.slack} s.",
            "",
            f"**{'Fits' if capacity >= options.messages_per_second else 'Does not fit'} the default quotas**: they allow"
            f" {capacity:,.0f} messages a second, until {first} is used up.",
            "",
            "## Quotas at the peak",
            "",
            table(["quota", "use", "default", "share", "what to do"], quota_rows),
            "Use is per second; Lambda concurrency is what runs at once."
            f" Sources: {model.facts()['quotas']['source']}.",
            "",
            "## Timer slack",
            "",
            "A larger `TimerSlackSeconds` saves updates, and costs firings; ends move by seconds at most.",
            "",
            table(
                [
                    "TimerSlackSeconds",
                    "messages a second",
                    "until used up",
                    "timers, USD per million messages",
                ],
                slack_rows,
            ),
            "## A month",
            "",
            f"{monthly:,.0f} messages: **{whole * millions:,.2f} USD** for touch, table, timers, cleanup and outcomes,"
            f" of which the timers are {ours * millions:,.2f} ({ours:.2f} USD per million messages).",
            "",
            "## The timers alone, against the alternatives",
            "",
            table(
                [
                    "timer",
                    "USD per million messages",
                    "USD a month",
                    "times ours",
                    "can keep the promises",
                    "assumption",
                    "source",
                ],
                [
                    [
                        "**ours**",
                        f"{ours:,.2f}",
                        f"{ours * millions:,.2f}",
                        "1",
                        "yes",
                        "firings, re-arming cleanups, notes of what is armed, the wait for Scheduler",
                        "simulated",
                    ],
                    *cost_rows,
                ],
            ),
            f"Prices of {model.facts()['read']}: {model.facts()['note']}",
            "",
        ]
    )
    values = {"Idle Timer": ours} | {each.name: each.usd for each in others}
    return report, chart.bars("Timers: USD per million messages", values, unit="USD")


def _reach(used: model.Usage, region: str) -> list[str]:
    most, first = model.capacity(used, region)
    return [f"{most:,.0f}", first, f"{model.timer_usd(used):.2f}"]


def _advice(rate: float, allowed: float, how: str) -> str:
    if rate <= RAISE_ABOVE * allowed:
        return "enough"
    return f"raise to {_round_up(rate / RAISE_ABOVE):,}: {how}"


def _round_up(value: float) -> int:
    step: int = 10 ** max(0, int(math.log10(value)) - 1)
    return math.ceil(value / step) * step


def _times(other: float, ours: float) -> str:
    return f"{other / ours:,.1f}" if other else "0"


def _talks(messages: float) -> list[gaps.Talk]:
    """The synthetic gaps, with conversations of about so many messages."""
    return gaps.synthetic(1_000, mean_messages=messages)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="preflight", description=__doc__)
    parser.add_argument(
        "--messages-per-second", type=_positive, default=100, help="at the peak (default 100)"
    )
    parser.add_argument(
        "--messages-per-conversation",
        type=_at_least_two,
        default=9.9,
        help="on average, 2 or more (default 9.9)",
    )
    parser.add_argument(
        "--region", type=_region, default="us-east-1", help="its default quotas apply (default us-east-1)"
    )
    parser.add_argument(
        "--slack", type=_whole, default=0, help="TimerSlackSeconds (default 0, as in the template)"
    )
    parser.add_argument("--timeout", type=_whole, default=300, help="IdleTimeoutSeconds (default 300)")
    parser.add_argument(
        "--messages-per-month",
        type=_positive,
        help="default: the peak over a month, divided by the peak factor",
    )
    parser.add_argument(
        "--peak-factor", type=_positive, default=3, help="peak divided by average (default 3)"
    )
    parser.add_argument(
        "--timings", type=Path, help="CSV of real conversations: columns conversation and seconds or minute"
    )
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help=f"folder for the results (default {RESULTS})"
    )
    return parser.parse_args(arguments)


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError("must be above 0")
    return value


def _at_least_two(text: str) -> float:
    value = float(text)
    if not 2 <= value <= 1_000:
        raise argparse.ArgumentTypeError("must be 2 to 1000")
    return value


def _whole(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 2_592_000:
        raise argparse.ArgumentTypeError("must be whole seconds, at most 2592000")
    return int(text)


def _region(text: str) -> str:
    if not re.fullmatch(r"[a-z]{2}(-[a-z]+)+-\d", text):
        raise argparse.ArgumentTypeError("must be a Region's name, like eu-central-1")
    return text


if __name__ == "__main__":
    sys.exit(main())
