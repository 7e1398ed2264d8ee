"""Every figure of the benchmark, as ratios measured in one run, with its target: a table, a CSV and plots.

Instructions are counted with valgrind; they repeat where wall times wander. Results go to a git-ignored folder.
"""

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from tests.bench import calls, chart, figures, gaps, model, process, scale, sweeping
from tests.bench.figures import Figure, table

RESULTS = Path(".local/bench")
FUNCTIONS = ("touch", "lifecycle", "cleanup", "sweep", "redrive", "inspect")
SLACK = {"TIMER_SLACK_SECONDS": "240"}
SLACKS = (0, 15, 30, 60, 120, 180, 240, 300)


class Bench:
    """One run: what is built, the options, and the plots so far."""

    def __init__(self, options: argparse.Namespace, built: Path) -> None:
        self.built = built
        self.runs: int = options.runs
        self.talks = gaps.read(options.timings) if options.timings else gaps.synthetic()
        self.timings = "given timings" if options.timings else "synthetic gaps"
        self.plots: dict[str, str] = {}
        self.tables: dict[str, str] = {}

    def start(self) -> list[Figure]:
        """Cost and memory from process start to a handler that is ready."""
        found, ratios = [], {}
        for name in FUNCTIONS:
            program = process.function(self.built, name)
            services = process.clients(program)
            bare = process.bare(services)
            mine = process.instructions(program, runs=self.runs)
            theirs = process.instructions(bare, runs=self.runs)
            ratios[name] = mine / theirs
            found.append(
                Figure(
                    1 if name == "touch" else 3,
                    f"init of {name}, against a bare handler with its clients",
                    mine / theirs,
                    target=1.05 if name == "touch" else 1.15,
                    note=f"{mine:,.0f} M instructions, {theirs:,.0f} M; {', '.join(services)}",
                )
            )
            if name == "touch":
                found += self._beside(program, bare, mine, theirs, ratios)
        self.plots["init"] = chart.bars("Init, bare boto3 with the same clients = 1", ratios, mark=1.05)
        return found

    def _beside(
        self,
        touch: process.Program,
        bare: process.Program,
        mine: float,
        theirs: float,
        ratios: dict[str, float],
    ) -> list[Figure]:
        found = []
        with tempfile.TemporaryDirectory() as folder:
            for name, compiled in (("with byte code", True), ("as sam build leaves it", False)):
                typical = process.typical(bare, Path(folder) / str(compiled), compiled=compiled)
                cost = process.instructions(typical, runs=self.runs)
                ratios[f"usual handler, {name}"] = cost / theirs
                what = f"(for comparison) usual Powertools and pydantic handler, {name}"
                found.append(Figure(None, what, cost / theirs, note=f"touch against it: {mine / cost:.2f}"))
        found.append(
            Figure(2, "modules of the layer compiled at import", len(process.compiled_modules(touch)), "", 0)
        )
        mine_mb, bare_mb = process.memory_mb(touch, touches=1), process.memory_mb(bare, touches=0)
        note = f"{mine_mb:.1f} MB, {bare_mb:.1f} MB; median of 5"
        what = "memory after the first touch, against the bare handler after init"
        found.append(Figure(10, what, mine_mb / bare_mb, target=1.05, note=note))
        return found

    def wire(self) -> list[Figure]:
        """Init and the first touch over TLS."""
        with process.tls_server() as at:
            touch = replace(process.function(self.built, "touch"), environment=at)
            bare = process.bare(["dynamodb", "scheduler"])
            bare = replace(bare, environment={**bare.environment, **at})

            def cost(program: process.Program, touches: int) -> float:
                return process.instructions(program, touches=touches, transport="wire", runs=self.runs)

            ready, first, eleven = cost(touch, 0), cost(touch, 1), cost(touch, 11)
            theirs = cost(bare, 1)
        warm = (eleven - first) / 10
        return [
            Figure(
                4,
                "init and first touch over TLS, against plain boto3 doing the same",
                first / theirs,
                target=1.0,
                note=f"{first:,.0f} M instructions, {theirs:,.0f} M",
            ),
            Figure(
                5,
                "first touch against a warm one, over TLS",
                (first - ready) / warm,
                target=1.5,
                note=f"{first - ready:,.1f} M instructions, {warm:,.1f} M",
            ),
        ]

    def warm(self) -> list[Figure]:
        """A warm touch, HTTP stubbed below botocore."""
        bare = self._warm(process.bare(["dynamodb", "scheduler"]))
        touch = self._warm(process.function(self.built, "touch"))
        kept = self._warm(process.function(self.built, "touch", **SLACK))
        values = {"two bare boto3 calls": 1.0, "touch": touch / bare, "touch, timer kept": kept / bare}
        self.plots["warm"] = chart.bars("A warm touch, two bare boto3 calls = 1", values)
        note = f"M instructions, against {bare:.2f} M"
        return [
            Figure(
                6,
                "warm touch, against two bare boto3 calls",
                touch / bare,
                target=0.72,
                note=f"{touch:.2f} {note}",
            ),
            Figure(
                7, "warm touch that needs no timer write", kept / bare, target=0.43, note=f"{kept:.2f} {note}"
            ),
        ]

    def _warm(self, program: process.Program) -> float:
        few, many = (process.instructions(program, touches=touches, runs=self.runs) for touches in (10, 60))
        if many <= few:
            raise process.BenchError("60 touches cost no more than 10: something else was measured")
        return (many - few) / 50

    def calls(self) -> list[Figure]:
        """AWS calls and round trips per message, for every mode."""
        counts = {mode.name: calls.conversation(mode) for mode in calls.MODES}
        self.tables["calls"] = table(
            ["mode", "calls of the first message", "calls per message after it", "HTTP round trips", "which"],
            [
                [
                    *(name, str(each.first), f"{each.calls:.2f}", f"{each.round_trips:.2f}"),
                    ", ".join(f"{count} {operation}" for operation, count in each.by_operation.items()),
                ]
                for name, each in counts.items()
            ],
        )
        usual = counts[calls.MODES[0].name]
        found = []
        for what, value in (("AWS calls", usual.calls), ("HTTP round trips", usual.round_trips)):
            name = f"{what} of an in-order touch, slack 0"
            found.append(Figure(8, name, value, "", 2.0, note="20 messages, on moto"))
        return found

    def slack(self) -> list[Figure]:
        """Timer slack over whole conversations."""
        tallies = {slack: gaps.simulate(self.talks, slack) for slack in SLACKS}
        none, much = tallies[0], tallies[240]
        self.tables["slack"] = table(
            ["slack", "creates + updates", "deletes", "firings", "AWS calls by touch", "ends apart, at most"],
            [
                [
                    f"{slack} s",
                    f"{each.per_message('scheduler.create', 'scheduler.update'):.3f}",
                    f"{each.per_message('scheduler.delete'):.3f}",
                    f"{each.firings / each.messages:.3f}",
                    f"{each.touch_calls / each.messages:.3f}",
                    f"{gaps.ends_apart_seconds(none, each):.0f} s",
                ]
                for slack, each in tallies.items()
            ],
        )
        self.plots["slack"] = chart.lines(
            f"Scheduler calls per message, by slack ({self.timings})",
            "TimerSlackSeconds",
            "per message",
            {
                name: [(slack, each.per_message(*kinds)) for slack, each in tallies.items()]
                for name, kinds in {
                    "creates + updates": ("scheduler.create", "scheduler.update"),
                    "updates": ("scheduler.update",),
                    "deletes": ("scheduler.delete",),
                }.items()
            },
        )
        note = (
            f"{self.timings}, {much.messages:,} messages; deletes {much.per_message('scheduler.delete'):.3f}"
        )
        apart = gaps.ends_apart_seconds(none, much)
        return [
            Figure(
                9,
                "creates and updates per message, slack 240 s",
                much.per_message("scheduler.create", "scheduler.update"),
                "",
                0.30,
                note=note,
            ),
            Figure(
                9, "AWS calls by touch per message, slack 240 s", much.touch_calls / much.messages, "", 1.5
            ),
            Figure(
                9,
                "ends apart from those without slack, at most",
                apart,
                "s",
                5,
                note="asked for 5 s ahead at least",
            ),
        ]

    def size(self) -> list[Figure]:
        """The layer."""
        return [Figure(11, "layer, zipped", process.zipped_mb(self.built / "SharedLayer"), "MB", 8)]

    def sweep(self) -> list[Figure]:
        """A sweep among more and more open conversations."""
        growth = sweeping.growth()
        self.tables["sweep"] = table(
            ["open conversations", "overdue", "requests", "items read"],
            [
                [f"{size:,}", "100", str(work["requests"]), str(work["items"])]
                for size, work in growth.items()
            ],
        )
        least, most = min(growth), max(growth)
        ratio = max(growth[most][kind] / growth[least][kind] for kind in ("requests", "items"))
        note = f"{growth[most]['requests']} requests, {growth[most]['items']} items read"
        return [
            Figure(12, "sweep work, 1,000,000 open conversations against 1,000", ratio, target=1.1, note=note)
        ]

    def quotas(self) -> list[Figure]:
        """How far the default quotas reach."""
        used = model.usage(self.talks, 240)
        messages, first = model.capacity(used, "us-east-1")
        small, small_first = model.capacity(used, "eu-north-1")
        runs = [
            scale.run(self.talks, region, slack)
            for region in (scale.LARGE, scale.SMALL)
            for slack in (0, 60, 240)
        ]
        self.tables["scale"] = scale.report(runs)
        what = "messages a second before a default quota, large Region, slack 240 s"
        return [
            Figure(13, what, messages, "", 4_000, at_least=True, note=f"{first} is first; {self.timings}"),
            Figure(None, "the same, small Region", small, "", note=f"{small_first} is first"),
        ]

    def cost(self) -> list[Figure]:
        """The timers' cost."""
        used = model.usage(self.talks, 0)
        ours, with_slack = model.timer_usd(used), model.timer_usd(model.usage(self.talks, 240))
        able = [each for each in model.alternatives(used) if each.keeps]
        cheapest, next_one = sorted(able, key=lambda each: each.usd)[:2]
        what = "cost of the timers, against the cheapest alternative that can keep the promises"
        note = f"{ours:.2f} USD per million messages; {cheapest.name} {cheapest.usd:.2f} USD"
        again = f"{with_slack:.2f} USD: firings and notes cost, Scheduler's calls do not"
        other = f"the same, against {next_one.name}"
        return [
            Figure(14, f"{what}, slack 0", ours / cheapest.usd, target=0.1, note=note),
            Figure(None, "the same, slack 240 s", with_slack / cheapest.usd, note=again),
            Figure(None, other, ours / next_one.usd, note=f"{next_one.usd:.2f} USD"),
        ]


PARTS: dict[str, Callable[[Bench], list[Figure]]] = {
    "calls": Bench.calls,
    "slack": Bench.slack,
    "sweep": Bench.sweep,
    "quotas": Bench.quotas,
    "cost": Bench.cost,
    "size": Bench.size,
    "warm": Bench.warm,
    "start": Bench.start,
    "wire": Bench.wire,
}
NEED_NO_BUILD = {"calls", "slack", "sweep", "quotas", "cost"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts that were asked for."""
    options = _options(arguments)
    os.environ |= {
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }
    try:
        with tempfile.TemporaryDirectory() as scratch:
            built = options.build or Path(scratch) / "build"
            if not options.build and not set(options.only) <= NEED_NO_BUILD:
                print("sam build ...", file=sys.stderr)
                process.build(built)
            bench = Bench(options, built)
            found: list[Figure] = []
            for part in options.only:
                print(f"{part} ...", file=sys.stderr)
                found += PARTS[part](bench)
    except (process.BenchError, gaps.TimingsError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    found.sort(key=lambda each: (each.number is None, each.number or 0))
    print(figures.write(found, options.results, _machine()))
    for name, text in bench.tables.items():
        (options.results / f"{name}.md").write_text(text)
        print(f"{name}:\n\n{text}")
    for name, plot in bench.plots.items():
        (options.results / f"{name}.svg").write_text(plot)
    print(
        f"Written to {options.results}: figures.md, figures.csv, and {', '.join(f'{n}.svg' for n in bench.plots)}"
    )
    return 0


def _machine() -> str:
    cpu = next(
        (line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "?"
    )
    memory = next(
        (int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0
    )
    return (
        f"{os.cpu_count()} × {cpu}, {memory / 1024**2:.1f} GB, {platform.system()} {platform.release()},"
        f" Python {platform.python_version()}, botocore {version('botocore')}, pydantic {version('pydantic')},"
        f" Powertools {version('aws-lambda-powertools')}"
    )


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=f"of {', '.join(PARTS)}"
    )
    parser.add_argument(
        "--timings",
        type=Path,
        help="CSV of real conversations: columns conversation and seconds or minute (default: synthetic gaps)",
    )
    parser.add_argument(
        "--build", type=Path, help="what sam build has left (default: it is built for the run)"
    )
    parser.add_argument(
        "--runs",
        type=int,
        default=1,
        help="counts per figure, of which the median is taken (default 1: they repeat to the third digit)",
    )
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help=f"folder for the results (default {RESULTS})"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
