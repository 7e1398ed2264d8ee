"""Five customers on a local stack, built and deployed as on AWS: who is ended, when, why, and what is left.

One keeps talking, one goes silent, one writes while the timer fires, one is handed to an agent, one comes back.
With --trace, the timings of real conversations are replayed instead. Exit code 0 only if all is as promised.
"""

import argparse
import itertools
import logging
import math
import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from botocore.exceptions import BotoCoreError, ClientError
from redis.exceptions import RedisError

from tests.local import trace
from tests.local.promises import (
    LATEST_SECONDS,
    SKEW_SECONDS,
    Promise,
    due_ms,
    from_wire,
    lateness_seconds,
    margin_seconds,
    note_failing_threads,
    now_ms,
    to_wire,
)
from tests.local.screen import Screen, Timeline
from tests.local.stack import (
    Call,
    FunctionError,
    LocalStack,
    LocalStackError,
    Outcome,
    Session,
    eventually,
)

SESSION_SECONDS = 1_800  # that a customer's session has to live
OTHER_SESSION = "session:somebody-else"  # belongs to no conversation of the story
NOTICE_SECONDS = 4  # between the warning and the end
PATIENCE_SECONDS = 20.0  # for anything that has to happen; nothing in the story takes that long
STORY_SECONDS = 60.0
QUIET_SECONDS = 1.5  # after the last end: whatever comes twice, or too much, would come
WARM = {"touch": 3, "lifecycle": 1, "cleanup": 3}  # processes that have started when the story begins


@dataclass
class Ending:
    """An end that has to come, and what came."""

    last_activity: int  # epoch ms, as the customer's own message had it
    timeout_seconds: int
    due: int | None  # epoch ms; None: somebody ends it
    reason: str = "idle_timeout"
    outcome: Outcome | None = None
    session_gone: bool = False


@dataclass
class Customer:
    """One conversation with its session; what it does goes on the timeline."""

    name: str
    colour: str
    play: Callable[["Customer"], None]
    expected: Sequence[str]  # outcomes, in order
    stack: Session
    timeline: Timeline
    start: float  # of the story, epoch seconds
    timeout_seconds: int = 6
    last_activity: int = 0  # epoch ms
    sent: list[int] = field(default_factory=list)  # its messages, epoch ms
    endings: list[Ending] = field(default_factory=list)
    promises: list[Promise] = field(default_factory=list)

    # --- what it does ---

    def sleep_until(self, second: float) -> None:
        """Wait for a second of the story."""
        time.sleep(max(0.0, self.start + second - time.time()))

    def write(self, words: str, **policy: Any) -> dict[str, Any]:
        """Send a message: a touch. Its answer."""
        at = now_ms()
        event = {"conversation_id": self.name, "occurred_at": to_wire(at), **policy}
        answer: dict[str, Any] = self.stack.invoke("touch", event)
        self.last_activity = at
        self.sent.append(at)
        due = from_wire(answer["due_at"]) / 1000 - self.start
        told = f"{answer['result']}, timer {answer['timer']}, due at {due:.1f} s"
        self.timeline.add(at / 1000, self.name, f'"{words}": {told}')
        return answer

    def report(self, action: str, **fields: Any) -> int:
        """What the backend reports about the chat: a lifecycle event. Its time, epoch ms."""
        at = now_ms()
        event = {"action": action, "conversation_id": self.name, "occurred_at": to_wire(at), **fields}
        answer = self.stack.invoke("lifecycle", event)
        why = "".join(f", {value}" for value in fields.values())
        self.timeline.add(
            at / 1000, self.name, f"{action}{why}: {answer['result']}, is now {answer['state']}"
        )
        return at

    # --- what becomes of it ---

    @property
    def session(self) -> dict[str, str]:
        """What is in its Redis session; empty if there is none."""
        found: Any = self.stack.redis.hgetall(f"session:{self.name}")
        return dict(found)

    @property
    def session_word(self) -> str:
        """Whether the session that has to be there is."""
        return "kept" if self.session else "GONE"

    def item(self) -> dict[str, Any]:
        """The conversation as it is stored."""
        found = self.stack.client("dynamodb").get_item(
            TableName=self.stack.outputs["ConversationsTableName"],
            Key={"conversation_id": {"S": self.name}},
            ConsistentRead=True,
        )
        return {name: next(iter(value.values())) for name, value in found.get("Item", {}).items()}

    def outcomes(self, type_: str = "") -> list[Outcome]:
        """What SNS has delivered about it, in order of arrival."""
        return [
            outcome
            for outcome in self.stack.outcomes()
            if outcome.body["conversation_id"] == self.name and type_ in ("", outcome.type)
        ]

    def hear(self, type_: str, count: int = 1) -> Outcome:
        """Wait for an outcome."""
        eventually(
            lambda: len(self.outcomes(type_)) >= count,
            PATIENCE_SECONDS,
            f"{type_} number {count} from SNS",
        )
        return self.outcomes(type_)[count - 1]

    def hear_end(self, due: int | None, reason: str = "idle_timeout") -> Outcome:
        """Wait for an end; it is checked later, with the others."""
        ending = Ending(self.last_activity, self.timeout_seconds, due, reason)
        self.endings.append(ending)
        ending.outcome = self.hear("ConversationEnded", len(self.endings))
        ending.session_gone = not self.session
        self.tell(f"session {'gone from' if ending.session_gone else 'STILL in'} Redis")
        return ending.outcome

    def hear_end_of_silence(self) -> Outcome:
        """Wait for the end that the last message makes due."""
        return self.hear_end(due_ms(self.last_activity, self.timeout_seconds))

    def tell(self, text: str) -> None:
        """Put something on the timeline."""
        self.timeline.add(now_ms() / 1000, self.name, text)

    def promise(self, text: str, kept: bool, figures: str) -> None:
        """Note what this customer alone can show."""
        self.promises.append(Promise(text, kept, figures))


# --- the story -------------------------------------------------------------------------------------------------------


def keep_talking(anna: Customer) -> None:
    """Longer than the timeout, without ever being silent for as long; then silent."""
    for number, words in enumerate(("hello", "my order", "is late", "since Monday", "number 47", "thanks")):
        anna.sleep_until(number * 1.6)
        anna.write(words, **({"idle_timeout": "PT6S"} if number == 0 else {}))
    talked = anna.last_activity / 1000 - anna.start
    anna.promise(
        "who keeps talking is not ended",
        talked > anna.timeout_seconds and not anna.outcomes() and bool(anna.session),
        f"messages over {talked:.1f} s, timeout {anna.timeout_seconds} s, session {anna.session_word}",
    )
    anna.hear_end_of_silence()


def go_silent(ben: Customer) -> None:
    """Warned first, ended later."""
    ben.sleep_until(0.3)
    ben.timeout_seconds = 8
    ben.write("hi", idle_timeout="PT8S", stages=[{"name": "still_there", "after": "PT4S"}])
    warning = ben.hear("ConversationWarned").body
    warned_at = from_wire(warning["proof"]["decided_at"])
    due = due_ms(warned_at, NOTICE_SECONDS)  # a late warning still gives its notice
    ended_at = from_wire(ben.hear_end(due).body["proof"]["decided_at"])
    silence, notice = (warned_at - ben.last_activity) / 1000, (ended_at - warned_at) / 1000
    ben.promise(
        "who goes silent is warned first, and has the full notice",
        warning["stage"] == "still_there"
        and from_wire(warning["ends_at"]) == due
        and silence >= ben.timeout_seconds - NOTICE_SECONDS
        and notice >= NOTICE_SECONDS,
        f"warned after {silence:.1f} s, ended {notice:.1f} s later, notice {NOTICE_SECONDS} s",
    )


def write_while_the_timer_fires(cleo: Customer) -> None:
    """The write that would end the conversation is held until the message has been recorded."""

    def by_cleanup(service: str, *operations: str) -> list[Call]:
        calls = cleo.stack.calls(service, function="cleanup", contains=cleo.name)
        return [call for call in calls if call.operation in operations and call.status]

    cleo.sleep_until(0.6)
    with cleo.stack.faults.hold("dynamodb", "PutItem", function="cleanup", contains=cleo.name) as ending:
        opened = cleo.write("one moment", idle_timeout="PT6S")
        ending.wait_held(timeout=PATIENCE_SECONDS)
        cleo.tell("cleanup found it idle and writes its end: the write is held back, just here")
        answer = cleo.write("found it!")
        cleo.tell("cleanup's write goes on to DynamoDB")
        ending.release()
    eventually(lambda: by_cleanup("dynamodb", "PutItem"), PATIENCE_SECONDS, "an answer to cleanup's write")
    write = by_cleanup("dynamodb", "PutItem")[0]
    cleo.tell(f"DynamoDB: {write.error or 'written'}")
    refused = write.error == "ConditionalCheckFailedException"
    if refused:
        eventually(
            lambda: any(
                call.status == 200 for call in by_cleanup("scheduler", "CreateSchedule", "UpdateSchedule")
            ),
            PATIENCE_SECONDS,
            "cleanup to arm the timer again",
        )
    item, session, armed = cleo.item(), cleo.session_word, cleo.name in cleo.stack.schedules()
    timer = f"timer {'armed' if armed else 'GONE'}"
    cleo.tell(f"is {item.get('state')}, session {session}, {timer}")
    cleo.promise(
        "a message at the very moment the timer fires keeps the conversation open",
        answer["result"] == "recorded"
        and refused
        and item.get("state") == "active"
        and item.get("opening_id") == opened["opening_id"]
        and armed
        and bool(cleo.session)
        and not cleo.outcomes(),
        f"the end was {'refused' if refused else 'WRITTEN'}, session {session}, {timer}",
    )
    cleo.hear_end_of_silence()


def be_handed_to_an_agent(dana: Customer) -> None:
    """The timer leaves alone what a human has; the agent ends it."""
    dana.sleep_until(0.9)
    dana.write("a human, please", idle_timeout="PT6S")
    dana.sleep_until(2)
    dana.report("pause")
    dana.sleep_until(0.9 + dana.timeout_seconds + 1 + SKEW_SECONDS + LATEST_SECONDS)
    silence, state = time.time() - dana.last_activity / 1000, dana.item().get("state")
    dana.tell(f"silent for {silence:.1f} s and {state}: the agent has it")
    dana.promise(
        "who was handed to an agent is not ended by the timer",
        state == "paused" and bool(dana.session) and not dana.outcomes("ConversationEnded"),
        f"{state} after {silence:.1f} s of silence, timeout {dana.timeout_seconds} s, session {dana.session_word}",
    )
    asked_at = dana.report("end", reason="agent_ended")
    took = dana.hear_end(None, "agent_ended").received_at - asked_at / 1000
    dana.promise("an agent's end comes at once", took <= LATEST_SECONDS, f"delivered {took:.2f} s later")


def come_back(evan: Customer) -> None:
    """Ended; reopened by a message, which brings the session back; ended again."""
    evan.sleep_until(1.2)
    evan.write("hello?", idle_timeout="PT6S")
    first = evan.hear_end_of_silence()
    time.sleep(2)
    answer = evan.write("I am back")
    reopened = evan.hear("ConversationReopened").body
    session, to_live = evan.session, evan.stack.redis.ttl(f"session:{evan.name}")
    evan.tell(f"session {'back in' if session else 'NOT in'} Redis, {to_live} s to live")
    evan.promise(
        "who comes back after the end is reopened, session and all",
        answer["result"] == "reopened"
        and evan.endings[0].session_gone
        and session == session_of(evan.name)
        and SESSION_SECONDS - PATIENCE_SECONDS < to_live <= SESSION_SECONDS
        and reopened["opening_id"] != first.body["opening_id"],
        f"{to_live} of its {SESSION_SECONDS} s to live",
    )
    evan.hear_end_of_silence()


CAST = (
    ("anna", "cyan", keep_talking, "keeps talking for longer than her timeout, then falls silent", "Ended"),
    ("ben", "yellow", go_silent, "goes silent: is warned, then ended", "Warned Ended"),
    ("cleo", "magenta", write_while_the_timer_fires, "writes at the very moment the timer fires", "Ended"),
    ("dana", "blue", be_handed_to_an_agent, "is handed to an agent, who ends it later", "Paused Ended"),
    ("evan", "green", come_back, "is ended, and writes again afterwards", "Ended Reopened Ended"),
)


def session_of(name: str) -> dict[str, str]:
    """What the chat product keeps for a customer."""
    return {"customer": name, "cart": "2 items"}


def tell_story(stack: Session, screen: Screen) -> list[Promise]:
    """Play it, live; then what was seen, and what it shows."""
    for name in [member[0] for member in CAST]:
        session: Any = session_of(name)
        stack.redis.hset(f"session:{name}", mapping=session)
        stack.redis.expire(f"session:{name}", SESSION_SECONDS)
    stack.redis.set(OTHER_SESSION, "not in the story")
    screen.heading("Story")
    for name, colour, _, intention, _ in CAST:
        screen.line(f"  {name:<5} {intention}", colour)
    screen.line()

    start = math.ceil(time.time())  # a whole second, as due times are
    time.sleep(start - time.time())
    timeline = Timeline(screen, start, {name: colour for name, colour, *_ in CAST})
    customers = [
        Customer(
            name, colour, play, [f"Conversation{word}" for word in outcomes.split()], stack, timeline, start
        )
        for name, colour, play, _, outcomes in CAST
    ]
    problems = _play(customers, Watch(stack, timeline), timeline)
    _show_ends(screen, customers)
    _show_outcomes(screen, stack, start)
    left = _show_what_is_left(screen, stack, customers)
    return [
        *[Promise(problem, kept=False) for problem in problems],
        *[promise for customer in customers for promise in customer.promises],
        *_judge(customers, stack),
        *left,
    ]


class Watch:
    """Sees what nobody in the story does: timers firing, and what SNS delivers."""

    def __init__(self, stack: Session, timeline: Timeline) -> None:
        self._stack = stack
        self._timeline = timeline
        self._last_call = stack.last_call
        self._delivered = 0

    def look(self) -> None:
        """Put what is new on the timeline."""
        names = [name for name, *_ in CAST]
        for call in self._stack.calls(since=self._last_call):
            self._last_call = call.number
            if call.operation == "Invoke" and call.principal == "scheduler.amazonaws.com":
                name = call.params["Payload"]["conversation_id"]
                if name in names:
                    self._timeline.add(call.time, name, "the timer fires")
        outcomes = self._stack.outcomes()
        for outcome in outcomes[self._delivered :]:
            body = outcome.body
            reason = f" ({body['reason']})" if "reason" in body else ""
            proof = body.get("proof", {})
            late = f", {proof['lateness_seconds']:.1f} s after it was due" if "source" in proof else ""
            self._timeline.add(
                outcome.received_at, body["conversation_id"], f"SNS: {outcome.type}{reason}{late}"
            )
        self._delivered = len(outcomes)


def _play(customers: Sequence[Customer], watch: Watch, timeline: Timeline) -> list[str]:
    """Everybody at once; what went wrong."""
    problems = note_failing_threads()
    threads = [
        threading.Thread(target=customer.play, args=(customer,), name=customer.name, daemon=True)
        for customer in customers
    ]
    for thread in threads:
        thread.start()
    deadline, over_at = time.monotonic() + STORY_SECONDS, float("inf")
    while time.monotonic() < min(deadline, over_at + QUIET_SECONDS):
        watch.look()
        timeline.show()
        if over_at == float("inf") and not any(thread.is_alive() for thread in threads):
            over_at = time.monotonic()
        time.sleep(0.1)
    timeline.show(everything=True)
    return [
        *problems,
        *[f"{thread.name}: not over after {STORY_SECONDS:.0f} s" for thread in threads if thread.is_alive()],
    ]


# --- what came of it -------------------------------------------------------------------------------------------------


def _show_ends(screen: Screen, customers: Sequence[Customer]) -> None:
    screen.heading("When each was last active, due and ended (seconds since the start)")
    rows, colours = [], []
    for customer in customers:
        for number, ending in enumerate(customer.endings, 1):
            cells = [
                customer.name,
                f"{number} of {len(customer.endings)}",
                f"{ending.last_activity / 1000 - customer.start:.1f}",
                f"{ending.timeout_seconds} s",
                f"{ending.due / 1000 - customer.start:.1f}" if ending.due else "when told",
            ]
            if ending.outcome is None:
                cells += ["NEVER", "-", "-", "-"]
            else:
                body = ending.outcome.body
                ended_at = from_wire(body["occurred_at"]) / 1000 - customer.start
                late = f"{lateness_seconds(body, ending.due):.2f} s" if ending.due else "-"
                session = "gone" if ending.session_gone else "STILL THERE"
                cells += [f"{ended_at:.1f}", late, str(body["reason"]), session]
            rows.append(cells)
            colours.append(customer.colour)
    header = ("customer", "end", "last active", "timeout", "due", "ended", "late", "reason", "session")
    screen.table(header, rows, colours)
    screen.line(f"  Of each lateness, {SKEW_SECONDS:.0f} s is waited on purpose: clocks may differ.")


def _show_outcomes(screen: Screen, stack: Session, start: float) -> None:
    outcomes = stack.outcomes()
    screen.heading(f"What SNS delivered: {len(outcomes)} outcomes")
    colours = {name: colour for name, colour, *_ in CAST}
    screen.table(
        ("at", "customer", "type", "reason", "generation", "id"),
        [
            (
                f"{outcome.received_at - start:.1f}",
                str(outcome.body["conversation_id"]),
                outcome.type,
                str(outcome.body.get("reason", outcome.body.get("stage", "-"))),
                str(outcome.body["generation"]),
                str(outcome.body["id"]),
            )
            for outcome in outcomes
        ],
        [colours.get(str(outcome.body["conversation_id"]), "") for outcome in outcomes],
    )


def _show_what_is_left(screen: Screen, stack: Session, customers: Sequence[Customer]) -> list[Promise]:
    screen.heading("What is left")
    sessions = sorted(str(key) for key in stack.redis.scan_iter("session:*"))
    tombstones = list(stack.redis.scan_iter("idle-timer:tombstone:*"))
    mortal = [key for key in tombstones if stack.redis.ttl(key) > 0]
    schedules = stack.schedules()
    items = [customer.item() for customer in customers]
    finished = [item for item in items if item.get("state") == "ended" and not item["outbox"]]
    failed = trace.failed_events(stack)
    screen.line(f"  Redis      sessions: {', '.join(sessions) or 'none'}")
    screen.line(f"             tombstones, to undo an end: {len(tombstones)}, {len(mortal)} of them expiring")
    screen.line(f"  Scheduler  schedules: {', '.join(schedules) or 'none'}")
    screen.line(f"  DynamoDB   {len(finished)} of {len(items)} conversations ended, with nothing owed")
    screen.line(f"  SQS        failed events: {failed}")
    return [
        Promise("no schedule is left", not schedules),
        Promise(
            "no session of an ended conversation is left, and no other is touched",
            sessions == [OTHER_SESSION],
        ),
        Promise("whatever is kept to undo an end expires", len(mortal) == len(tombstones)),
        Promise("nothing is owed and nothing has failed", len(finished) == len(items) and failed == 0),
    ]


def _judge(customers: Sequence[Customer], stack: Session) -> list[Promise]:
    """What holds for every end, whoever's it is."""
    endings = [ending for customer in customers for ending in customer.endings]
    heard = [(ending, ending.outcome.body) for ending in endings if ending.outcome]
    silent = [(ending, body, ending.due) for ending, body in heard if ending.due]
    margins = [
        margin
        for customer in customers
        for outcome in customer.outcomes("ConversationEnded")
        for margin in _margins(customer, outcome)
    ]
    late = [lateness_seconds(body, due) for _, body, due in silent]
    proven = all(
        from_wire(body["proof"]["last_activity_at"]) == ending.last_activity
        and from_wire(body["proof"]["due_at"]) == due
        and body["proof"]["idle_timeout_seconds"] == ending.timeout_seconds
        for ending, body, due in silent
    )
    ends = [outcome.body for customer in customers for outcome in customer.outcomes("ConversationEnded")]
    openings, ids = Counter(body["opening_id"] for body in ends), {body["id"] for body in ends}
    expected_ends = sum(name == "ConversationEnded" for customer in customers for name in customer.expected)
    in_order = [
        customer.name
        for customer in customers
        if [outcome.type for outcome in customer.outcomes()] == customer.expected
        and _increasing([int(outcome.body["seq"]) for outcome in customer.outcomes()])
    ]
    strangers = {str(outcome.body["conversation_id"]) for outcome in stack.outcomes()} - {
        customer.name for customer in customers
    }
    return [
        Promise(
            "never early: nobody was ended before the whole timeout had passed",
            bool(margins) and min(margins) >= 0,
            f"the soonest {min(margins, default=0):.2f} s after it",
        ),
        Promise(
            f"in time: within {LATEST_SECONDS:.0f} s of the due time and its {SKEW_SECONDS:.0f} s of allowance",
            len(heard) == len(endings) and bool(late) and max(late) <= SKEW_SECONDS + LATEST_SECONDS,
            f"the latest {max(late, default=0):.2f} s after it was due",
        ),
        Promise(
            "once: one ConversationEnded for each end",
            len(ends) == len(openings) == len(ids) == expected_ends
            and all(body["reason"] == ending.reason for ending, body in heard),
            f"{len(ends)} for {expected_ends} ends",
        ),
        Promise(
            "in the right order, and nothing else",
            len(in_order) == len(customers) and not strangers,
            f"{len(stack.outcomes())} outcomes",
        ),
        Promise(
            "every end carries its proof: activity, timeout and due time as counted here",
            proven and bool(silent),
        ),
    ]


def _margins(customer: Customer, end: Outcome) -> list[float]:
    """Seconds after the whole timeout, by the outcome's own word and by the messages sent before it came."""
    if end.body["reason"] != "idle_timeout":
        return []
    said = from_wire(end.body["proof"]["last_activity_at"])
    last = max(at for at in customer.sent if at <= end.received_at * 1000)
    return [
        margin_seconds(end.body, said, customer.timeout_seconds),
        end.received_at - last / 1000 - customer.timeout_seconds,
    ]


def _increasing(numbers: Sequence[int]) -> bool:
    return all(later > earlier for earlier, later in itertools.pairwise(numbers))


# --- the command -----------------------------------------------------------------------------------------------------


def warm_up(stack: Session, counts: dict[str, int]) -> None:
    """Start processes of each function, so that no cold start is taken for lateness: by events that change nothing."""
    nobody = {"version": 1, "conversation_id": "nobody", "source": "outbox"}

    def start(function: str) -> None:
        if function == "cleanup":
            stack.invoke(function, nobody)
            return
        try:
            stack.invoke(function, {})
        except FunctionError as error:
            if error.type != "InvalidEventError":
                raise

    with ThreadPoolExecutor(max(counts.values())) as pool:
        for function, count in counts.items():
            list(pool.map(start, [function] * count))


_STEPS = {"sam build": "building: sam build", "sam deploy": "deploying onto emulated AWS: sam deploy"}


class _Steps(logging.Formatter):
    """What the local stack is doing, with the seconds since the start."""

    def __init__(self, started: float) -> None:
        super().__init__()
        self._started = started

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        return f"  {time.monotonic() - self._started:4.0f} s  {_STEPS.get(text, text)}"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, instead of the whole usage."""
        self.exit(2, f"demo: {message}; --help says more\n")


def parse_options(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line; ends the program where it is wrong."""
    parser = _Parser(
        prog="make demo",
        usage="make demo [TRACE=file.csv [SPEED=60] [LIMIT=40]]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""
TRACE  CSV with the header conversation,minute,speaker: one line per message, the minute counted from the
       conversation's first message. Starts are staggered and messages spread within their minute, by a fixed seed.
SPEED  how many times faster than real. The idle timeout is 300 s / SPEED, but at least 5 s. Refused where the
       machine cannot keep up.
LIMIT  how many conversations of the file.

What must hold for each gap between two messages: shorter than the timeout, the conversation is not ended; longer
than the timeout and all that may be late, it is ended once and reopened. Gaps in between are not judged, and counted.
""",
    )
    parser.add_argument("--trace", metavar="FILE", type=Path, help="replay the timings in this file")
    parser.add_argument("--speed", metavar="N", help=f"times faster than real (default: {trace.SPEED:g})")
    parser.add_argument("--limit", metavar="N", help=f"conversations (default: {trace.LIMIT})")
    options = parser.parse_args(arguments)
    if options.trace is None and (options.speed or options.limit):
        parser.error("SPEED and LIMIT go with TRACE")
    try:
        options.replay = options.trace and trace.prepare(
            options.trace,
            trace.parse_speed(options.speed) if options.speed is not None else trace.SPEED,
            trace.parse_limit(options.limit) if options.limit is not None else trace.LIMIT,
        )
    except trace.TraceError as error:
        parser.error(str(error))
    return options


def run(options: argparse.Namespace, started: float) -> bool:
    """Build, deploy, run, tell; whether all was as promised."""
    screen = Screen(sys.stdout)
    screen.heading("Idle Timer on this machine: nothing leaves it, and nothing stays")
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_Steps(started))
    logger = logging.getLogger("tests.local")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    replay: trace.Replay | None = options.replay
    parameters = {
        "ClockSkewAllowanceMs": int(SKEW_SECONDS * 1000),
        "IdleTimeoutSeconds": replay.timeout_seconds if replay else 300,
    }
    with tempfile.TemporaryDirectory(prefix="idle-timer-demo-") as folder:
        os.environ["TMPDIR"] = folder  # sam leaves temporary folders where this points
        with LocalStack(parameters=parameters) as stack:
            try:
                logger.info("starting the functions")
                if replay:
                    warm_up(stack, {"touch": trace.CALLERS, "cleanup": trace.CALLERS})
                    promises = replay.run(stack, screen)
                else:
                    warm_up(stack, WARM)
                    promises = tell_story(stack, screen)
                return screen.verdict(promises, time.monotonic() - started)
            finally:
                _leave_undisturbed()


def _leave_undisturbed() -> None:
    """Whatever is removed from now on is removed completely."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _stop(number: int, _: object) -> NoReturn:
    _leave_undisturbed()
    raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)


def main() -> int:
    """Run the command line; returns the exit code."""
    started = time.monotonic()
    options = parse_options(sys.argv[1:])
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        return 0 if run(options, started) else 1
    except KeyboardInterrupt:
        print("\nstopped; everything is removed", file=sys.stderr)
        return 130
    except trace.TraceError as error:
        print(f"demo: {error}", file=sys.stderr)
    except (
        LocalStackError,
        FunctionError,
        TimeoutError,
        BotoCoreError,
        ClientError,
        RedisError,
    ) as error:
        print(f"demo: failed: {error}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
