"""The sweep: whatever was lost on the way, an idle conversation is found here, and handed to cleanup.

Runs by the clock, without Scheduler. Goes through the index shard by shard, watches its own Lambda deadline, and goes on
in a fresh invocation where it has to stop.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from aws_lambda_powertools import Logger
from pydantic import BaseModel, ConfigDict, Field

from idle_timer import conversation as rules
from idle_timer import messages
from idle_timer.attempts import Attempts
from idle_timer.conversation import Conversation
from idle_timer.deadline import LambdaContext, guard
from idle_timer.errors import DeadlineError, UnavailableError
from idle_timer.ports import Chance, Clock, Telemetry
from idle_timer.timestamps import SECOND_MS
from idle_timer.upkeep_ports import (
    Call,
    Continuation,
    Functions,
    Holds,
    IndexEntry,
    Lease,
    Leases,
    Overview,
    Reply,
    SetTimer,
    Timetable,
)
from idle_timer.upkeep_settings import SweepSettings

PAGE = 20  # conversations per batch
MARGIN_SECONDS = 3.0  # for saving the cursor and handing over, each a call of tens of milliseconds
LEAST_PAGE_SECONDS = 1.0  # no page is begun with less; a slow page raises this
LEASE_SLACK_SECONDS = 60  # beyond the Lambda's end: a hand-over may wait in Lambda's queue

_logger = Logger(child=True)


class HandedOver(BaseModel):
    """What the sweep sends to itself. Any other event begins a new run."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", hide_input_in_errors=True)

    version: Literal[1]
    source: Literal["handover"]
    run: Annotated[str, Field(min_length=1, max_length=64)]
    handovers: Annotated[int, Field(ge=1, le=100)]


@dataclass
class _Progress:
    """What an invocation has done so far; still there when its alarm rings in the middle."""

    lease: Lease
    tally: Counter[str] = field(default_factory=Counter)
    repaired: Counter[str] = field(default_factory=Counter)
    slowest_page_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """Finds, hands over, counts; never ends anything itself."""

    settings: SweepSettings
    overview: Overview
    leases: Leases
    holds: Holds
    functions: Functions
    attempts: Attempts
    timetable: Timetable
    continuation: Continuation
    clock: Clock
    chance: Chance
    telemetry: Telemetry

    def sweep(self, event: Any, context: LambdaContext) -> dict[str, Any]:
        """One invocation: of a new run, or of one that was handed over.

        `result`: finished, handed_over, stopped (after the allowed hand-overs; the next run goes on from there), busy
        (another sweep is at it) or resting. Raises UnavailableError where cleanup could not be invoked, InvalidEventError.
        """
        handed = self._handed_over(event)
        if self.settings.mode == "shadow" or self.holds.read()[0].is_open(self.clock.now()):
            return {"result": "resting", "overdue": self._count_overdue()}
        run, handovers = (handed.run, handed.handovers) if handed else (self.chance.opening_id(), 0)
        remaining_seconds = context.get_remaining_time_in_millis() / 1_000
        lease = self.leases.take(
            run, handovers, now=self.clock.now(), until=self._lease_until(remaining_seconds)
        )
        if lease is None:
            return {"run": run, "handovers": handovers, "result": "busy"}
        progress = _Progress(lease)
        try:
            with guard(context, MARGIN_SECONDS) as deadline:
                finished = self._all_pages(progress, deadline)
                if finished:
                    self._audit(progress, deadline)
        except DeadlineError:
            finished = False  # the page it was at is looked at again: what it did is seen on the items
        result = self._finish(progress) if finished else self._go_on_later(progress)
        self.telemetry.count("Overdue", progress.tally["overdue"])
        if progress.tally["unreached"]:
            raise UnavailableError("cleanup could not be invoked for what is overdue")
        if progress.tally["not_swept"]:
            raise UnavailableError(f"{progress.tally['not_swept']} shards were not swept: see the log")
        return self._answer(progress, result)

    # --- page by page ---

    def _all_pages(self, progress: _Progress, deadline: guard) -> bool:
        """Whether everything has been looked at; else the cursor says how far."""
        cursor = progress.lease.cursor
        # Hosts' clocks differ a little, and a query refuses a start beyond its bounds.
        until = max(self.clock.now(), cursor.sweep_at if cursor else 0)
        shards = self._shards()
        for shard in shards[shards.index(cursor.shard) if cursor and cursor.shard in shards else 0 :]:
            after = cursor if cursor and cursor.shard == shard else None
            try:
                if not self._one_shard(shard, after, until, progress, deadline):
                    return False
            except Exception as error:  # noqa: BLE001 - one shard's trouble must not keep the others from being swept
                _logger.error("a shard was not swept", extra={"shard": shard, "error": type(error).__name__})
                progress.tally["not_swept"] += 1
        return True

    def _one_shard(
        self, shard: str, after: IndexEntry | None, until: int, progress: _Progress, deadline: guard
    ) -> bool:
        while True:
            began = deadline.remaining()
            if began < max(LEAST_PAGE_SECONDS, 1.5 * progress.slowest_page_seconds):
                return False
            page = self.overview.entries(shard, until=until, after=after, limit=PAGE)
            self._hand_to_cleanup(page.entries, until, progress)
            if progress.tally["unreached"]:
                return False  # cleanup is throttled or gone: the next sweep begins with this page
            progress.slowest_page_seconds = max(progress.slowest_page_seconds, began - deadline.remaining())
            if page.entries:
                progress.lease = replace(progress.lease, cursor=page.entries[-1])
                lease_until = self._lease_until(deadline.remaining() + MARGIN_SECONDS)
                if not self.leases.keep(progress.lease, until=lease_until):
                    return False
            if page.after is None:
                return True
            after = page.after

    def _shards(self) -> list[str]:
        numbers = [f"{number:02d}" for number in range(self.settings.sweep_shards)]
        return [*numbers, *(f"{rules.PARKED_PREFIX}{number}" for number in numbers)]

    def _hand_to_cleanup(self, entries: tuple[IndexEntry, ...], until: int, progress: _Progress) -> None:
        items = self.overview.read_each([entry.conversation_id for entry in entries]) if entries else {}
        calls = [call for item in items.values() if (call := self._call(item, until)) is not None]
        for call, reply in self.functions.call_each(calls):
            self._note(items[call.key], call, reply, progress)

    def _call(self, item: Conversation, until: int) -> Call | None:
        """The index lags behind: only what the item itself says counts."""
        if rules.is_parked(item):
            owed = any(rules.is_failure_notice(entry) for entry in item.outbox.values())
            return _cleanup(item.conversation_id, "outbox") if owed else None
        overdue = item.sweep_at is not None and item.sweep_at <= until
        return _cleanup(item.conversation_id, "sweep") if overdue else None

    def _note(self, item: Conversation, call: Call, reply: Reply, progress: _Progress) -> None:
        tally = progress.tally
        if call.event["source"] == "outbox":  # tried again at the next sweep
            tally["notices"] += reply.error is None
            return
        tally["overdue"] += reply.reached
        tally["unreached"] += not reply.reached
        if not reply.reached:
            return
        if reply.answer is None:
            tally["parked" if self._count_failure(item) == "parked" else "failed"] += 1
        elif reply.answer.get("decision") in ("ended", "warned") or item.outbox:
            cause = self._cause(item)
            progress.repaired[cause] += 1
            self.telemetry.count("SweepRepaired", by=cause)

    def _count_failure(self, item: Conversation) -> str:
        try:
            return self.attempts.failed(item.conversation_id)
        except Exception as error:  # noqa: BLE001 - the others of its batch are still to be counted
            _logger.warning("a failed attempt was not counted", extra={"error": type(error).__name__})
            return "not_counted"

    def _cause(self, item: Conversation) -> str:
        """Why nobody but the sweep came for it."""
        if item.attempts:
            return "failed"
        due = rules.due_at(item, self.settings)
        if item.outbox and (due is None or self.clock.now() < due):
            return "outbox"
        return "never_armed" if item.last_activity_at == item.opened_at else "lost"

    # --- the audit ---

    def _audit(self, progress: _Progress, deadline: guard) -> None:
        """A page of schedules: those of conversations that are over, or that should have fired long ago, go to cleanup."""
        if deadline.remaining() < LEAST_PAGE_SECONDS:
            return
        page = self.timetable.page(progress.lease.audit_token)
        if page is None:
            return
        progress.lease = replace(progress.lease, audit_token=page.token)
        items = self.overview.read_each([timer.conversation_id for timer in page.timers])
        odd = [timer for timer in page.timers if self._is_odd(timer, items.get(timer.conversation_id))]
        calls = [_cleanup(timer.conversation_id, "sweep") for timer in odd]
        for _, reply in self.functions.call_each(calls):
            progress.tally["audited"] += reply.error is None

    def _is_odd(self, timer: SetTimer, item: Conversation | None) -> bool:
        if item is None or item.state == "ended":
            return True
        grace_ms = self.settings.sweep_grace_seconds * SECOND_MS
        return timer.at + grace_ms < self.clock.now() and not rules.is_parked(item)

    # --- the end of an invocation ---

    def _finish(self, progress: _Progress) -> str:
        self.leases.keep(replace(progress.lease, cursor=None), until=0)
        return "finished"

    def _go_on_later(self, progress: _Progress) -> str:
        lease = progress.lease
        if progress.tally["unreached"] or lease.handovers >= self.settings.sweep_max_handovers:
            self.leases.keep(lease, until=0)
            return "stopped"
        if not self.leases.keep(lease, until=self._lease_until(0)):
            return "busy"
        self.continuation.hand_over(lease.run, lease.handovers + 1)
        return "handed_over"

    def _lease_until(self, remaining_seconds: float) -> int:
        return self.clock.now() + int((remaining_seconds + LEASE_SLACK_SECONDS) * SECOND_MS)

    def _count_overdue(self) -> int:
        now = self.clock.now()
        overdue = sum(
            self.overview.count(f"{number:02d}", until=now) for number in range(self.settings.sweep_shards)
        )
        self.telemetry.count("Overdue", overdue)
        return overdue

    def _handed_over(self, event: Any) -> HandedOver | None:
        if isinstance(event, Mapping) and event.get("source") == "handover":
            return messages.parse(HandedOver, event)
        return None

    def _answer(self, progress: _Progress, result: str) -> dict[str, Any]:
        counts = {
            name: progress.tally[name] for name in ("overdue", "failed", "parked", "notices", "audited")
        }
        return {
            "run": progress.lease.run,
            "handovers": progress.lease.handovers,
            "result": result,
            "repaired": dict(progress.repaired),
            **counts,
        }


def _cleanup(conversation_id: str, source: str) -> Call:
    event = {"version": 1, "conversation_id": conversation_id, "source": source}
    return Call(conversation_id, "cleanup", event)
