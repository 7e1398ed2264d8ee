"""What only sweep, redrive and inspect need from the outside, as in `ports`; apart, since touch need not load it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from idle_timer.conversation import Conversation, Hold

if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object  # as in `ports`

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
