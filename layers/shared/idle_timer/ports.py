"""What the protocol needs from the outside, in the words of the domain. Each call is one effect: a step that can fail.

Adapters (`adapters/`) do these for real; `tests/fakes` does them in memory; one contract test holds both to the same.
"""

from collections.abc import Mapping
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
        """Live session -> tombstone, unless this opening's was restored already. True if there was a session."""

    def restore(self, session_key: str, opening_id: str) -> bool:
        """Tombstone -> live session with its saved time to live, unless a live one stands there. True if it came back.

        Once: afterwards nothing that comes late moves this opening's session any more.
        """

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
