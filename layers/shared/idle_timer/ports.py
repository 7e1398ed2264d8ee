"""What the protocol needs from the outside, in the words of the domain. Each call is one effect: a step that can fail.

Adapters (`adapters/`) do these for real; `tests/fakes` does them in memory; one contract test holds both to the same.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from idle_timer.conversation import Conversation, Hold

if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object  # nobody asks at run time, and making these protocols would be 3 % of a start

ScheduleAnswer = Literal["done", "conflict", "absent", "throttled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """The one update of an in-order message. `changes`: policy fields that it brings, by Conversation field name."""

    conversation_id: str
    at: int
    changes: Mapping[str, Any]
    sweep_bucket_ms: int

    def applied_to(self, before: Conversation) -> Conversation:
        """The item after the update."""
        return replace(
            before,
            version=before.version + 1,
            last_activity_at=self.at,
            stage=0,
            stage_at=None,
            sweep_at=self.sweep_bucket_ms + (before.sweep_after_ms or 0),
            **self.changes,
        )


@dataclass(frozen=True, slots=True)
class Recorded:
    """`before`: the item as it was (None: there was none). `after`: the item now, if the update applied."""

    before: Conversation | None
    after: Conversation | None


@dataclass(frozen=True, slots=True)
class Read:
    """One consistent look at an item together with the stack's hold."""

    conversation: Conversation | None
    hold: Hold


@dataclass(frozen=True, slots=True)
class Saved:
    """`done`: written. Otherwise somebody was faster, and `current` is what stands there now (None: nothing)."""

    done: bool
    current: Conversation | None


class Store(Protocol):
    """The conversations, and the small facts beside them."""

    def record(self, activity: Activity) -> Recorded:
        """Move an active, in-order, unencumbered conversation forward, or change nothing and say what is there.

        Applies only if: active; older activity; empty outbox; no failed attempts; a finite timer (`sweep_after_ms`); no
        `not_before`; and the idle timeout, stages and Connect contact that the message brings are already stored.
        """

    def read(self, conversation_id: str) -> Read:
        """Read consistently, the hold included."""

    def save(self, after: Conversation, seen: Conversation | None) -> Saved:
        """Write the whole item, on condition that it is still the version that was seen (None: that there is none)."""

    def delete(self, seen: Conversation) -> Saved:
        """Delete the item, on condition that it is still the version that was seen."""

    def note_timer(self, conversation: Conversation, armed_for: int) -> None:
        """Timer slack: note the due time (epoch ms) for which a schedule was really set.

        Dropped if the opening, the state (`seq`) or the policy have changed since: that timer may have been replaced.
        """

    def link_contact(self, contact_id: str, conversation_id: str, expires_at: int) -> None:
        """Remember whose Amazon Connect contact this is, until `expires_at` (epoch seconds)."""

    def conversation_of_contact(self, contact_id: str) -> str | None:
        """Whose Amazon Connect contact this is, if anybody linked it."""


class Scheduler(Protocol):
    """One-time schedules, named after conversations. Expected refusals are answers; anything else raises."""

    def create(self, conversation_id: str, at: int) -> ScheduleAnswer:
        """done, conflict (exists, or is being changed right now) or throttled. `at`: epoch ms, a whole second."""

    def update(self, conversation_id: str, at: int) -> ScheduleAnswer:
        """done, absent, conflict (is being changed right now) or throttled."""

    def delete(self, conversation_id: str) -> bool:
        """True when there is none now; False when Scheduler refused. Never raises for a refusal."""


class Handover(Protocol):
    """Gives a conversation to the cleanup function."""

    def to_cleanup(self, conversation_id: str, source: str) -> None:
        """Invoke cleanup asynchronously."""


class Outcomes(Protocol):
    """The outcome topic."""

    def publish(self, outcome: Mapping[str, Any]) -> None:
        """Publish one outcome in its wire form (see `messages.outcome`)."""


class Sessions(Protocol):
    """The session store (Redis or Valkey)."""

    def remove(self, session_key: str, opening_id: str) -> bool:
        """Live session -> tombstone. True if there was a session."""

    def restore(self, session_key: str, opening_id: str) -> bool:
        """Tombstone -> live session with its saved time to live, unless a live one stands there. True if it came back."""

    def forget(self, session_key: str, opening_id: str) -> None:
        """Erase session and tombstone."""


class Bots(Protocol):
    """Amazon Lex V2 and Amazon Connect."""

    def delete_lex_session(self, lex: Mapping[str, str]) -> None:
        """Delete the Lex session; one that is already gone is success."""

    def stop_contact(self, contact_id: str) -> None:
        """Stop the Connect contact; one that has already ended is success."""


class CallersCode(Protocol):
    """The caller's own functions, both optional."""

    def may_end(self, conversation: Mapping[str, Any]) -> int:
        """The end check: 0 = yes; otherwise not yet, ask again in so many seconds. Raises if it fails."""

    def run_end_hook(self, outcome: Mapping[str, Any]) -> None:
        """Invoke the end hook and wait for it. Raises if it fails."""


class Clock(Protocol):
    """Time, and waiting for it."""

    def now(self) -> int:
        """Epoch milliseconds."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


class Chance(Protocol):
    """Randomness."""

    def opening_id(self) -> str:
        """A new opening's id: random, so that nothing of an older opening can match it."""

    def jitter(self) -> float:
        """A number from 0 to 1."""


class Telemetry(Protocol):
    """Metrics (names as in the README, "Metrics"; a reason or cause as the second dimension)."""

    def count(self, metric: str, value: float = 1, *, by: str | None = None) -> None:
        """Add to a metric; `by` adds a second data point with the reason or cause as its dimension."""


# --- what only sweep, redrive and inspect need -----------------------------------------------------------------------

FunctionName = Literal["touch", "lifecycle", "cleanup"]


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One entry of the sweep index: a conversation, and when it is to be looked at (epoch ms)."""

    shard: str
    sweep_at: int
    conversation_id: str


@dataclass(frozen=True, slots=True)
class IndexPage:
    """`after`: where the next page starts; None: this was the last."""

    entries: tuple[IndexEntry, ...]
    after: IndexEntry | None


class Overview(Protocol):
    """Many conversations at a time."""

    def entries(
        self, shard: str, *, since: int = 0, until: int, after: IndexEntry | None = None, limit: int = 20
    ) -> IndexPage:
        """A page of one shard in order of time, `since` and `until` included. Eventually consistent: look again."""

    def count(self, shard: str, *, until: int) -> int:
        """How many entries a shard has up to `until`."""

    def read_each(self, conversation_ids: Sequence[str]) -> Mapping[str, Conversation]:
        """The items, at most 100, read consistently; who is not there is left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to sweep, and how far the sweeping got. `cursor`: the last entry that was dealt with."""

    run: str
    handovers: int
    cursor: IndexEntry | None = None
    audit_token: str | None = None


class Leases(Protocol):
    """One sweep at a time."""

    def take(self, run: str, handovers: int, *, now: int, until: int) -> Lease | None:
        """A new run (0 hand-overs) takes a lease that nobody holds; one that was handed over takes its own run's.

        None: somebody else has it, or this very hand-over arrived before. Progress is kept from lease to lease.
        """

    def keep(self, lease: Lease, *, until: int) -> bool:
        """Save the progress and hold the lease until then (0 = give it back). False: it has been lost meanwhile."""


class Holds(Protocol):
    """The switch that stops every end."""

    def read(self) -> tuple[Hold, int]:
        """The windows and their version (0 = never written)."""

    def write(self, hold: Hold, version: int) -> bool:
        """Replace them; False: somebody else did so since that version."""


class Links(Protocol):
    """Whose Amazon Connect contact it is."""

    def unlink_contact(self, contact_id: str) -> None:
        """Forget it; one that is not there is success."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of one of our functions. `key`: whatever tells its reply apart."""

    key: str
    function: FunctionName
    event: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """`answer`, or the `error`'s type and message. Not `reached`: the function did not run at all."""

    answer: Mapping[str, Any] | None = None
    error: str | None = None
    message: str = ""
    reached: bool = True


class Functions(Protocol):
    """Our other functions, invoked and waited for."""

    def call_each(self, calls: Sequence[Call]) -> Iterator[tuple[Call, Reply]]:
        """Several at a time; each reply as it comes. A call that fails has a reply like any other."""


class Continuation(Protocol):
    """A fresh invocation of the sweep itself."""

    def hand_over(self, run: str, handovers: int) -> None:
        """Invoke it asynchronously."""


@dataclass(frozen=True, slots=True)
class SetTimer:
    """A schedule as Scheduler has it: whose, and for when (epoch ms)."""

    conversation_id: str
    at: int


@dataclass(frozen=True, slots=True)
class TimetablePage:
    """`token`: for the next page; None: this was the last."""

    timers: tuple[SetTimer, ...]
    token: str | None


class Timetable(Protocol):
    """All schedules of the group, a page at a time."""

    def page(self, token: str | None) -> TimetablePage | None:
        """At most 50; None: Scheduler refused, which is logged."""


@dataclass(frozen=True, slots=True)
class ParkedEvent:
    """A message of the parked queue."""

    message_id: str
    receipt: str
    body: str
    why: str


class FailureQueues(Protocol):
    """The failure queue and the parked queue."""

    def park(self, body: str, why: str) -> None:
        """Put an event aside for a person; `why`: one of our words, never anything out of the event."""

    def delay(self, receipt: str, seconds: int) -> None:
        """Let a failed event wait so long before it is received again."""

    def parked(self, limit: int) -> Sequence[ParkedEvent]:
        """Look at parked events; they stay where they are."""

    def put_back(self, limit: int) -> int:
        """Move parked events to the failure queue; how many there were."""
