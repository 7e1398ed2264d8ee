"""The promises on the deployed local stack, while things really break: a load, its faults, and a verifier outside.

Conversations of every kind live at once: silent, coming back, handed to a human, ended by the backend, never timed out.
Meanwhile functions are killed in the middle of their work, schedules vanish, the topic refuses, Scheduler throttles,
Valkey is stopped and started, the emulator is restarted with its state. The verifier sees only what somebody outside
can see: the answers to the backend, the outcomes, the sessions, the schedules, and what inspect says. A fault that
nobody has met shows nothing, so each must have left a trace.

`python -m tests.prove.faults [--quick] [--conversations N]` prints what it saw.
"""

import argparse
import json
import random
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import redis
from botocore.exceptions import BotoCoreError, ClientError

from tests.local.promises import from_wire, now_ms, to_wire
from tests.local.stack import REPOSITORY, Fault, FunctionError, LocalStack, Outcome, eventually
from tests.prove.summary import Row, table

SEED = 20
LIVES_AT_ONCE = 12  # the emulator has two cores: on slower ones fewer conversations come, not later answers
KINDS = ("silent", "silent", "chatty", "returning", "handed over", "ended", "never")
QUESTIONS_AT_ONCE = 8
TELLING_SECONDS = 20.0
BACKEND_PATIENCE_SECONDS = 120.0
MEETING_SECONDS = 60.0  # how long a fault waits for somebody to meet it
PARAMETERS = {
    "MaxAttempts": 50,  # nobody is to be parked: every fault goes away
    "RedriveDelaySeconds": 1,
    "SweepGraceSeconds": 2,
    "SweepPeriodMinutes": 1,
}
SWEEP_SECONDS = 4.0
SWEEP_TIMEOUT_SECONDS = 20  # a sweep that is killed keeps its lease for this, and a minute
AWAY = (BotoCoreError, ClientError, FunctionError, redis.RedisError)

type Point = tuple[str, str, str]
"""Where a function is killed: its verb, and the AWS call that it makes there."""

POINTS: list[Point] = [
    ("touch", "dynamodb", "UpdateItem"),
    ("touch", "dynamodb", "PutItem"),
    ("touch", "scheduler", "CreateSchedule"),
    ("touch", "scheduler", "UpdateSchedule"),
    ("lifecycle", "dynamodb", "PutItem"),
    ("lifecycle", "lambda", "Invoke"),
    ("cleanup", "scheduler", "DeleteSchedule"),
    ("cleanup", "dynamodb", "BatchGetItem"),
    ("cleanup", "dynamodb", "PutItem"),
    ("cleanup", "scheduler", "CreateSchedule"),
    ("cleanup", "sns", "Publish"),
    ("redrive", "lambda", "Invoke"),
]
INSTEAD, AFTER = "functions killed instead of a call", "functions killed after a call"


@dataclass(frozen=True)
class Size:
    """How much of it; times in seconds."""

    conversations: int  # at least: they come for as long as things break
    outage: float  # at least: until somebody has met it
    kills: int  # at each point, before and after the call
    settling: float  # at most, after the last fault


DEEP = Size(conversations=150, outage=5.0, kills=2, settling=150.0)
QUICK = Size(conversations=24, outage=2.0, kills=1, settling=60.0)


@dataclass
class Told:
    """A message that the backend was told is recorded."""

    at: int  # epoch ms, as sent
    answered: int  # epoch ms
    timeout_seconds: int
    opening_id: str


@dataclass
class Journal:
    """What the backend knows about one conversation."""

    conversation_id: str
    kind: str
    messages: list[Told] = field(default_factory=list)
    sent: int = 0
    gave_up: int = 0
    session_at: int = 0  # epoch ms, when the backend last wrote the session
    paused: bool = False  # as the backend was told

    @property
    def session(self) -> str:
        """Its session's key."""
        return f"session:{self.conversation_id}"


class Load:
    """The chat backend: it repeats what was not answered, with the same time, as the contract asks of it."""

    def __init__(self, stack: LocalStack, conversations: int) -> None:
        self._stack = stack
        self._conversations = conversations
        self._lock = threading.Lock()
        self.journals: list[Journal] = []
        self.unanswered = Counter[str]()
        self.deferred = 0

    def run(self, over: threading.Event) -> None:
        """One conversation after the other, until it is over and there have been enough."""
        with ThreadPoolExecutor(LIVES_AT_ONCE) as pool:
            for lives in [pool.submit(self._lives, over) for _ in range(LIVES_AT_ONCE)]:
                lives.result()

    def _lives(self, over: threading.Event) -> None:
        while journal := self._next(over):
            self._live(journal, random.Random(f"{SEED} {journal.conversation_id}"))  # noqa: S311 - no secret

    def _next(self, over: threading.Event) -> Journal | None:
        with self._lock:
            number = len(self.journals)
            if over.is_set() and number >= self._conversations:
                return None
            journal = Journal(f"faults-{number}-é", KINDS[number % len(KINDS)])
            self.journals.append(journal)
            return journal

    def _live(self, journal: Journal, chance: random.Random) -> None:
        def pause() -> None:
            time.sleep(chance.uniform(0.5, 3.0))

        self._session(journal)
        timeout = {"handed over": 600, "never": 0}.get(journal.kind, 4)
        self._touch(journal, timeout)
        match journal.kind:
            case "chatty":
                for _ in range(4):
                    pause()
                    self._touch(journal, timeout)
            case "returning":
                time.sleep(timeout + 3)
                pause()
                self._session(journal)
                self._touch(journal, timeout)
            case "handed over":
                answer = self._lifecycle(journal, "pause")
                journal.paused = answer is not None and answer["state"] == "paused"
            case "ended":
                pause()
                self._lifecycle(journal, "end")
            case _:
                pause()
                self._touch(journal, timeout)

    def _session(self, journal: Journal) -> None:
        self._insist(lambda: self._stack.redis.set(journal.session, "basket", ex=3_600), journal)
        journal.session_at = now_ms()

    def _touch(self, journal: Journal, timeout_seconds: int) -> None:
        at = now_ms()
        event = {
            "conversation_id": journal.conversation_id,
            "occurred_at": to_wire(at),
            "idle_timeout": timeout_seconds,
        }
        answer = self._insist(lambda: self._stack.invoke("touch", event), journal)
        if answer is not None:
            told = Told(from_wire(to_wire(at)), now_ms(), timeout_seconds, answer["opening_id"])
            journal.messages.append(told)
            with self._lock:
                self.deferred += answer["timer"] == "deferred"

    def _lifecycle(self, journal: Journal, action: str) -> Any:
        event = {
            "action": action,
            "conversation_id": journal.conversation_id,
            "occurred_at": to_wire(now_ms()),
        }
        return self._insist(lambda: self._stack.invoke("lifecycle", event), journal)

    def _insist(self, call: Callable[[], Any], journal: Journal) -> Any:
        deadline = time.monotonic() + BACKEND_PATIENCE_SECONDS
        journal.sent += 1
        while time.monotonic() < deadline:
            try:
                return call()
            except AWAY as error:
                with self._lock:
                    self.unanswered[type(error).__name__] += 1
            time.sleep(0.5)
        journal.gave_up += 1
        return None


@dataclass(frozen=True)
class Met:
    """A kind of fault: how often it was there, and what shows that it was met, and got over."""

    fault: str
    hits: int
    shown: int
    shown_by: str
    wanted: int = 1

    @property
    def really(self) -> bool:
        """Whether it shows anything."""
        return self.hits > 0 and self.shown >= self.wanted


class Chaos:
    """What goes wrong, for real, and what was seen of it at that moment."""

    def __init__(self, stack: LocalStack, load: Load, size: Size) -> None:
        self._stack = stack
        self._load = load
        self._size = size
        self._began = time.monotonic()
        self._set: list[tuple[str, Point, Fault]] = []
        self._kills: dict[str, Counter[Point]] = {INSTEAD: Counter(), AFTER: Counter()}
        self._refused = list[str]()  # outcomes' ids, a repeated one repeatedly
        self._waited_for_valkey = set[str]()  # conversation ids
        self._lost = set[str]()
        self._stood = set[str]()
        self._restarted_at = 0  # epoch ms
        self._throttled_timers = 0
        self._deferred = 0
        self._throttled_writes = list[str]()  # conversation ids, a repeated one repeatedly

    def run(self) -> None:
        """One thing after the other.

        redrive has something to do only while something else fails; and a sweep that ends in the restart keeps its lease
        for so long that the schedules, which only the sweep can make up for, are lost last.
        """
        redrive = [point for point in POINTS if point[0] == "redrive"]
        others = [point for point in POINTS if point[0] != "redrive"]
        self._say("the topic refuses, redrive is killed")
        for word in (INSTEAD, AFTER):
            self._kill(word, redrive, times=1)  # its batch stays hidden for 12 minutes
        self._refuse_outcomes()
        self._note_kills()
        self._say("the emulator is restarted")
        self._restart()
        self._say("Valkey is away")
        self._stop_valkey()
        self._say("Scheduler throttles")
        self._throttle_timers()
        self._say("the table throttles")
        self._throttle_writes()
        for word in (INSTEAD, AFTER):
            self._say(word)
            self._kill(word, others, times=self._size.kills)
            self._last(self._all_met)
            self._note_kills()
        self._say("schedules are lost")
        self._lose_schedules()
        self._say("nothing goes wrong any more")

    def met(self, observer: "Observer") -> list[Met]:
        """The faults, with the traces that they have left."""
        kills = [
            Met(word, met.total(), sum(1 for point in POINTS if met[point]), "of all points", len(POINTS))
            for word, met in self._kills.items()
        ]
        ends = [*observer.all_ends()]
        by_sweep, by_timer = ended_by("sweep", ends), ended_by("schedule", ends)
        refused, written = set(self._refused), set(self._throttled_writes)
        over_it = {id_ for id_ in self._stood if by_timer.get(id_, 0) > self._restarted_at}
        settled = observer.settled()
        return [
            *kills,
            Met(
                "outcomes refused",
                len(self._refused),
                len(refused & observer.ids_told),
                "of them told later",
                len(refused),
            ),
            Met(
                "ends while Valkey was away",
                len(self._waited_for_valkey),
                len(self._waited_for_valkey & settled),
                "of them worked off later",
                len(self._waited_for_valkey),
            ),
            Met("schedules lost", len(self._lost), len(self._lost & by_sweep.keys()), "ended by the sweep"),
            Met("timers throttled", self._throttled_timers, self._deferred, "messages answered: deferred"),
            Met(
                "writes throttled",
                len(self._throttled_writes),
                len(written & observer.known()),
                "of them stored later",
                len(written),
            ),
            Met("timers over a restart", len(self._stood), len(over_it), "ended by them afterwards"),
        ]

    def _say(self, what: str) -> None:
        seconds = time.monotonic() - self._began
        print(f"    {seconds:3.0f} s: {what} ({len(self._load.journals)} conversations)", flush=True)

    def _last(self, met: Callable[[], Any]) -> None:
        """At least an outage's time, and until it has been met; what nobody meets is told in the end."""
        time.sleep(self._size.outage)
        with suppress(TimeoutError):
            eventually(met, MEETING_SECONDS)

    def _kill(self, word: str, points: list[Point], *, times: int) -> None:
        for point in points:
            function, service, operation = point
            fault = self._stack.faults.crash(
                service, operation, function=function, times=times, after=word == AFTER
            )
            self._set.append((word, point, fault))

    def _all_met(self) -> bool:
        return all(fault.hits for _, _, fault in self._set)

    def _note_kills(self) -> None:
        for word, point, fault in self._set:
            fault.remove()
            self._kills[word][point] += fault.hits
            if not fault.hits:
                print(f"    {word}: not met: {' '.join(point)}")
        self._set.clear()

    def _refuse_outcomes(self) -> None:
        since = self._stack.last_call
        with self._refusing("sns", "Publish", "InternalError", 500) as refused:
            self._last(lambda: refused.hits and self._all_met())
        calls = self._stack.calls("sns", "Publish", since=since)
        self._refused = [
            json.loads(json.loads(call.params["Message"])["default"])["id"]
            for call in calls
            if call.error == "InternalError"
        ]

    def _stop_valkey(self) -> None:
        self._stack.stop_valkey()
        self._last(self._owing)
        self._waited_for_valkey = self._owing()
        self._stack.start_valkey()

    def _owing(self) -> set[str]:
        """Who has ended, and not everything is done for him."""
        found = set[str]()
        for which in ("overdue", "pending", "failed"):
            with suppress(*AWAY):
                answer = self._stack.invoke(
                    "inspect", {"action": "list", "which": which, "state": "ended", "limit": 100}
                )
                found |= {row["conversation_id"] for row in answer["conversations"]}
        return found

    def _throttle_timers(self) -> None:
        before = self._load.deferred
        throttled = ("ThrottlingException", 429)
        with (  # a few creations pass, or soon nobody would get as far as a second message
            self._refusing("scheduler", "CreateSchedule", *throttled, per_second=1.0) as creations,
            self._refusing("scheduler", "UpdateSchedule", *throttled) as updates,
        ):
            self._last(lambda: creations.hits and self._load.deferred > before)
            self._throttled_timers = creations.hits + updates.hits
        self._deferred = self._load.deferred - before

    def _throttle_writes(self) -> None:
        since = self._stack.last_call
        with self._refusing("dynamodb", "PutItem", "ThrottlingException", 400) as refused:
            self._last(lambda: refused.hits)
        self._throttled_writes = [
            call.params["Item"]["conversation_id"]["S"]
            for call in self._stack.calls("dynamodb", "PutItem", since=since)
            if call.error == "ThrottlingException" and "conversation_id" in call.params["Item"]
        ]

    def _refusing(
        self, service: str, operation: str, code: str, status: int, per_second: float = 0.0
    ) -> Fault:
        return self._stack.faults.refuse(
            service, operation, code, status, function="faults-", times=0, per_second=per_second
        )

    def _lose_schedules(self) -> None:
        """Every third schedule, behind the application's back, until the sweep has found somebody who lost his."""
        deadline = time.monotonic() + MEETING_SECONDS
        while (
            time.monotonic() < deadline and not self._lost & ended_by("sweep", self._stack.outcomes()).keys()
        ):
            for name, conversation_id in sorted(self._timers().items())[::3]:
                with suppress(ClientError):
                    group = self._stack.outputs["ScheduleGroupName"]
                    self._stack.client("scheduler").delete_schedule(Name=name, GroupName=group)
                    self._lost.add(conversation_id)
            time.sleep(SWEEP_SECONDS)

    def _timers(self) -> dict[str, str]:
        """The schedules that stand now: name -> conversation id."""
        client, group = self._stack.client("scheduler"), self._stack.outputs["ScheduleGroupName"]
        found = {}
        for name in self._stack.schedules():
            with suppress(ClientError):  # it has fired meanwhile
                target = client.get_schedule(Name=name, GroupName=group)["Target"]
                found[name] = json.loads(target["Input"])["conversation_id"]
        return found

    def _restart(self) -> None:
        """With whatever is under way: events that wait in Lambda are lost, and functions end."""
        self._stood = set(self._timers().values())
        self._stack.restart_emulator(keep_state=True)
        self._restarted_at = now_ms()


@contextmanager
def sweeping(stack: LocalStack) -> Iterator[None]:
    """The rule, in a hurry."""
    over = threading.Event()

    def keep_sweeping() -> None:
        while not over.wait(SWEEP_SECONDS):
            with suppress(*AWAY):
                stack.invoke("sweep", {})

    sweeper = threading.Thread(target=keep_sweeping)
    sweeper.start()
    try:
        yield
    finally:
        over.set()
        sweeper.join()


def ended_by(source: str, outcomes: Iterable[Outcome]) -> dict[str, int]:
    """Conversation id -> when its last end was decided (epoch ms): the ends that the schedule, or the sweep, brought."""
    return {
        outcome.body["conversation_id"]: from_wire(outcome.body["proof"]["decided_at"])
        for outcome in outcomes
        if outcome.type == "ConversationEnded" and outcome.body["proof"].get("source") == source
    }


class Observer:
    """Somebody outside."""

    def __init__(self, stack: LocalStack, journals: list[Journal]) -> None:
        self._stack = stack
        self.journals = journals
        self.status: dict[str, dict[str, Any]] = {}
        self.ids_told: set[str] = set()  # of outcomes
        self.told: dict[str, set[tuple[str, int]]] = {}  # conversation id -> what happened in which opening
        self.ends: dict[str, dict[int, list[Outcome]]] = {}

    def wait_until_settled(self, timeout: float) -> bool:
        """Until nothing is due or owed any more."""
        began = told = time.monotonic()
        while time.monotonic() < began + timeout:
            with suppress(*AWAY):
                self.look()
                if len(self.settled()) == len(self.journals):
                    return True
            if time.monotonic() > told + TELLING_SECONDS:
                told = time.monotonic()
                for line in self.unsettled()[:3]:
                    print(f"    waiting for {line}", flush=True)
            time.sleep(1.0)
        return False

    def look(self) -> None:
        """Collect the outcomes, and ask inspect about everybody for whom something may still change."""
        ends: dict[str, dict[int, list[Outcome]]] = defaultdict(lambda: defaultdict(list))
        told: dict[str, set[tuple[str, int]]] = defaultdict(set)
        for outcome in self._stack.outcomes():
            conversation_id, generation = outcome.body["conversation_id"], outcome.body["generation"]
            self.ids_told.add(outcome.body["id"])
            told[conversation_id].add((outcome.type, generation))
            if outcome.type == "ConversationEnded":
                ends[conversation_id][generation].append(outcome)
        self.ends, self.told = ends, told
        ids = [
            journal.conversation_id
            for journal in self.journals
            if journal.conversation_id not in self.status or not self._is_settled(journal)
        ]
        with ThreadPoolExecutor(QUESTIONS_AT_ONCE) as pool:
            self.status |= zip(ids, pool.map(self._ask, ids), strict=True)

    def _ask(self, conversation_id: str) -> dict[str, Any]:
        event = {"action": "status", "conversation_id": conversation_id}
        answer: dict[str, Any] = self._stack.invoke("inspect", event)
        return answer

    def _is_settled(self, journal: Journal) -> bool:
        status = self.status[journal.conversation_id]
        if status["state"] is None:
            return True
        if status["outbox"] or status["attempts"] or self.unreported(journal):
            return False
        return journal.kind in ("never", "handed over") or status["state"] == "ended"

    def unreported(self, journal: Journal) -> list[str]:
        """What happened, and nobody was told: ends, reopenings and the pause."""
        status = self.status[journal.conversation_id]
        if status["state"] is None:
            return []
        generation = int(status["generation"])
        over = generation - (status["state"] != "ended")
        owed = {("ConversationEnded", number) for number in range(1, over + 1)}
        owed |= {("ConversationReopened", number) for number in range(2, generation + 1)}
        owed |= {("ConversationPaused", generation)} if journal.paused else set()
        return [
            f"{type_} {number}"
            for type_, number in sorted(owed - self.told.get(journal.conversation_id, set()))
        ]

    def known(self) -> set[str]:
        """Conversations that are there."""
        return {id_ for id_, status in self.status.items() if status["state"] is not None}

    def settled(self) -> set[str]:
        """Conversations for whom nothing is due or owed any more."""
        return {journal.conversation_id for journal in self.journals if self._is_settled(journal)}

    def unsettled(self) -> list[str]:
        """The others, and how they stand."""
        return [self._how_it_stands(journal) for journal in self.journals if not self._is_settled(journal)]

    def _how_it_stands(self, journal: Journal) -> str:
        status = self.status[journal.conversation_id]
        return (
            f"{journal.conversation_id} ({journal.kind}): {status['state']}, owes {status['outbox']},"
            f" attempts {status['attempts']}, not told of {self.unreported(journal)}"
        )

    # --- the promises ---

    def early(self) -> list[str]:
        """Ends within the timeout of a message that had been answered before."""
        return [
            f"{journal.conversation_id}: ended at {end.body['proof']['decided_at']}, message {to_wire(told.at)}"
            for journal in self.journals
            for end in self._ends_of(journal)
            if end.body["reason"] == "idle_timeout"
            for told in journal.messages
            if told.answered <= (decided := from_wire(end.body["proof"]["decided_at"]))
            and (told.timeout_seconds == 0 or decided < told.at + told.timeout_seconds * 1_000)
        ]

    def forgotten(self) -> list[str]:
        """Idle and not ended, or ended and not told; answered and not there."""
        found = []
        for journal in self.journals:
            status = self.status[journal.conversation_id]
            if status["state"] is None and journal.messages:
                found.append(f"{journal.conversation_id}: recorded, and not there")
            elif journal.kind == "never" and status["state"] not in (None, "active"):
                found.append(f"{journal.conversation_id}: {status['state']} without a timeout")
            elif journal.paused and status["state"] not in (None, "paused"):
                found.append(f"{journal.conversation_id}: {status['state']} while paused")
            elif not self._is_settled(journal):
                found.append(self._how_it_stands(journal))
        return found

    def repeated(self) -> list[str]:
        """Two ends of one opening, told under two ids."""
        return [
            f"{journal.conversation_id}, opening {generation}: {ids}"
            for journal in self.journals
            for generation, ends in self.ends.get(journal.conversation_id, {}).items()
            if len(ids := {end.body["id"] for end in ends}) != 1
            or len({end.body["opening_id"] for end in ends}) != 1
        ]

    def left_behind(self) -> list[str]:
        """Sessions of the ended that are still there, and of the living that are not; leftover schedules likewise.

        What the backend wrote after the end is its own: its message, repeated until it was too old, reopened nothing.
        """
        found = []
        scheduled = len(self._stack.schedules())
        alive = 0
        for journal in self.journals:
            status = self.status[journal.conversation_id]
            state = status["state"]
            there = bool(self._stack.redis.exists(journal.session))
            alive += journal.kind == "handed over" and state in ("active", "paused")
            if there and state == "ended" and journal.session_at < from_wire(status["ended_at"]):
                found.append(f"{journal.session} is still there: {status['history']}")
            if not there and state in ("active", "paused"):
                found.append(f"{journal.session} is not there: {status['history']}")
        if scheduled > alive:
            found.append(f"{scheduled} schedules for {alive} conversations")
        return found

    def lateness_seconds(self) -> list[float]:
        """Of each end by the timer, from its due time to the decision, sorted."""
        return sorted(
            float(end.body["proof"]["lateness_seconds"])
            for end in self.all_ends()
            if end.body["reason"] == "idle_timeout"
        )

    def all_ends(self) -> Iterator[Outcome]:
        """Every end that was told, as often as it was."""
        for journal in self.journals:
            yield from self._ends_of(journal)

    def _ends_of(self, journal: Journal) -> Iterator[Outcome]:
        for ends in self.ends.get(journal.conversation_id, {}).values():
            yield from ends


def run(deep: bool) -> list[Row]:
    """Rows for the summary: what, figure, kept."""
    return run_size(DEEP if deep else QUICK)


def run_size(size: Size) -> list[Row]:
    """The same, as large as wished."""
    stack = LocalStack(
        build_directory=REPOSITORY / ".aws-sam" / "prove-faults", stack_name="faults", parameters=PARAMETERS
    )
    with stack:
        _shorten_sweep(stack)
        load = Load(stack, size.conversations)
        chaos = Chaos(stack, load, size)
        observer = Observer(stack, load.journals)
        with sweeping(stack):
            _break_things_under(load, chaos)
            settled = observer.wait_until_settled(size.settling)
        observer.look()
        broken = {
            "early": observer.early(),
            "forgotten": observer.forgotten(),
            "repeated": observer.repeated(),
            "left behind": observer.left_behind(),
        }
        met = chaos.met(observer)
    for promise, cases in broken.items():
        for case in cases[:20]:
            print(f"{promise}: {case}")
    unanswered = ", ".join(f"{error} {times}" for error, times in sorted(load.unanswered.items()))
    print(f"    not answered, and repeated by the backend: {unanswered}")
    for each in met:
        word = "" if each.really else "  NOT MET"
        print(f"    {each.fault}: {each.hits}, {each.shown_by}: {each.shown}{word}", flush=True)
    return rows(observer, met, broken, settled=settled)


def _break_things_under(load: Load, chaos: Chaos) -> None:
    over = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        living = pool.submit(load.run, over)
        try:
            chaos.run()
        finally:
            over.set()
        living.result()


def rows(observer: Observer, met: list[Met], broken: dict[str, list[str]], *, settled: bool) -> list[Row]:
    """For the summary."""
    journals = observer.journals
    ends = sum(len(generations) for generations in observer.ends.values())
    late = observer.lateness_seconds() or [0.0]
    kept = settled and not any(broken.values())
    hits, really = sum(each.hits for each in met), sum(each.really for each in met)
    given_up = sum(journal.gave_up for journal in journals)
    calls = sum(journal.sent for journal in journals)
    counts = " / ".join(str(len(cases)) for cases in broken.values())
    return [
        ("Faults survived on the deployed stack", f"{hits if kept else 0:,} of {hits:,}", kept and hits > 0),
        ("  kinds of them that were really met", f"{really} of {len(met)}", really == len(met)),
        ("  conversations, calls, ends", f"{len(journals)}, {calls}, {ends}", ends > 0),
        ("  early / forgotten / repeated / left behind", counts, kept),
        ("  calls that the backend gave up", str(given_up), given_up == 0),
        ("  late, median and most", f"{late[len(late) // 2]:.0f} s, {late[-1]:.0f} s", True),
    ]


def _shorten_sweep(stack: LocalStack) -> None:
    """A version of sweep that gives a lease of a killed run back sooner."""
    client, name = stack.client("lambda"), stack.function_name("sweep")
    client.update_function_configuration(FunctionName=name, Timeout=SWEEP_TIMEOUT_SECONDS)
    version = client.publish_version(FunctionName=name)["Version"]
    client.update_alias(FunctionName=name, Name="live", FunctionVersion=version)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.prove.faults", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the small set")
    parser.add_argument("--conversations", type=int, help="so many instead")
    options = parser.parse_args()
    chosen = QUICK if options.quick else DEEP
    results = run_size(replace(chosen, conversations=options.conversations or chosen.conversations))
    print(table(results))
    sys.exit(not all(kept for _, _, kept in results))
