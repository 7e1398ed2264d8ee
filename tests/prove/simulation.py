"""Hours of traffic in seconds: thousands of conversations through the real protocol, with everything going wrong.

``python -m tests.prove.simulation``: virtual time, one random seed. Every call of a port takes its milliseconds, in
which others may run; calls fail, functions die in the middle, events are lost, doubled and shuffled, services and the
whole region are gone for minutes, nobody's clock is right. Sweep, redrive and an operator work as in production. What
was promised is judged from outside: by what was sent, what was answered, what was published and what stands in the table.

Exit status 1: a promise was broken; the line says how to see that run again.
"""

import argparse
import heapq
import itertools
import json
import logging
import math
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Self

from idle_timer import messages
from idle_timer.conversation import Conversation
from idle_timer.errors import TransientError
from idle_timer.timestamps import MINUTE_MS, SECOND_MS, ceil_to, format_time, parse_time
from idle_timer.upkeep_ports import Call, Reply
from tests.bench.gaps import TimingsError, read
from tests.fakes import world as fakes
from tests.fakes.operations import ARN, Context, Operations, handed_over
from tests.fakes.scheduler import Schedule
from tests.fakes.sessions import Session
from tests.fakes.steps import Effect, Steps
from tests.fakes.system import NOON
from tests.prove.summary import Row

SEED = 20_261_121
CELL = 250  # conversations that share a stack, and its troubles
HOUR_MS = 60 * MINUTE_MS
LAMBDAS_RETRIES = (60, 120)  # seconds
VISIBILITY_SECONDS = 725  # of the failure queue, as in the template
LONGEST_RUN_HOURS = 36

# A public live help channel: 10 messages per conversation on average; 4.9 % of the gaps are 3 minutes or longer, 2 %
# longer than 5. Those two quantiles make the log-normal of the gaps.
_GAP_SIGMA = (math.log(300) - math.log(180)) / (2.0537 - 1.6546)
_GAP_MU = math.log(180) - 1.6546 * _GAP_SIGMA
_LENGTH_MU, _LENGTH_SIGMA, _LONGEST = math.log(5.1), 1.15, 120

type Talk = tuple[int, ...]
"""When the messages of a conversation come, in milliseconds from its first one."""


@dataclass(frozen=True, kw_only=True)
class Faults:
    """How often what goes wrong: shares of 1, milliseconds, or times per virtual hour."""

    killed: float = (
        0.002  # of the calls: the function dies there, half of the time after the call had its effect
    )
    failing: float = 0.001  # calls of any service that fail by themselves
    lost: float = 0.005  # asynchronous invocations that never arrive
    lost_firing: float = 0.02  # schedules that never fire
    fired_twice: float = 0.02
    doubled: float = 0.03  # messages delivered once more, up to 10 minutes later
    shuffled: float = 0.05  # messages that arrive up to 30 seconds late
    gives_up: float = 0.3  # callers who do not try again
    callers_clock_ms: int = 5_000  # how wrong a caller's clock is, at most
    hosts_clock_ms: int = 1_500  # how wrong a function's clock is, at most
    sick: float = 0.005  # conversations whose session cannot be removed for hours: they get parked
    troubles: float = 2.0  # windows of minutes in which a service, or the region, is gone


CALM = Faults(
    killed=0,
    failing=0,
    lost=0,
    lost_firing=0,
    fired_twice=0,
    sick=0,
    doubled=0,
    shuffled=0,
    gives_up=0,
    troubles=0,
)

TROUBLES: Mapping[str, tuple[str, ...]] = {
    "region": ("",),  # everything
    "scheduler": ("scheduler.",),
    "table": ("store.", "overview.", "leases.", "holds."),
    "topic": ("outcomes.",),
    "sessions": ("sessions.",),
    "hook": ("callers_code.",),
    "functions": ("handover.",),
    "hold": (),  # not a fault: an operator stops every end for a while
}


@dataclass(frozen=True, slots=True)
class Trouble:
    kind: str
    start: int
    end: int
    share: float  # of the calls that fail

    def meets(self, since: int, until: int) -> bool:
        """Whether it has to do with a span of time."""
        return self.start < until and since < self.end


class Killed(BaseException):
    """The function's process is gone. No `Exception`: nothing in the function gets to see it."""


class GoneError(Exception):
    """A service that did not answer."""


@dataclass
class Report:
    """What a run came to. `broken`: promises, each in a line."""

    conversations: int = 0
    messages: int = 0
    ended: int = 0
    reopened: int = 0
    early: int = 0
    lost: int = 0
    doubled_ends: int = 0
    repeated: int = 0
    parked: int = 0
    repaired: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    lateness_seconds: list[float] = field(default_factory=list)
    virtual_hours: float = 0.0
    broken: list[str] = field(default_factory=list)

    def __iadd__(self, other: Self) -> Self:
        for name in vars(self):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        return self


@dataclass
class Known:
    """What the outside knows of a conversation."""

    talk: Talk
    timeout: int | None  # of its own, in seconds; None: the stack's
    callers_clock_ms: int
    active_at: int = 0  # the newest activity that was acknowledged
    sick_until: int = 0
    extended_to: tuple[str, int] = ("", 0)
    session_at: int = 0  # when the backend last had it
    ended_at: int = 0  # when its latest end was committed
    failed: list[tuple[int, int]] = field(default_factory=list)  # counted attempts: when, the how manieth
    parked: bool = False
    story: list[str] = field(default_factory=list)


@dataclass
class SimulatedSteps(Steps):
    """Every call of a port goes through the simulation."""

    simulation: "Simulation | None" = None

    def take(self, name: str, effect: Effect, *args: Any) -> Any:
        return effect() if self.simulation is None else self.simulation.call(name, effect, args)


@dataclass
class SimulatedFunctions:
    """See `ports.Functions`."""

    simulation: "Simulation"

    def call_each(self, calls: Sequence[Call]) -> Iterator[tuple[Call, Reply]]:
        for call in calls:
            if self.simulation.fails("handover.call"):
                yield call, Reply(error="TooManyRequestsException", reached=False)
                continue
            answer, error = self.simulation.run(call.function, call.event)
            yield call, Reply(answer=answer, error=error)


class Simulation:
    """One stack, some hundred conversations, and their troubles."""

    def __init__(self, seed: str, talks: Sequence[Talk], faults: Faults, hours: float) -> None:
        self.chance = random.Random(seed)  # noqa: S311 - repeatable, not secret
        self.faults, self.hours = faults, hours
        self.steps = SimulatedSteps()
        warns = self.chance.random() < 0.5
        self.settings = fakes.settings(
            session_url_secret_arn="arn",  # noqa: S106 - a name
            end_hook_function_arn="arn",
            pause_timeout_seconds=1_800,
            idle_stages="still_there=PT2M,offer_call=PT4M" if warns else "",
            timer_slack_seconds=self.chance.choice((0, 0, 60)),
        )
        self.world = fakes.World(self.settings, self.steps)
        self.operations = Operations(self.world)
        functions = SimulatedFunctions(self)
        self.sweeper = replace(self.operations.sweeper, functions=functions)
        self.redriver = replace(self.operations.redriver, functions=functions)
        self.inspection = replace(self.operations.inspection, functions=functions)
        self.frames: list[int] = []  # running functions, each with how wrong its clock is, in ms
        self.agenda: list[tuple[int, int, Callable[[], None]]] = []
        self.numbers = itertools.count()
        self.queue: dict[str, dict[str, Any]] = {}  # the failure queue: message id -> message
        self.troubles: list[Trouble] = []
        self.sweeps_missed: list[int] = []
        self.report = Report(conversations=len(talks))
        self.known: dict[str, Known] = {}
        self.owed: set[tuple[str, str]] = set()  # outcome id, type
        self.ids_of_end: dict[tuple[str, str], set[str]] = defaultdict(set)
        self.words: dict[str, str] = {}
        for number, talk in enumerate(talks):
            own = self.chance.choices((None, 60, 1_200, 0), (90, 4, 4, 2))[0]
            clock = self.about(faults.callers_clock_ms)
            self.known[f"c-{number}"] = Known(talk, own, clock)
        self._plan()

    # --- time ---

    @property
    def now(self) -> int:
        """The true time, epoch ms; nobody in the simulation knows it."""
        return self.world.clock.time

    def at(self, when: int, what: Callable[[], None]) -> None:
        """Put on the agenda."""
        heapq.heappush(self.agenda, (when, next(self.numbers), what))

    def later(self, seconds: float, what: Callable[[], None]) -> None:
        """Put on the agenda."""
        self.at(self.now + round(seconds * SECOND_MS), what)

    def about(self, most: int) -> int:
        """A number around 0."""
        return self.chance.randint(-most, most)

    def pass_time(self, milliseconds: int) -> None:
        """While somebody waits for an answer, others go on."""
        until = self.now + milliseconds
        while len(self.frames) < 4 and self.agenda and self.agenda[0][0] <= until:
            self._next()
        self.world.clock.time = max(self.now, until)

    def _next(self) -> None:
        when, _, what = heapq.heappop(self.agenda)
        self.world.clock.time = max(self.now, when)
        what()

    def happens(self, share: float, what: str) -> bool:
        """Whether a fault strikes; counted."""
        if self.chance.random() >= share:
            return False
        self.report.faults[what] += 1
        return True

    # --- the plan ---

    def _plan(self) -> None:
        end = 0
        for id_, known in self.known.items():
            begin = NOON + self.chance.randrange(round(self.hours * HOUR_MS))
            for number, offset in enumerate(known.talk):
                self.at(begin + offset, lambda id_=id_, number=number: self._message(id_, number))  # type: ignore[misc]
            end = max(end, begin + known.talk[-1])
            if self.chance.random() < self.faults.sick:
                known.sick_until = begin + known.talk[-1] + 3 * HOUR_MS
            self._plan_lifecycle(id_, begin + self.chance.randrange(known.talk[-1] + MINUTE_MS))
        self.last_message = end
        for _ in range(round(self.faults.troubles * (end - NOON) / HOUR_MS)):
            start = self.chance.randrange(NOON, end)
            length = round(self.chance.uniform(0.5, 12) * MINUTE_MS)
            kind = self.chance.choice(list(TROUBLES))
            self.troubles.append(Trouble(kind, start, start + length, self.chance.choice((0.5, 0.9, 1.0))))
            if kind == "hold":
                self.at(start, partial(self._hold, start + length, on=True))
                self.at(start + length, partial(self._hold, start + length, on=False))
        self.at(NOON + self.chance.randrange(5 * MINUTE_MS), self._sweep)
        self.at(NOON + 30 * MINUTE_MS, self._look_after_what_is_parked)

    def _plan_lifecycle(self, id_: str, when: int) -> None:
        what = self.chance.choices(("", "pause", "end", "extend"), (85, 8, 4, 3))[0]
        if what == "pause":
            self.at(when, lambda: self._lifecycle(id_, "pause"))
            back = when + round(self.chance.uniform(1, 25) * MINUTE_MS)
            self.at(back, lambda: self._lifecycle(id_, "resume"))
        elif what == "end":
            self.at(when, lambda: self._lifecycle(id_, "end", reason="agent_ended"))
        elif what == "extend":
            until = when + round(self.chance.uniform(6, 20) * MINUTE_MS)
            self.at(when, lambda: self._lifecycle(id_, "extend", until=format_time(until)))

    def go(self) -> Report:
        """To the end of the last conversation."""
        self.steps.simulation = self
        stop = NOON + LONGEST_RUN_HOURS * HOUR_MS
        while self.agenda and self.now < stop and not (self.now > self.last_message and self._is_all_over()):
            self._next()
        self._judge_the_end()
        self.report.virtual_hours = (self.now - NOON) / HOUR_MS
        self.report.repaired = self.world.telemetry.totals["SweepRepaired"]
        return self.report

    def _is_all_over(self) -> bool:
        return not self.queue and all(
            (item.state == "ended" or self.known[id_].timeout == 0) and not item.outbox
            for id_, item in self.world.store.items.items()
        )

    # --- calls ---

    def fails(self, name: str) -> bool:
        """Whether a call of this port fails now."""
        for trouble in self.troubles:
            if trouble.start <= self.now < trouble.end and name.startswith(TROUBLES[trouble.kind] or ("-",)):
                return self.happens(trouble.share, f"calls failed: {trouble.kind} gone")
        return self.happens(self.faults.failing, "calls failed by themselves")

    def _is_region_gone(self) -> Trouble | None:
        regions = (t for t in self.troubles if t.kind == "region" and t.start <= self.now < t.end)
        gone = next(regions, None)
        self.report.faults["invocations and firings that met a dead region"] += gone is not None
        return gone

    def _is_sick(self, session_key: str) -> bool:
        is_sick = self.now < self.known[session_key.removeprefix("session:")].sick_until
        self.report.faults["sessions that could not be removed"] += is_sick
        return is_sick

    def call(self, name: str, effect: Effect, args: tuple[Any, ...]) -> Any:
        """One call of a port."""
        if not self.frames:
            return effect()
        clock_ms = self.frames[-1]
        if name == "clock.now":
            return self.now + clock_ms
        if name == "clock.sleep":
            return self.pass_time(round(args[0] * SECOND_MS))
        if name.startswith("chance."):
            return effect()
        self.pass_time(self.chance.choice((1, 2, 3, 5, 8, 13, 40)))
        dies = self.happens(self.faults.killed, "functions killed")
        if dies and self.chance.random() < 0.5:
            raise Killed
        if self.fails(name) or (name == "sessions.remove" and self._is_sick(args[0])):
            if name in ("scheduler.create", "scheduler.update"):
                return "throttled"
            if name == "scheduler.delete":
                return False
            raise GoneError(name)
        answer = self._with_effect(name, effect, args, clock_ms)
        if dies:
            raise Killed
        return answer

    def _with_effect(self, name: str, effect: Effect, args: tuple[Any, ...], clock_ms: int) -> Any:
        if name.startswith("scheduler."):
            return self._scheduler(name, effect, args[0])
        if name in ("store.save", "store.record", "store.delete"):
            id_ = args[0].conversation_id
            before = self.world.store.items.get(id_)
            answer = effect()
            after = self.world.store.items.get(id_)
            if after is not before and after is not None:
                self._judge_commit(before, after, self.now + clock_ms)
            return answer
        if name == "outcomes.publish":
            self._judge_outcome(args[0])
        answer = effect()
        while self.world.handover.handed:
            id_, source = self.world.handover.handed.pop()
            self.invoke("cleanup", {"version": 1, "conversation_id": id_, "source": source})
        return answer

    def _scheduler(self, name: str, effect: Effect, id_: str) -> Any:
        schedules = self.world.scheduler.schedules
        there = schedules.get(id_)
        if name == "scheduler.update" and there is not None and there.fired and self.chance.random() < 0.5:
            return "done"  # unstated: whether an update revives a schedule that has fired
        answer = effect()
        if name != "scheduler.delete" and answer == "done":
            schedule = schedules[id_]
            late = self.chance.uniform(0, 1) if self.chance.random() < 0.95 else self.chance.uniform(1, 59)
            self.at(schedule.at + round(late * SECOND_MS), lambda: self._fire(id_, schedule))
        return answer

    def _fire(self, id_: str, schedule: Schedule) -> None:
        if self.world.scheduler.schedules.get(id_) is not schedule:
            return  # replaced or deleted meanwhile
        gone = self._is_region_gone()
        if gone is not None and not self.happens(0.2, "schedules that never fired"):
            self.at(gone.end + self.chance.randrange(30_000), lambda: self._fire(id_, schedule))
            return
        self.world.scheduler.schedules[id_] = replace(schedule, fired=True)
        if gone is not None or self.happens(self.faults.lost_firing, "schedules that never fired"):
            return
        event = {
            "version": 1,
            "conversation_id": id_,
            "scheduled_for": format_time(schedule.at),
            "execution_id": "e",
            "source": "schedule",
        }
        self.invoke("cleanup", event)
        if self.happens(self.faults.fired_twice, "schedules that fired twice"):
            self.invoke("cleanup", event, wait=self.chance.uniform(0, 90))

    # --- functions ---

    def run(self, function: str, event: Mapping[str, Any]) -> tuple[Any, str | None]:
        """One invocation: its answer, or its error's type."""
        clock_ms = self.about(self.faults.hosts_clock_ms)
        started = self.now + clock_ms
        self.frames.append(clock_ms)
        try:
            answer = self._function(function, event)
        except Killed:
            error = "Killed"
        except (TransientError, GoneError) as raised:
            error = type(raised).__name__
        except Exception as raised:  # noqa: BLE001 - nothing else may come out of a function
            error = type(raised).__name__
            self.broken(event.get("conversation_id"), f"{function} failed with {error}: {raised}")
        else:
            self._note(event, f"{function} {_gist(event)} -> {_gist(answer)}")
            if function in ("touch", "lifecycle"):
                self._acknowledged(function, event, answer, started)
            return answer, None
        finally:
            self.frames.pop()
        self._note(event, f"{function} {_gist(event)} -> {error}")
        return None, error

    def _function(self, function: str, event: Mapping[str, Any]) -> Any:
        match function:
            case "touch":
                return self.world.timer.touch(messages.parse(messages.TouchEvent, event))
            case "lifecycle":
                return self.world.timer.lifecycle(messages.parse(messages.LifecycleEvent, event))
            case "cleanup":
                return self.world.cleaner.cleanup(messages.parse(messages.CleanupEvent, event))
            case "sweep":
                return self.sweeper.sweep(event, Context())
            case "redrive":
                return self.redriver.redrive(event, Context())
        return self.inspection.inspect(event)

    def invoke(
        self, function: str, event: Mapping[str, Any], *, attempt: int = 0, wait: float | None = None
    ) -> None:
        """Asynchronously, as Lambda does it: in a moment, with its retries, then the failure queue."""

        def arrive() -> None:
            gone = self._is_region_gone()
            if gone is not None:
                self.at(gone.end + self.chance.randrange(20_000), arrive)
                return
            if attempt == 0 and self.happens(self.faults.lost, "events lost"):
                return
            _, error = self.run(function, event)
            if error is None:
                return
            if function == "sweep":
                self.sweeps_missed.append(self.now)
            elif attempt < len(LAMBDAS_RETRIES):
                retry = LAMBDAS_RETRIES[attempt]
                self.later(retry, lambda: self.invoke(function, event, attempt=attempt + 1))
            else:
                self._to_failure_queue(function, event, error)

        self.later(self.chance.uniform(0.01, 0.5) if wait is None else wait, arrive)

    def _to_failure_queue(self, function: str, event: Mapping[str, Any], error: str) -> None:
        self.report.faults["events in the failure queue"] += 1
        id_ = str(next(self.numbers))
        body = {
            "timestamp": format_time(self.now),
            "requestContext": {"functionArn": ARN.format(function)},
            "requestPayload": event,
            "responsePayload": {"errorType": error},
        }
        self.queue[id_] = {
            "messageId": id_,
            "receiptHandle": id_,
            "body": json.dumps(body),
            "attributes": {"SentTimestamp": str(self.now)},
        }
        self.later(self.operations.redriver.settings.redrive_delay_seconds, lambda: self._redrive(id_))

    def _redrive(self, id_: str) -> None:
        message = self.queue[id_]
        answer, _ = self.run("redrive", {"Records": [message]})
        if answer is not None and not answer["batchItemFailures"]:
            del self.queue[id_]
            return
        wait = self.operations.queues.delayed.pop(id_, VISIBILITY_SECONDS)
        self.later(wait, lambda: self._redrive(id_))

    def _sweep(self) -> None:
        self.later(self.settings.sweep_period_minutes * 60, self._sweep)
        if self._is_region_gone():
            self.sweeps_missed.append(self.now)
            return
        answer, error = self.run("sweep", {"source": "aws.events", "detail": {}})
        if error is not None or answer["result"] != "finished":
            self.sweeps_missed.append(self.now)
        while self.operations.continuation.handed:
            run, handovers = self.operations.continuation.handed.pop()
            self.invoke("sweep", handed_over(run, handovers))
        if not self.frames:
            self._judge_sessions()

    def _hold(self, until: int, *, on: bool) -> None:
        """An operator, who tries until it works; too late to begin one is too late."""
        if on and self.now >= until:
            return
        _, error = self.run("inspect", {"action": "hold", "on": on})
        if error is not None:
            self.later(10, lambda: self._hold(until, on=on))

    def _look_after_what_is_parked(self) -> None:
        self.later(1_800, self._look_after_what_is_parked)
        if any(str(item.sweep_shard).startswith("parked") for item in self.world.store.items.values()):
            self.run("inspect", {"action": "retry", "which": "parked", "limit": 100})
        for body, why in self.operations.queues.parked_events:
            if why not in ("max_attempts", "unknown"):
                self.broken(None, f"a good event was parked as {why}: {body}")
        self.operations.queues.parked_events.clear()

    # --- the backend ---

    def _message(self, id_: str, number: int) -> None:
        known = self.known[id_]
        event: dict[str, Any] = {
            "conversation_id": id_,
            "occurred_at": format_time(self.now + known.callers_clock_ms),
            "sender": self.chance.choice(("customer", "customer", "bot", "agent")),
        }
        if known.timeout is not None:
            event["idle_timeout"] = known.timeout
        self.report.messages += 1
        self.world.sessions.live.setdefault(f"session:{id_}", Session("the customer's"))
        known.session_at = self.now
        wait = (
            self.chance.uniform(0, 30) if self.happens(self.faults.shuffled, "messages delivered late") else 0
        )
        if self.chance.random() < 0.3:
            self.invoke("touch", event, wait=wait)
        else:
            self.later(wait, lambda: self._ask("touch", event))
        if self.happens(self.faults.doubled, "messages delivered twice"):
            self.later(self.chance.uniform(0, 600), lambda: self._ask("touch", event))

    def _lifecycle(self, id_: str, action: str, **fields: Any) -> None:
        when = format_time(self.now + self.known[id_].callers_clock_ms)
        event = {"action": action, "conversation_id": id_, "occurred_at": when, **fields}
        if self.happens(self.faults.doubled, "lifecycle events delivered twice"):
            self.later(self.chance.uniform(0, 600), lambda: self._ask("lifecycle", event))
        self._ask("lifecycle", event)

    def _ask(self, function: str, event: Mapping[str, Any], attempt: int = 0) -> None:
        """A call that waits for its answer; most callers try again, a few times."""
        error: str | None = "region"
        if not self._is_region_gone():
            _, error = self.run(function, event)
        if error is None:
            return
        if attempt == 4 or self.happens(self.faults.gives_up, "callers who gave up"):
            return
        self.later(self.chance.uniform(0.2, 2) * 4**attempt, lambda: self._ask(function, event, attempt + 1))

    # --- judging -----------------------------------------------------------------------------------------------------

    def broken(self, id_: str | None, what: str) -> None:
        """A promise; the first few with what led to it."""
        story = self.known[id_].story[-25:] if id_ in self.known else []
        self.report.broken.append("\n      ".join([f"{id_}: {what}", *story]))

    def _note(self, event: Mapping[str, Any], line: str) -> None:
        known = self.known.get(str(event.get("conversation_id")))
        if known is not None:
            known.story.append(f"{format_time(self.now)} {line}")

    def _acknowledged(
        self, function: str, event: Mapping[str, Any], answer: Mapping[str, Any], started: int
    ) -> None:
        """What a caller may rely on from now on."""
        known = self.known[event["conversation_id"]]
        at = min(parse_time(event["occurred_at"]), started)
        result, action = answer["result"], event.get("action")
        if result in ("opened", "recorded", "reopened", "repeat", "paused") and function == "touch":
            known.active_at = max(known.active_at, at)
        if result != "applied":
            return
        if action == "resume":
            known.active_at = max(known.active_at, at)
        elif action == "extend":
            known.extended_to = (answer["opening_id"], parse_time(event["until"]))

    def _judge_commit(self, before: Conversation | None, after: Conversation, by_its_clock: int) -> None:
        id_ = after.conversation_id
        known = self.known[id_]
        if before is None:
            return
        if after.last_activity_at < before.last_activity_at:
            self.broken(id_, "reordering: activity went backwards")
        if after.attempts > before.attempts:
            known.failed.append((self.now, after.attempts))
            if after.attempts == self.settings.max_attempts:
                known.parked, self.report.parked = True, self.report.parked + 1
                self.owed.add((f"{after.opening_id}-{after.seq}", "ConversationEndFailed"))
        outcome = f"{after.opening_id}-{after.seq}"
        if after.opening_id != before.opening_id:
            self.report.reopened += 1
            known.parked = False
            self.owed.add((outcome, "ConversationReopened"))
            if after.last_activity_at <= before.last_activity_at:
                self.broken(id_, "duplicates: reopened by a message that was known")
        elif before.state != "ended" and after.state == "ended":
            self.owed.add((outcome, "ConversationEnded"))
            known.ended_at = self.now
            self.report.ended += 1
            if not after.ended_explicitly:
                self._judge_end(known, before, after, by_its_clock)
        elif before.state != after.state:
            type_ = "ConversationPaused" if after.state == "paused" else "ConversationResumed"
            self.owed.add((outcome, type_))
        elif after.stage > before.stage:
            silent = self.settings.idle_stages[before.stage].after * SECOND_MS
            if by_its_clock < known.active_at + silent:
                self.broken(id_, "early: warned too soon")

    def _judge_end(self, known: Known, before: Conversation, after: Conversation, by_its_clock: int) -> None:
        """Not early by anything that was acknowledged; not late but for what excuses it."""
        id_, decided = after.conversation_id, after.ended_at or 0
        timeout = 300 if known.timeout is None else known.timeout
        due = max(before.last_activity_at, known.active_at) + timeout * SECOND_MS
        if before.state == "paused":
            due = max(before.state_since, known.active_at) + 1_800 * SECOND_MS
        if known.extended_to[0] == before.opening_id and before.state == "active":
            due = max(due, known.extended_to[1])
        due = ceil_to(due, SECOND_MS)
        never = timeout == 0 and before.state == "active"
        if decided < due or never or decided > by_its_clock:
            self.report.early += 1
            self.broken(id_, f"early: ended {(due - decided) / SECOND_MS} s before its time")
            return
        read_late = 5_000  # ms: it may have looked at the hold just before
        if any(
            start + read_late < decided and (until is None or decided + read_late < until)
            for start, until in self.world.store.hold.windows
        ):
            self.broken(id_, "early: ended while a hold was open")
        lateness = decided - due
        self.report.lateness_seconds.append(lateness / SECOND_MS)
        if not known.parked and lateness > self._allowed_ms(known, before, due):
            self.broken(id_, f"forgotten for too long: {lateness / SECOND_MS} s late")

    def _allowed_ms(self, known: Known, before: Conversation, due: int) -> int:
        """Grace, bucket and two sweep periods (README); troubles, sweeps that failed, and waits between attempts add up."""
        period = self.settings.sweep_period_minutes * MINUTE_MS
        grace = self.settings.sweep_grace_seconds * SECOND_MS
        allowed = grace + self.settings.sweep_bucket_ms + 2 * period + 2 * self.faults.hosts_clock_ms
        allowed += len(self.settings.idle_stages) * 4 * MINUTE_MS  # a late warning keeps its notice
        for trouble in self.troubles:
            since = before.last_activity_at if trouble.kind == "hold" else due
            if trouble.meets(since - period, self.now):
                allowed += trouble.end - trouble.start + 2 * period
        allowed += period * sum(due <= each for each in self.sweeps_missed)
        waits = (grace * 2 ** max(0, nth - 1) + period for at, nth in known.failed if at >= due)
        return allowed + sum(int(wait) for wait in waits)

    def _judge_outcome(self, outcome: Mapping[str, Any]) -> None:
        id_, words = outcome["id"], json.dumps(outcome, sort_keys=True)
        key = f"{id_} {outcome['type']}"
        if key in self.words:
            self.report.repeated += 1
            if self.words[key] != words:
                self.broken(outcome["conversation_id"], f"once: {key} was published in other words")
        self.words[key] = words
        if outcome["type"] == "ConversationEnded":
            ids = self.ids_of_end[outcome["conversation_id"], outcome["opening_id"]]
            ids.add(id_)
            if len(ids) > 1:
                self.report.doubled_ends += 1
                self.broken(outcome["conversation_id"], "once: one end under two ids")

    def _judge_sessions(self) -> None:
        """What a live conversation needs, and what an ended one must not leave behind."""
        for id_, item in self.world.store.items.items():
            live = f"session:{id_}" in self.world.sessions.live
            if item.outbox:
                continue
            if item.state != "ended" and not live:
                self.broken(id_, "nothing lost: a live conversation lost its session")
            if item.state == "ended" and live and self.known[id_].session_at < self.known[id_].ended_at:
                self.broken(id_, "never forgotten: it ended, and its session is still there")

    def _judge_the_end(self) -> None:
        for id_, item in self.world.store.items.items():
            if item.state != "ended" and self.known[id_].timeout != 0:
                self.report.lost += 1
                self.broken(id_, f"forgotten: still {item.state} at the end")
            if item.outbox:
                self.broken(id_, "nothing lost: something is still owed")
        told = {(key.partition(" ")[0], key.partition(" ")[2]) for key in self.words}
        for id_, type_ in sorted(self.owed - told):
            self.report.lost += 1
            self.broken(None, f"nothing lost: {type_} {id_} was never published")
        self._judge_sessions()


def _gist(facts: Mapping[str, Any]) -> str:
    names = ("action", "source", "occurred_at", "until", "result", "decision", "timer", "state", "due_at")
    return " ".join(f"{name}={facts[name]}" for name in names if name in facts)


# --- running ---------------------------------------------------------------------------------------------------------


def made_up(chance: random.Random) -> Talk:
    """A conversation as they come in that channel."""
    times = [0]
    length = min(_LONGEST, max(1, round(chance.lognormvariate(_LENGTH_MU, _LENGTH_SIGMA))))
    for _ in range(length - 1):
        times.append(times[-1] + 1 + round(chance.lognormvariate(_GAP_MU, _GAP_SIGMA) * SECOND_MS))
    return tuple(times)


def simulate(
    seed: int,
    cell: int,
    talks: Sequence[Talk] = (),
    *,
    conversations: int = CELL,
    hours: float = 4,
    faults: Faults | None = None,
) -> Report:
    """One stack's run: the same for the same seed, cell and talks. Without talks, so many are made up."""
    chance = random.Random(f"{seed}/{cell}/talks")  # noqa: S311 - repeatable, not secret
    mine = talks or [made_up(chance) for _ in range(conversations)]
    with _silence():
        report = Simulation(f"{seed}/{cell}", mine, faults or Faults(), hours).go()
    again = f"python -m tests.prove.simulation --seed {seed} --cell {cell}{' --file …' if talks else ''}"
    report.broken = [f"{line}\n      again: {again}" for line in report.broken]
    return report


@contextmanager
def _silence() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def simulate_all(seed: int, cells: Sequence[int], talks: Sequence[Talk] = (), processes: int = 2) -> Report:
    """Many stacks."""
    total = Report()
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        for report in pool.map(
            _cell, [(seed, cell, talks[cell * CELL : (cell + 1) * CELL]) for cell in cells]
        ):
            total += report
    return total


def _cell(given: tuple[int, int, Sequence[Talk]]) -> Report:
    return simulate(*given)


def told(report: Report) -> str:
    """For people."""
    late = sorted(report.lateness_seconds) or [0.0]
    half, most_of_them, nearly_all = (late[int(share * (len(late) - 1))] for share in (0.5, 0.95, 0.99))
    lines = [
        f"{report.conversations:,} conversations, {report.messages:,} messages, {report.virtual_hours:,.0f} hours",
        f"ended {report.ended:,} (reopened {report.reopened:,}), early {report.early}, lost {report.lost}, "
        f"outcomes repeated under their id {report.repeated:,}, ends under two ids {report.doubled_ends}",
        f"repaired by the sweep {report.repaired:,}, parked for a person {report.parked:,}",
        f"late by: median {half:.1f} s, 95 % {most_of_them:.1f} s, 99 % {nearly_all:.1f} s, most {late[-1]:.1f} s",
        *(f"  {count:>8,} {what}" for what, count in sorted(report.faults.items())),
    ]
    return "\n".join(lines)


def _tell_broken(report: Report, most: int = 5) -> None:
    for line in report.broken[:most]:
        print(f"BROKEN {line}")
    if len(report.broken) > most:
        print(f"BROKEN {len(report.broken) - most} more")


def run(deep: bool, seed: int = SEED) -> list[Row]:
    """For the summary."""
    report = simulate_all(seed, range(100 if deep else 2))
    print(told(report))
    _tell_broken(report)
    return rows(report)


def rows(report: Report) -> list[Row]:
    """For the summary."""
    late = sorted(report.lateness_seconds) or [0.0]
    return [
        ("Simulated conversations", f"{report.conversations:,}", not report.broken),
        (
            "  ended early / lost / twice",
            f"{report.early} / {report.lost} / {report.doubled_ends}",
            not report.broken,
        ),
        ("  late, 99 %", f"{late[int(0.99 * (len(late) - 1))]:.0f} s", True),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.prove.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--conversations", type=int, default=2_000, help=f"in stacks of {CELL}")
    parser.add_argument("--cell", type=int, help="only this stack")
    parser.add_argument("--file", type=Path, help="real timings: CSV, conversation and seconds or minute")
    chosen = parser.parse_args()
    try:
        talks = read(chosen.file) if chosen.file else []
    except TimingsError as error:
        print(error)
        return 2
    wanted: int = len(talks) or chosen.conversations
    cells = [chosen.cell] if chosen.cell is not None else range(-(-wanted // CELL))
    began = time.monotonic()
    report = simulate_all(chosen.seed, cells, talks)
    print(f"Seed {chosen.seed}: {told(report)}\n{time.monotonic() - began:.0f} s")
    _tell_broken(report)
    return 1 if report.broken else 0


if __name__ == "__main__":
    sys.exit(main())
