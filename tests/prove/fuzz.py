"""Bad input against the real entry points of all six functions, on fakes.

Each property holds for whatever an event may be: it is answered, or refused with InvalidEventError, in one line without
any of its values, and then nothing has changed.
"""

import argparse
import json
import logging
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache, partial
from multiprocessing import get_context
from typing import Any, cast
from unittest.mock import patch

import hypothesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from functions.cleanup import app as cleanup
from functions.inspect import app as inspect
from functions.lifecycle import app as lifecycle
from functions.redrive import app as redrive
from functions.sweep import app as sweep
from functions.touch import app as touch
from idle_timer import bootstrap, messages
from idle_timer.adapters.dynamodb import from_item, to_item
from idle_timer.adapters.scheduler import EventBridgeScheduler, schedule_name
from idle_timer.adapters.sns import SnsOutcomes
from idle_timer.errors import InvalidEventError
from idle_timer.timestamps import format_time, parse_duration, parse_time
from idle_timer.upkeep_ports import Call, Reply
from tests.fakes import world as fakes
from tests.fakes.operations import ARN, Context, Operations
from tests.prove import strategies
from tests.prove.summary import Row, table

HANDLERS: Mapping[str, Callable[[Any, Any], dict[str, Any]]] = {
    "touch": touch.handler,
    "lifecycle": lifecycle.handler,
    "cleanup": cleanup.handler,
    "sweep": sweep.handler,
    "redrive": redrive.handler,
    "inspect": inspect.handler,
}
SEED, FAST, DEEP = 1, 50, 2_500
PROCESSES = 2
NOW = parse_time("2026-01-31T12:30:00Z")  # after the sample events
CONTACT = "11111111-1111-1111-1111-111111111111"
# https://docs.aws.amazon.com/scheduler/latest/APIReference/API_CreateSchedule.html
_LEGAL_NAME = re.compile(r"[0-9a-zA-Z\-_.]{1,64}", re.ASCII)
_OWN_EXAMPLE = "2026-01-31T12:00:00.000Z"
_OWN_WORDS = re.compile(r"[A-Za-z_]+", re.ASCII)


class LambdaLike(Context):
    """Lambda's context, as far as the functions look at it."""

    invoked_function_arn = ARN.format("sweep")
    aws_request_id = "request"


@dataclass
class Metrics:
    """See `ports.Telemetry`, with the edge's flush."""

    counted: list[str] = field(default_factory=list)

    def count(self, metric: str, value: float = 1, *, by: str | None = None) -> None:
        self.counted.append(metric)

    def flush(self) -> None:
        """Nowhere."""


@dataclass
class Handlers:
    """See `ports.Functions`: the real handlers, over JSON. `broke`: what is no refusal, and no fault was injected."""

    stack: "Stack"
    broke: list[Exception] = field(default_factory=list)

    def call_each(self, calls: Sequence[Call]) -> Iterator[tuple[Call, Reply]]:
        for call in calls:
            yield call, self._call(call)

    def _call(self, call: Call) -> Reply:
        try:
            return Reply(answer=self.stack.handle(call.function, json.loads(json.dumps(call.event))))
        except InvalidEventError as error:
            return Reply(error=type(error).__name__, message=str(error))
        except Exception as error:  # noqa: BLE001 - judged by the property
            self.broke.append(error)
            return Reply(error=type(error).__name__, message=str(error))


class Stack:
    """The six functions on fakes, with conversations in every state under the ids of the sample events."""

    def __init__(self) -> None:
        self.world = fakes.World(
            fakes.settings(
                session_url_secret_arn="arn",  # noqa: S106 - a name
                end_hook_function_arn="arn",
                stop_connect_contact=True,
            )
        )
        self.operations = Operations(self.world)
        self.metrics = Metrics()
        self.functions = Handlers(self)
        self.sweeper = replace(self.operations.sweeper, functions=self.functions)
        self.redriver = replace(self.operations.redriver, functions=self.functions)
        self.inspection = replace(self.operations.inspection, functions=self.functions)

    @classmethod
    def populated(cls) -> "Stack":
        """A fresh one each time."""
        stack, known = cls(), _population()
        world = stack.world
        world.clock.time, world.chance.opened = NOW, known.chance.opened
        world.store.items |= known.store.items
        world.store.contacts |= known.store.contacts
        world.scheduler.schedules |= known.scheduler.schedules
        world.outcomes.published += known.outcomes.published
        stack.operations.queues.park("{}", "unreadable")
        return stack

    def handle(self, function: str, event: Any) -> dict[str, Any]:
        """One invocation."""
        return HANDLERS[function](event, LambdaLike())

    def state(self) -> tuple[Any, ...]:
        """All that a refusal must leave as it was."""
        world, operations = self.world, self.operations
        return (
            *(dict(part) for part in (world.store.items, world.store.contacts, world.scheduler.schedules)),
            *(list(part) for part in (world.handover.handed, world.outcomes.published)),
            *(list(part) for part in (operations.queues.parked_events, operations.continuation.handed)),
            *(world.store.hold, operations.control.lease, dict(world.sessions.live)),
        )

    def is_sound(self) -> None:
        """Whatever was let in can be stored and told."""
        for item in self.world.store.items.values():
            assert from_item(to_item(item)) == item
            assert len(json.dumps(to_item(item))) < 40_000
        for outcome in self.world.outcomes.published:
            SnsOutcomes(cast(Any, _Swallowing()), "topic").publish(outcome)

    @contextmanager
    def wired(self) -> Iterator[None]:
        """What `bootstrap` wires to AWS, wired to this."""
        logging.disable(logging.CRITICAL)
        try:
            with patch.multiple(
                bootstrap,
                timer=lambda: self.world.timer,
                cleanup=lambda: self.world.cleaner,
                sweep=lambda own_arn: self.sweeper,
                redrive=lambda: self.redriver,
                inspection=lambda: self.inspection,
                telemetry=lambda: self.metrics,
            ):
                yield
        finally:
            logging.disable(logging.NOTSET)


@cache
def _population() -> fakes.World:
    world = Stack().world
    world.clock.time = NOW - 3_600_000
    world.touch("sample-lost")
    world.scheduler.schedules.clear()
    world.clock.time = NOW - 1_800_000
    world.touch("sample-1", connect_contact_id=CONTACT)
    world.touch("sample-over", attributes={"channel": "web"})
    world.lifecycle("end", "sample-over")
    world.drain()
    world.clock.time = NOW - 60_000
    world.touch("sample-now")
    world.touch("sample-paused", connect_contact_id="22222222-2222-2222-2222-222222222222")
    world.lifecycle("pause", "sample-paused")
    world.touch("sample-owing")
    world.lifecycle("end", "sample-owing")
    return world


class _Swallowing:
    """An SNS client; what it is given must be text that can be sent."""

    def publish(self, *, Subject: str, Message: str, **_: Any) -> None:  # noqa: N803 - botocore's names
        assert Subject.isascii()
        assert len(Subject) < 100
        assert json.loads(json.loads(Message.encode())["default"])


# --- what must hold --------------------------------------------------------------------------------------------------


def survives(function: str, event: Any) -> bool:
    """Whether the event was taken; refused: in the right way."""
    stack = Stack.populated()
    with stack.wired():
        before = stack.state()
        try:
            answer = stack.handle(function, event)
        except InvalidEventError as refusal:
            assert stack.state() == before, "a refused event has changed something"
            assert stack.metrics.counted == ["RejectedEvents"]
            tells_no_value(str(refusal), event)
            return False
        assert not stack.functions.broke, stack.functions.broke
        assert json.loads(json.dumps(answer, allow_nan=False)) == answer
        stack.is_sound()
    return True


def tells_no_value(line: str, event: Any) -> None:
    """One line that can be printed and sent, with names only."""
    assert line.isprintable()
    assert len(line) < 2_000
    line = line.replace(_OWN_EXAMPLE, "")
    names, values = set[str](), set[str]()
    _collect(event, names, values)
    for value in values - names:
        if len(value) >= 6 and not _OWN_WORDS.fullmatch(value):
            assert value not in line, f"repeats {value!r}"
    if not any(strategies.MARK in name for name in names):
        assert strategies.MARK not in line
    if not any(str(strategies.MARKED_NUMBER) in name for name in names):
        assert str(strategies.MARKED_NUMBER) not in line


def _collect(value: Any, names: set[str], values: set[str]) -> None:
    if isinstance(value, dict):
        names |= value.keys()
        for each in value.values():
            _collect(each, names, values)
    elif isinstance(value, list):
        for each in value:
            _collect(each, names, values)
    elif value is not None:
        values.add(str(value))


def check_event(function: str, event: Any) -> None:
    """Taken, or refused in the right way."""
    survives(function, event)


def check_batch(event: Any) -> None:
    """A batch of messages: each dealt with on its own, none of them keeps the others from it."""
    stack = Stack.populated()
    with stack.wired():
        answer = stack.handle("redrive", event)
        assert not stack.functions.broke, stack.functions.broke
        left = [each["itemIdentifier"] for each in answer["batchItemFailures"]]
        assert left == [], "no fault was injected: each was done, or parked"
        stack.is_sound()


def check_names(ids: Sequence[str]) -> None:
    """Two ids never share a schedule, every name is legal, and the firing names its very own id."""
    legal = set()
    for id_ in ids:
        with suppress(InvalidEventError):
            legal.add(messages.parse(messages.TouchEvent, {"conversation_id": id_}).conversation_id)
    names = {id_: schedule_name(id_) for id_ in legal}
    assert len(set(names.values())) == len(legal)
    scheduler = EventBridgeScheduler(
        cast(Any, None), group="g", target_arn="t", role_arn="r", dead_letter_arn="d"
    )
    for id_, name in names.items():
        assert _LEGAL_NAME.fullmatch(name)
        assert name not in (".", "..")
        text = scheduler.definition(id_, NOW)["Target"]["Input"]
        assert text.count("<") == 2  # Scheduler's own placeholders
        fired = re.sub(r"<aws\.scheduler\.[a-z-]+>", "2026-01-31T12:30:00Z", text)
        assert messages.parse(messages.CleanupEvent, json.loads(fired)).conversation_id == id_


def check_strangers(ids: Sequence[str]) -> None:
    """Ids that are alike remain strangers: one is ended, the others know nothing of it."""
    stack = Stack.populated()
    world = stack.world
    known = sorted({id_ for id_ in ids if 1 <= len(id_.encode()) <= 512})
    with stack.wired():
        for id_ in known:
            stack.handle("touch", {"conversation_id": id_})
        stack.handle("lifecycle", {"action": "end", "conversation_id": known[0]})
        world.drain()
        assert [id_ for id_ in known if world.item(id_).state == "ended"] == known[:1]
        assert [id_ for id_ in known if id_ in world.scheduler.schedules] == known[1:]
        world.clock.advance(302)
        for id_ in known[1:]:
            stack.handle("cleanup", {"version": 1, "conversation_id": id_, "source": "schedule"})
        told = [o["conversation_id"] for o in world.outcomes.published if o["type"] == "ConversationEnded"]
        assert sorted(told) == sorted([*known, "sample-over"])
        stack.is_sound()


def check_times(value: Any) -> None:
    """Whatever is taken as a time or a duration can be told again."""
    with suppress(ValueError):
        parse_duration(value)
    try:
        milliseconds = parse_time(value)
    except ValueError:
        return
    assert parse_time(format_time(milliseconds)) == milliseconds


# --- running ---------------------------------------------------------------------------------------------------------

type Check = Callable[[Any], None]


def _properties() -> Mapping[str, tuple[st.SearchStrategy[Any], Check]]:
    arns = tuple(ARN.format(name) for name in ("touch", "lifecycle", "cleanup", "another"))
    properties: dict[str, tuple[st.SearchStrategy[Any], Check]] = {}
    for function in HANDLERS:
        properties[f"{function}: any JSON"] = (
            strategies.anything,
            partial(check_event, function),
        )
        properties[f"{function}: mutated events"] = (
            strategies.mutated(function),
            partial(check_event, function),
        )
    properties["redrive: any messages"] = (strategies.batches(arns), check_batch)
    properties["names of schedules"] = (
        st.one_of(strategies.relatives, st.lists(strategies.naughty_ids)),
        check_names,
    )
    properties["ids that are alike"] = (strategies.relatives, check_strangers)
    properties["times and durations"] = (st.one_of(strategies.times, strategies.scalars), check_times)
    return properties


PROPERTIES = _properties()


def fuzz(name: str, examples: int, seed: int) -> int:
    """Check a property on so many cases, the same for the same seed; how many there were. Raises what broke it."""
    strategy, check = PROPERTIES[name]
    cases = 0

    @hypothesis.seed(seed)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def property_(value: Any) -> None:
        nonlocal cases
        cases += 1
        check(value)

    property_()
    return cases


def run(deep: bool, seed: int = SEED) -> list[Row]:
    """All properties; prints what breaks one, shrunk."""
    work = partial(_try, DEEP if deep else FAST, seed)
    with ProcessPoolExecutor(PROCESSES, get_context("spawn")) as pool:
        results = list(pool.map(work, PROPERTIES))
    for _, found in results:
        if found:
            print(found)
    cases, broken = sum(cases for cases, _ in results), sum(bool(found) for _, found in results)
    return [("Fuzz cases", f"{cases:,}", broken == 0), ("  properties broken", str(broken), broken == 0)]


def _try(examples: int, seed: int, name: str) -> tuple[int, str]:
    try:
        return fuzz(name, examples, seed), ""
    except Exception as error:  # noqa: BLE001 - told with the others
        notes = "\n".join(getattr(error, "__notes__", []))
        return 0, f"{name} (seed {seed}): {type(error).__name__}: {error}\n{notes}"[:4_000]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.prove.fuzz", description=__doc__)
    parser.add_argument("--fast", action="store_true", help=f"{FAST} cases of each property, not {DEEP:,}")
    parser.add_argument("--seed", type=int, default=SEED, help="other cases")
    chosen = parser.parse_args()
    rows = run(not chosen.fast, chosen.seed)
    print(table(rows))
    return 0 if all(kept for _, _, kept in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
