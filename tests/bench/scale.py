"""Ten thousand messages a second and about a million open conversations, against what each kind of Region allows.

The real touch, cleanup and sweep decide, over fakes that share one clock and one Scheduler with quotas. Traffic and quotas
are both scaled down by SHARE, so a run takes seconds; what a throttled call does next is the protocol's own answer.
"""

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import quantiles

from idle_timer.errors import TransientError
from idle_timer.ports import ScheduleAnswer
from tests.bench.figures import table
from tests.bench.gaps import Talk
from tests.fakes.operations import Operations
from tests.fakes.scheduler import MemoryScheduler
from tests.fakes.system import NOON, ManualClock
from tests.fakes.world import World, settings

SHARE = 400  # one conversation in so many is simulated
SECONDS = 1_500  # the first ten minutes fill the service, the rest is counted
SETTLED_AFTER_MS = NOON + 600_000
RETRY_SECONDS = (60, 120, 300)  # Lambda's own two retries, then the failure queue's delay, again and again


@dataclass(frozen=True)
class Quotas:
    """Per second, as documented: https://docs.aws.amazon.com/scheduler/latest/UserGuide/scheduler-quotas.html"""

    name: str
    create: float
    update: float
    delete: float
    firings: float


LARGE = Quotas("large Region", create=5_000, update=1_000, delete=1_000, firings=1_000)
SMALL = Quotas("small Region", create=250, update=250, delete=250, firings=500)


@dataclass
class Bucket:
    """A token bucket of one second's worth."""

    rate: float  # per second
    clock: ManualClock
    tokens: float = 0
    at: int = NOON

    def take(self) -> bool:
        elapsed = max(0, self.clock.time - self.at) / 1_000
        self.tokens = min(max(1.0, self.rate), self.tokens + elapsed * self.rate)
        self.at = max(self.at, self.clock.time)
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


@dataclass
class LimitedScheduler(MemoryScheduler):
    """Scheduler with quotas. `due`: what has been set, soonest first, to be looked up in `schedules`."""

    limits: dict[str, Bucket] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    throttled: Counter[str] = field(default_factory=Counter)
    due: list[tuple[int, str]] = field(default_factory=list)

    def create(self, conversation_id: str, at: int) -> ScheduleAnswer:
        return "throttled" if self._refuses("create") else super().create(conversation_id, at)

    def update(self, conversation_id: str, at: int) -> ScheduleAnswer:
        return "throttled" if self._refuses("update") else super().update(conversation_id, at)

    def delete(self, conversation_id: str) -> bool:
        return False if self._refuses("delete") else super().delete(conversation_id)

    def _put(self, conversation_id: str, at: int) -> ScheduleAnswer:
        heapq.heappush(self.due, (at, conversation_id))
        return super()._put(conversation_id, at)

    def _refuses(self, kind: str) -> bool:
        self.asked[kind] += 1
        if self.limits[kind].take():
            return False
        self.throttled[kind] += 1
        return True


@dataclass(frozen=True)
class Outcome:
    """What a run came to; rates are per second at full scale."""

    quotas: Quotas
    slack_seconds: int
    rates: dict[str, float]
    throttled: dict[
        str, float
    ]  # share of the calls of that kind; of the firings: share that came over a second late
    deferred: float  # share of the touches
    retried: float  # share of the invocations that failed and came again
    open_conversations: int
    lateness_seconds: tuple[float, float, float]  # median, 99th percentile, most
    breaks_first: str


def run(
    talks: Sequence[Talk], quotas: Quotas, slack_seconds: int, messages_per_second: float = 10_000
) -> Outcome:
    """Conversations begin at random, so that so many messages a second come in."""
    world = World(settings(timer_slack_seconds=slack_seconds))
    scheduler = _limited(world, quotas)
    operations = Operations(world)
    chance = random.Random(slack_seconds)  # noqa: S311 - repeatable, not secret
    order = itertools.count()
    events: list[tuple[int, int, str, str, int]] = []  # time, order, kind, conversation, tries
    begin, number = float(NOON), 0
    mean = sum(len(talk) for talk in talks) / len(talks)
    while begin < NOON + SECONDS * 1_000:
        begin += chance.expovariate(messages_per_second / SHARE / mean) * 1_000
        number += 1
        talk = chance.choice(talks)
        events += [(int(begin) + message, next(order), "touch", f"c-{number}", 0) for message in talk]
    period_ms = world.settings.sweep_period_minutes * 60_000
    events += [(at, next(order), "sweep", "", 0) for at in range(NOON, NOON + SECONDS * 1_000, period_ms)]
    heapq.heapify(events)
    counted: Counter[str] = Counter()
    firing = Bucket(quotas.firings / SHARE, world.clock)
    end = NOON + SECONDS * 1_000
    settled = False
    while events and min(events[0][0], scheduler.due[0][0] if scheduler.due else end) < end:
        if not settled and world.clock.time >= SETTLED_AFTER_MS:
            settled = True
            for counter in (counted, scheduler.asked, scheduler.throttled, world.telemetry.totals):
                counter.clear()
            world.outcomes.published.clear()
        if scheduler.due and scheduler.due[0][0] <= events[0][0]:
            at, conversation_id = heapq.heappop(scheduler.due)
            world.clock.time = max(world.clock.time, at)
            schedule = scheduler.schedules.get(conversation_id)
            if schedule is None or schedule.fired or schedule.at > at:
                continue
            if not firing.take():
                heapq.heappush(scheduler.due, (world.clock.time + int(1_000 / firing.rate), conversation_id))
                continue
            scheduler.schedules[conversation_id] = type(schedule)(schedule.at, fired=True)
            counted["firings"] += 1
            counted["late firings"] += world.clock.time - schedule.at > 1_000
            kind, tries = "cleanup", 0
        else:
            at, _, kind, conversation_id, tries = heapq.heappop(events)
            world.clock.time = max(world.clock.time, at)
        if kind == "sweep":
            operations.sweep(seconds=600)
            continue
        try:
            counted[kind] += 1
            world.touch(conversation_id) if kind == "touch" else world.cleanup(conversation_id)
            world.drain()
        except TransientError:
            counted["retried"] += 1
            again = at + RETRY_SECONDS[min(tries, 2)] * 1_000
            heapq.heappush(events, (again, next(order), kind, conversation_id, tries + 1))
        world.steps.calls.clear()
    return _outcome(world, scheduler, quotas, counted)


def _limited(world: World, quotas: Quotas) -> LimitedScheduler:
    kinds = {"create": quotas.create, "update": quotas.update, "delete": quotas.delete}
    limits = {kind: Bucket(rate / SHARE, world.clock) for kind, rate in kinds.items()}
    scheduler = LimitedScheduler(world.steps, limits=limits)
    world.scheduler = scheduler
    object.__setattr__(world.timer.timers, "scheduler", scheduler)
    return scheduler


def _outcome(world: World, scheduler: LimitedScheduler, quotas: Quotas, counted: Counter[str]) -> Outcome:
    seconds = (world.clock.time - SETTLED_AFTER_MS) / 1_000
    rates = {kind: scheduler.asked[kind] * SHARE / seconds for kind in ("create", "update", "delete")}
    rates["firings"] = counted["firings"] * SHARE / seconds
    throttled = {kind: scheduler.throttled[kind] / max(1, scheduler.asked[kind]) for kind in scheduler.limits}
    throttled["firings"] = counted["late firings"] / max(1, counted["firings"])
    late = sorted(
        float(o["proof"]["lateness_seconds"])
        for o in world.outcomes.published
        if o["type"] == "ConversationEnded"
    )
    allowed = {
        "create": quotas.create,
        "update": quotas.update,
        "delete": quotas.delete,
        "firings": quotas.firings,
    }
    worst = max(rates, key=lambda kind: rates[kind] / allowed[kind])
    return Outcome(
        quotas=quotas,
        slack_seconds=world.settings.timer_slack_seconds,
        rates=rates,
        throttled=throttled,
        deferred=world.telemetry.totals["TimersDeferred"] / max(1, counted["touch"]),
        retried=counted["retried"] / max(1, counted["touch"] + counted["cleanup"]),
        open_conversations=SHARE * sum(item.state != "ended" for item in world.store.items.values()),
        lateness_seconds=(quantiles(late, n=100)[49], quantiles(late, n=100)[98], late[-1])
        if len(late) > 1
        else (0, 0, 0),
        breaks_first=worst if rates[worst] > allowed[worst] or throttled[worst] > 0.01 else "nothing",
    )


def report(outcomes: Sequence[Outcome]) -> str:
    """A row for each run."""
    kinds = ("create", "update", "delete", "firings")
    head = [
        "Region",
        "slack",
        *(f"{kind} a second (refused)" for kind in kinds),
        "touches deferred",
        "invocations retried",
    ]
    head += ["open conversations", "lateness: median, 99 %, most", "breaks first"]
    rows = [
        [
            each.quotas.name,
            f"{each.slack_seconds} s",
            *(f"{each.rates[kind]:,.0f} ({each.throttled[kind]:.0%})" for kind in kinds),
            f"{each.deferred:.1%}",
            f"{each.retried:.1%}",
            f"{each.open_conversations:,}",
            ", ".join(f"{seconds:.0f} s" for seconds in each.lateness_seconds),
            each.breaks_first,
        ]
        for each in outcomes
    ]
    return table(head, rows) + "\nFirings: the share that came more than a second late stands in brackets.\n"
