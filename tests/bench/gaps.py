"""Whole conversations with their gaps, played through the real protocol on the fakes: what each slack costs and saves."""

import csv
import math
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from idle_timer.timestamps import SECOND_MS, parse_time
from tests.fakes.system import NOON
from tests.fakes.world import World, settings

SEED = 6
TOUCH_PORTS = ("store.", "scheduler.", "handover.")

type Talk = tuple[int, ...]
"""A conversation: when its messages come, in milliseconds from the first one."""


class TimingsError(Exception):
    """The file of timings cannot be used; the message says why."""


@dataclass
class Tally:
    """What a set of conversations took. `ends`: for each conversation, when it ended (epoch ms), by the deciding clock."""

    messages: int = 0
    touch_calls: int = 0
    calls: Counter[str] = field(default_factory=Counter)
    firings: int = 0
    handovers: int = 0  # invocations of cleanup for an outbox
    ends: list[tuple[int, ...]] = field(default_factory=list)

    def per_message(self, *names: str) -> float:
        """Calls of these kinds per message, touch and cleanup together."""
        return sum(self.calls[name] for name in names) / self.messages


def read(path: Path, seed: int = SEED) -> list[Talk]:
    """Timings from a CSV: a column `conversation` and one of `seconds` or `minute`; minutes are spread by the seed.

    Raises TimingsError.
    """
    spread = random.Random(seed)  # noqa: S311 - repeatable, not secret
    found: dict[str, list[float]] = defaultdict(list)
    try:
        with path.open(newline="") as file:
            rows = csv.DictReader(file)
            names = rows.fieldnames or []
            unit = next((name for name in ("seconds", "minute") if name in names), None)
            if "conversation" not in names or unit is None:
                raise TimingsError(f"{path}: needs a column conversation and a column seconds or minute")
            for row in rows:
                at = float(row[unit]) if unit == "seconds" else (float(row[unit]) + spread.random()) * 60
                found[row["conversation"]].append(at)
    except OSError as error:
        raise TimingsError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise TimingsError(f"{path}: {error}") from None
    return [_from_first(times) for times in found.values()]


def synthetic(conversations: int = 5_000, seed: int = SEED, mean_messages: float = 9.9) -> list[Talk]:
    """Made-up timings with the summary of a public live help channel: log-normal lengths and gaps.

    Lengths: median 5 messages, mean 9.9, one in ten 22 or more; another mean stretches them. Gaps: median 18 s, one in twenty 2.5 minutes or more.
    """
    chance = random.Random(seed)  # noqa: S311 - repeatable, not secret
    talks = []
    for _ in range(conversations):
        times = [0.0]
        for _ in range(max(2, round(chance.lognormvariate(math.log(5.1 * mean_messages / 9.9), 1.15))) - 1):
            times.append(times[-1] + chance.lognormvariate(math.log(18), 1.3))
        talks.append(_from_first(times))
    return talks


def simulate(talks: Sequence[Talk], slack_seconds: int, timeout_seconds: int = 300) -> Tally:
    """Every conversation through touch and cleanup, each firing at its second."""
    tally = Tally()
    stack = settings(idle_timeout_seconds=timeout_seconds, timer_slack_seconds=slack_seconds)
    for talk in talks:
        world = World(stack)
        for message in talk:
            _fire_until(world, NOON + message, tally)
            world.clock.time = NOON + message
            before = len(world.steps.calls)
            world.touch(sender="customer")
            made = (call.name for call in world.steps.calls[before:])
            tally.touch_calls += sum(name.startswith(TOUCH_PORTS) for name in made)
            tally.handovers += len(world.drain())
        _fire_until(world, None, tally)
        tally.messages += len(talk)
        tally.calls.update(call.name for call in world.steps.calls)
        ended = [o for o in world.outcomes.published if o["type"] == "ConversationEnded"]
        tally.ends.append(tuple(parse_time(o["occurred_at"]) for o in ended))
    return tally


def ends_apart_seconds(one: Tally, other: Tally) -> float:
    """The largest difference between the same end in two tallies; infinite if not the same conversations ended."""
    apart = 0
    for mine, theirs in zip(one.ends, other.ends, strict=True):
        if len(mine) != len(theirs):
            return math.inf
        apart = max([apart, *(abs(a - b) for a, b in zip(mine, theirs, strict=True))])
    return apart / SECOND_MS


def _fire_until(world: World, until: int | None, tally: Tally) -> None:
    while (at := world.scheduled_for()) is not None and (until is None or at <= until):
        world.fire()
        tally.firings += 1


def _from_first(times: Sequence[float]) -> Talk:
    ordered = sorted(times)
    return tuple(round((at - ordered[0]) * SECOND_MS) for at in ordered)
