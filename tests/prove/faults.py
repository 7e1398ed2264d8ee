"""The promises on the deployed local stack, while things really break: a load, its faults, and a verifier outside.

Hundreds of conversations live at once: silent, coming back, handed to a human, ended by the backend, never timed out.
Meanwhile functions are killed in the middle of their work, schedules vanish, the topic refuses, Scheduler throttles,
Valkey is stopped and started, the emulator is restarted with its state. The verifier sees only what somebody outside
can see: the answers to the backend, the outcomes, the sessions, the schedules, and what inspect says.

`python -m tests.prove.faults [--quick] [--conversations N]` prints what it saw.
"""

import argparse
import itertools
import random
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import redis
from botocore.exceptions import BotoCoreError, ClientError

from tests.local.promises import from_wire, now_ms, to_wire
from tests.local.stack import REPOSITORY, Fault, FunctionError, LocalStack, Outcome
from tests.prove.summary import Row, table

SEED = 20
AT_ONCE = 8  # calls of the backend; the emulator has two cores
PARAMETERS = {
    "MaxAttempts": 50,  # nobody is to be parked: every fault goes away
    "RedriveDelaySeconds": 1,
    "SweepGraceSeconds": 2,
    "SweepPeriodMinutes": 1,
}
SWEEP_SECONDS = 4.0
SWEEP_TIMEOUT_SECONDS = 20  # a sweep that is killed keeps its lease for this, and a minute
AWAY = (BotoCoreError, ClientError, FunctionError, redis.RedisError)

CRASHES = [
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


@dataclass(frozen=True)
class Size:
    """How much of it; times in seconds."""

    conversations: int
    arriving: float
    outage: float
    crashes: int  # at each point, before and after the call
    settling: float  # at most, after the last fault
    restart: bool


DEEP = Size(conversations=210, arriving=70.0, outage=5.0, crashes=3, settling=150.0, restart=True)
QUICK = Size(conversations=24, arriving=8.0, outage=2.0, crashes=1, settling=40.0, restart=False)


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
    paused: bool = False  # as the backend was told

    @property
    def session(self) -> str:
        """Its session's key."""
        return f"session:{self.conversation_id}"


class Load:
    """The chat backend: it repeats what was not answered, with the same time, as the contract asks of it."""

    def __init__(self, stack: LocalStack, size: Size) -> None:
        self._stack = stack
        self._chance = random.Random(SEED)  # noqa: S311 - a load, not a secret
        self._turn = threading.Semaphore(AT_ONCE)
        self._patience = size.arriving + 60
        kinds = itertools.cycle(["silent", "silent", "chatty", "returning", "handed over", "ended", "never"])
        self.journals = [Journal(f"faults-{number}-é", next(kinds)) for number in range(size.conversations)]
        self._starts = sorted(self._chance.uniform(0, size.arriving) for _ in self.journals)
        self._gaps = [[self._chance.uniform(0.5, 3.0) for _ in range(4)] for _ in self.journals]

    def run(self) -> None:
        """All conversations, until each has been left."""
        with ThreadPoolExecutor(len(self.journals)) as pool:
            began = time.monotonic()
            lives = [
                pool.submit(self._live, journal, began + start, gaps)
                for journal, start, gaps in zip(self.journals, self._starts, self._gaps, strict=True)
            ]
            for life in lives:
                life.result()

    def _live(self, journal: Journal, start: float, gaps: list[float]) -> None:
        time.sleep(max(0.0, start - time.monotonic()))
        self._session(journal)
        timeout = {"handed over": 600, "never": 0}.get(journal.kind, 4)
        self._touch(journal, timeout)
        match journal.kind:
            case "chatty":
                for gap in gaps:
                    time.sleep(gap)
                    self._touch(journal, timeout)
            case "returning":
                time.sleep(timeout + 3 + gaps[0])
                self._session(journal)
                self._touch(journal, timeout)
            case "handed over":
                answer = self._lifecycle(journal, "pause")
                journal.paused = answer is not None and answer["state"] == "paused"
            case "ended":
                time.sleep(gaps[0])
                self._lifecycle(journal, "end")
            case _:
                time.sleep(gaps[0])
                self._touch(journal, timeout)

    def _session(self, journal: Journal) -> None:
        self._insist(lambda: self._stack.redis.set(journal.session, "basket", ex=3_600), journal)

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

    def _lifecycle(self, journal: Journal, action: str) -> Any:
        event = {
            "action": action,
            "conversation_id": journal.conversation_id,
            "occurred_at": to_wire(now_ms()),
        }
        return self._insist(lambda: self._stack.invoke("lifecycle", event), journal)

    def _insist(self, call: Callable[[], Any], journal: Journal) -> Any:
        deadline = time.monotonic() + self._patience
        journal.sent += 1
        while time.monotonic() < deadline:
            with self._turn, suppress(*AWAY):
                return call()
            time.sleep(0.5)
        journal.gave_up += 1
        return None


class Chaos:
    """What goes wrong, for real; counts what was met."""

    def __init__(self, stack: LocalStack, size: Size) -> None:
        self._stack = stack
        self._size = size
        self._set: list[tuple[str, Fault]] = []
        self.met = Counter[str]()

    def run(self) -> None:
        """One thing after the other."""
        outage = self._size.outage
        self._crashes(after=False)  # each waits for the call that it is meant for
        time.sleep(2 * outage)
        with self._refusing("the topic refuses", "sns", "Publish", "InternalError", 500):
            time.sleep(outage)
        self._stack.stop_valkey()
        time.sleep(outage)
        self._stack.start_valkey()
        self.met["Valkey stopped and started"] += 1
        self._lose_schedules()
        with (
            self._refusing("Scheduler throttles", "scheduler", "CreateSchedule", "ThrottlingException", 429),
            self._refusing("Scheduler throttles", "scheduler", "UpdateSchedule", "ThrottlingException", 429),
        ):
            time.sleep(outage)
        with self._refusing("the table throttles", "dynamodb", "PutItem", "ThrottlingException", 400):
            time.sleep(outage / 2)
        if self._size.restart:
            self._note()
            self._restart()
        self._crashes(after=True)
        time.sleep(2 * outage)
        self._lose_schedules()

    def finish(self) -> None:
        """Nothing goes wrong any more."""
        self._note()

    def _crashes(self, *, after: bool) -> None:
        word = "a function killed after a call" if after else "a function killed instead of a call"
        for function, service, operation in CRASHES:
            fault = self._stack.faults.crash(
                service, operation, function=function, times=self._size.crashes, after=after
            )
            self._set.append((word, fault))

    @contextmanager
    def _refusing(self, word: str, service: str, operation: str, code: str, status: int) -> Iterator[None]:
        fault = self._stack.faults.refuse(service, operation, code, status, times=0, function="faults-")
        yield
        with suppress(TimeoutError):  # a slow machine comes to it later
            fault.wait_hit(timeout=5 * self._size.outage)
        fault.remove()
        self.met[word] += fault.hits

    def _note(self) -> None:
        for word, fault in self._set:
            self.met[word] += fault.hits
        self._set.clear()
        self._stack.faults.clear()

    def _lose_schedules(self) -> None:
        """Every third schedule, behind the application's back."""
        group = self._stack.outputs["ScheduleGroupName"]
        for name in self._stack.schedules()[::3]:
            with suppress(ClientError):
                self._stack.client("scheduler").delete_schedule(Name=name, GroupName=group)
                self.met["schedules lost"] += 1

    def _restart(self) -> None:
        """With whatever is under way: events that wait in Lambda are lost, and functions end."""
        self._stack.restart_emulator(keep_state=True)
        self.met["emulator restarted"] += 1


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


class Observer:
    """Somebody outside."""

    def __init__(self, stack: LocalStack, journals: list[Journal]) -> None:
        self._stack = stack
        self.journals = journals
        self.status: dict[str, dict[str, Any]] = {}
        self.ends: dict[str, dict[int, list[Outcome]]] = {}

    def wait_until_settled(self, timeout: float) -> bool:
        """Until nothing is due or owed any more."""
        deadline = time.monotonic() + timeout
        while True:
            with suppress(*AWAY):
                self.look()
                if all(self._is_settled(journal) for journal in self.journals):
                    return True
            if time.monotonic() > deadline:
                return False
            time.sleep(1.0)

    def look(self) -> None:
        """Collect the outcomes, and ask inspect about everybody for whom something may still change."""
        ends: dict[str, dict[int, list[Outcome]]] = defaultdict(lambda: defaultdict(list))
        for outcome in self._stack.outcomes():
            if outcome.type == "ConversationEnded":
                ends[outcome.body["conversation_id"]][outcome.body["generation"]].append(outcome)
        self.ends = ends
        ids = [
            journal.conversation_id
            for journal in self.journals
            if journal.conversation_id not in self.status or not self._is_settled(journal)
        ]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            self.status |= zip(ids, pool.map(self._ask, ids), strict=True)

    def _ask(self, conversation_id: str) -> dict[str, Any]:
        event = {"action": "status", "conversation_id": conversation_id}
        answer: dict[str, Any] = self._stack.invoke("inspect", event)
        return answer

    def _is_settled(self, journal: Journal) -> bool:
        status = self.status[journal.conversation_id]
        if status["state"] is None or status["outbox"] or status["attempts"]:
            return status["state"] is None
        if journal.kind in ("never", "handed over"):
            return True
        return status["state"] == "ended" and not self.unreported(journal)

    def unreported(self, journal: Journal) -> list[int]:
        """Generations that are over, and of whose end nobody was told."""
        status = self.status[journal.conversation_id]
        if status["state"] is None:
            return []
        over = int(status["generation"]) - (status["state"] != "ended")
        known = self.ends.get(journal.conversation_id, {})
        return [generation for generation in range(1, over + 1) if generation not in known]

    # --- the promises ---

    def early(self) -> list[str]:
        """Ends within the timeout of a message that had been answered before."""
        return [
            f"{journal.conversation_id}: ended at {end.body['proof']['decided_at']}, message {to_wire(told.at)}"
            for journal in self.journals
            for end in self._all_ends(journal)
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
                found.append(
                    f"{journal.conversation_id} ({journal.kind}): {status['state']}, owes {status['outbox']},"
                    f" attempts {status['attempts']}, not told of {self.unreported(journal)}"
                )
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

    def sessions(self) -> list[str]:
        """Sessions of the ended that are still there, and of the living that are not; leftover schedules likewise."""
        found = []
        scheduled = len(self._stack.schedules())
        alive = 0
        for journal in self.journals:
            state = self.status[journal.conversation_id]["state"]
            there = bool(self._stack.redis.exists(journal.session))
            alive += journal.kind == "handed over" and state in ("active", "paused")
            if (state == "ended") is there and state is not None:
                found.append(f"{journal.session} is {'still' if there else 'not'} there: {state}")
        if scheduled > alive:
            found.append(f"{scheduled} schedules for {alive} conversations")
        return found

    def lateness_seconds(self) -> list[float]:
        """Of each end by the timer, from its due time to the decision, sorted."""
        return sorted(
            float(end.body["proof"]["lateness_seconds"])
            for journal in self.journals
            for end in self._all_ends(journal)
            if end.body["reason"] == "idle_timeout"
        )

    def _all_ends(self, journal: Journal) -> Iterator[Outcome]:
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
        load, chaos = Load(stack, size), Chaos(stack, size)
        observer = Observer(stack, load.journals)
        began = time.monotonic()
        with sweeping(stack), ThreadPoolExecutor(2) as pool:
            working = [pool.submit(load.run), pool.submit(chaos.run)]
            for each in working:
                each.result()
            chaos.finish()
            print(f"load and faults over after {time.monotonic() - began:.0f} s", flush=True)
            settled = observer.wait_until_settled(size.settling)
            print(f"settled after {time.monotonic() - began:.0f} s" if settled else "not settled", flush=True)
        observer.look()
        broken = {
            "early": observer.early(),
            "forgotten": observer.forgotten(),
            "repeated": observer.repeated(),
            "session or schedule wrong": observer.sessions(),
        }
    for promise, cases in broken.items():
        for case in cases[:20]:
            print(f"{promise}: {case}")
    for fault, times in sorted(chaos.met.items()):
        print(f"fault: {fault}: {times}")
    return _rows(load, chaos, observer, broken, settled=settled)


def _rows(
    load: Load, chaos: Chaos, observer: Observer, broken: dict[str, list[str]], *, settled: bool
) -> list[Row]:
    journals = load.journals
    ends = sum(1 for journal in journals for _ in observer.ends.get(journal.conversation_id, {}))
    late = observer.lateness_seconds()
    kept = settled and not any(broken.values())
    injected = chaos.met.total()
    given_up = sum(journal.gave_up for journal in journals)
    calls = sum(journal.sent for journal in journals)
    median, most = (late[len(late) // 2], late[-1]) if late else (0.0, 0.0)
    counts = ", ".join(str(len(cases)) for cases in broken.values())
    return [
        ("faults: conversations, calls, ends", f"{len(journals)}, {calls}, {ends}", ends > 0),
        ("faults: early, forgotten, repeated, left behind", counts, kept),
        (
            "faults: injected, survived",
            f"{injected}, {injected if kept else 0}",
            kept and injected > 0,
        ),
        ("faults: calls that the backend gave up", str(given_up), True),
        ("faults: lateness, median and most", f"{median:.1f} s, {most:.1f} s", True),
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
