"""For operators and UIs: how a conversation stands and why, lists, retries, forgetting, and the hold.

Nothing is changed unless it is asked for: retry (without dry_run), forget, hold.
"""

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from idle_timer import conversation as rules
from idle_timer import operator_events
from idle_timer.conversation import Conversation, Hold
from idle_timer.errors import ContendedError, InvalidEventError
from idle_timer.explanation import explained, would
from idle_timer.operator_events import LIST_MOST, Filters, HoldEvent, ListEvent, OneEvent, RetryEvent
from idle_timer.ports import Clock, Store
from idle_timer.timer import SAVE_TRIES
from idle_timer.timestamps import SECOND_MS, format_time
from idle_timer.upkeep_ports import Call, FailureQueues, Functions, Holds, IndexEntry, Links, Overview
from idle_timer.upkeep_settings import InspectSettings

LOOK_AT_MOST = (
    500  # index entries per call: a filter that matches nothing ends with `next`, not with a time-out
)
HOLD_DAYS = 31  # no timeout is longer than 30: older windows credit nobody
FOREVER = 10**15  # epoch ms, beyond every time here


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What operators may ask."""

    settings: InspectSettings
    store: Store
    overview: Overview
    holds: Holds
    links: Links
    functions: Functions
    queues: FailureQueues
    clock: Clock

    def inspect(self, event: object) -> dict[str, Any]:
        """Answer one event. Raises InvalidEventError, ContendedError and AWS errors."""
        asked = operator_events.parse(event)
        answers: Mapping[str, Callable[[Any], dict[str, Any]]] = {
            "status": self._status,
            "explain": self._explain,
            "list": self._list,
            "retry": self._retry,
            "forget": self._forget,
            "hold": self._hold,
        }
        return answers[asked.action](asked)

    # --- one ---

    def _status(self, asked: OneEvent) -> dict[str, Any]:
        read = self.store.read(asked.conversation_id)
        if read.conversation is None:
            return {"conversation_id": asked.conversation_id, "state": None}
        return self._row(read.conversation, read.hold) | {
            "hold": read.hold.is_open(self.clock.now()),
            "outbox": [entry.body.get("type", entry.kind) for _, entry in rules.owed(read.conversation)],
            "history": [
                {"at": format_time(int(at)), "what": what}
                for at, _, what in (line.partition(" ") for line in read.conversation.history)
            ],
        }

    def _row(self, conversation: Conversation, hold: Hold) -> dict[str, Any]:
        now, settings = self.clock.now(), self.settings
        due = rules.due_at(conversation, settings, hold, now)
        stage = rules.next_stage(conversation, settings)
        row = {
            "conversation_id": conversation.conversation_id,
            "state": conversation.state,
            "generation": conversation.generation,
            "opening_id": conversation.opening_id,
            "last_activity_at": format_time(conversation.last_activity_at),
            "idle_timeout_seconds": rules.idle_timeout_seconds(conversation, settings),
            "stage": conversation.stage,
            "next": None if due is None else (stage.name if stage else "end"),
            "due_at": None if due is None else format_time(due),
            "remaining_seconds": None if due is None else max(0.0, (due - now) / SECOND_MS),
            "attempts": conversation.attempts,
            "parked": rules.is_parked(conversation),
        }
        if conversation.state == "ended":
            row |= {
                "end_reason": conversation.end_reason,
                "ended_at": format_time(conversation.ended_at or conversation.state_since),
            }
        return row

    def _explain(self, asked: OneEvent) -> dict[str, Any]:
        read = self.store.read(asked.conversation_id)
        why = explained(read.conversation, self.settings, read.hold, self.clock.now())
        return {
            "conversation_id": asked.conversation_id,
            "state": read.conversation and read.conversation.state,
            "why": why,
        }

    def _forget(self, asked: OneEvent) -> dict[str, Any]:
        """Marked here, erased by cleanup, which alone reaches the session store; what fails stays owed and is retried."""
        found = self._mark_forgotten(asked.conversation_id)
        if found is not None and found.connect_contact_id is not None:
            self.links.unlink_contact(found.connect_contact_id)
        # In any case: cleanup deletes the schedule, too, be there an item or not.
        call = _cleanup(asked.conversation_id, "outbox")
        [(_, reply)] = self.functions.call_each([call])
        gone = self.store.read(asked.conversation_id).conversation is None
        answer = {"conversation_id": asked.conversation_id, "found": found is not None, "forgotten": gone}
        if reply.error is not None:
            answer |= {
                "error": reply.error,
                "why": "cleanup failed; what it owes is tried again by the sweep",
            }
        elif not gone:
            answer |= {"why": "a new message has reopened it: forget it again if that is to go, too"}
        return answer

    def _mark_forgotten(self, conversation_id: str) -> Conversation | None:
        seen = self.store.read(conversation_id).conversation
        for _ in range(SAVE_TRIES):
            if seen is None:
                return None
            now = self.clock.now()
            after = rules.stamped(rules.forgotten(seen, now, self.settings), seen, now, self.settings)
            saved = self.store.save(after, seen)
            if saved.done:
                return after
            seen = saved.current
        raise ContendedError("the conversation kept changing")

    # --- many ---

    def _list(self, asked: ListEvent) -> dict[str, Any]:
        if asked.which == "events":
            return {"events": self._events(asked.limit), "next": None}
        found, further = self._matching(asked, asked.which)
        hold, _ = self.holds.read()
        return {"conversations": [self._row(each, hold) for each in found], "next": further}

    def _retry(self, asked: RetryEvent) -> dict[str, Any]:
        """`retried`: each with what came of it, or would."""
        if asked.which == "events":
            if asked.dry_run:
                return {"dry_run": True, "events": self._events(asked.limit), "next": None}
            return {"dry_run": False, "put_back": self.queues.put_back(asked.limit), "next": None}
        further: str | None = None
        if asked.conversation_id is not None:
            item = self.store.read(asked.conversation_id).conversation
            if item is None:
                unknown = {"would": "skip", "why": "there is no such conversation"}
                retried = [{"conversation_id": asked.conversation_id, **unknown}]
                return {"dry_run": asked.dry_run, "retried": retried, "next": None}
            found = [item]
        else:
            found, further = self._matching(asked, asked.which or "")
        retried = self._would(found) if asked.dry_run else self._handed_over(found)
        return {"dry_run": asked.dry_run, "retried": retried, "next": further}

    def _would(self, found: list[Conversation]) -> list[dict[str, Any]]:
        hold, _ = self.holds.read()
        now = self.clock.now()
        return [
            {"conversation_id": each.conversation_id, **would(each, self.settings, hold, now)}
            for each in found
        ]

    def _handed_over(self, found: list[Conversation]) -> list[dict[str, Any]]:
        """A success takes the failed attempts away, which unparks."""
        came_of_it: dict[str, dict[str, Any]] = {}
        for call, reply in self.functions.call_each(
            [_cleanup(each.conversation_id, "redrive") for each in found]
        ):
            came_of_it[call.key] = (
                {"error": reply.error, "message": reply.message}
                if reply.answer is None
                else {"decision": reply.answer.get("decision")}
            )
        return [
            {"conversation_id": each.conversation_id, **came_of_it[each.conversation_id]} for each in found
        ]

    def _matching(self, asked: Filters, which: str) -> tuple[list[Conversation], str | None]:
        """Up to `limit` that match, and where to go on. The index lags behind, so each item is looked at."""
        found: list[Conversation] = []
        for looked_at, (entry, item) in enumerate(self._candidates(asked, which)):
            if len(found) == asked.limit or looked_at == LOOK_AT_MOST:
                return found, _opaque(entry)  # this one opens the next page
            if item is not None and self._matches(item, asked, which):
                found.append(item)
        return found, None

    def _candidates(self, asked: Filters, which: str) -> Iterator[tuple[IndexEntry, Conversation | None]]:
        now = self.clock.now()
        since = now + 1 if which == "pending" else 0
        until = now if which == "overdue" else FOREVER
        prefix = rules.PARKED_PREFIX if which == "parked" else ""
        shards = [f"{prefix}{number:02d}" for number in range(self.settings.sweep_shards)]
        first = None if asked.next is None else _transparent(asked.next)
        if first is not None and first.shard not in shards:
            raise InvalidEventError("invalid event: next: belongs to another list")
        if first is not None:
            # Hosts' clocks differ, and a query refuses a start beyond its end.
            until = max(until, first.sweep_at)
        for shard in shards[shards.index(first.shard) if first else 0 :]:
            here = first if first is not None and first.shard == shard else None
            begin = max(since, here.sweep_at) if here else since
            after: IndexEntry | None = None
            while True:
                page = self.overview.entries(shard, since=begin, until=until, after=after, limit=LIST_MOST)
                items = self.overview.read_each([entry.conversation_id for entry in page.entries])
                for entry in page.entries:
                    if here is None or _order(entry) >= _order(here):
                        yield entry, items.get(entry.conversation_id)
                if page.after is None:
                    break
                after = page.after

    def _matches(self, item: Conversation, asked: Filters, which: str) -> bool:
        parked = rules.is_parked(item)
        overdue = item.sweep_at is not None and item.sweep_at <= self.clock.now()
        fits = {
            "overdue": overdue and not parked,
            "pending": item.sweep_at is not None and not overdue and not parked,
            "failed": item.attempts > 0 and not parked,
            "parked": parked,
        }
        return (
            fits[which]
            and asked.state in (None, item.state)
            and (asked.since is None or item.last_activity_at >= asked.since)
            and asked.reason in (None, item.end_reason)
            and item.attempts >= asked.attempts_at_least
        )

    def _events(self, limit: int) -> list[dict[str, Any]]:
        return [
            {"message_id": event.message_id, "why": event.why, "event": event.body}
            for event in self.queues.parked(limit)
        ]

    # --- the hold ---

    def _hold(self, asked: HoldEvent) -> dict[str, Any]:
        for _ in range(SAVE_TRIES):
            hold, version = self.holds.read()
            now = self.clock.now()
            after = _switched(hold, now, on=asked.on)
            if after == hold or self.holds.write(after, version):
                return {
                    "hold": after.is_open(now),
                    "windows": [
                        {"from": format_time(start), "until": None if until is None else format_time(until)}
                        for start, until in after.windows
                    ],
                }
        raise ContendedError("others kept switching the hold")


def _switched(hold: Hold, now: int, *, on: bool | None) -> Hold:
    if on is None or on == hold.is_open(now):
        return hold
    kept = [
        window for window in hold.windows if window[1] is None or window[1] > now - HOLD_DAYS * 86_400_000
    ]
    if on:
        return Hold((*kept, (now, None)))
    return Hold(tuple((start, now if until is None else until) for start, until in kept))


def _cleanup(conversation_id: str, source: str) -> Call:
    event = {"version": 1, "conversation_id": conversation_id, "source": source}
    return Call(conversation_id, "cleanup", event)


def _order(entry: IndexEntry) -> tuple[int, str]:
    return entry.sweep_at, entry.conversation_id


def _opaque(entry: IndexEntry) -> str:
    text = json.dumps([entry.shard, entry.sweep_at, entry.conversation_id])
    return base64.urlsafe_b64encode(text.encode()).decode()


def _transparent(text: str) -> IndexEntry:
    try:
        shard, sweep_at, conversation_id = json.loads(base64.urlsafe_b64decode(text.encode()))
        entry = IndexEntry(str(shard), int(sweep_at), str(conversation_id))
    except (ValueError, TypeError, OverflowError, RecursionError):
        entry = None
    if entry is None or not 0 <= entry.sweep_at <= FOREVER:
        raise InvalidEventError("invalid event: next: is not one that a list has answered")
    return entry
