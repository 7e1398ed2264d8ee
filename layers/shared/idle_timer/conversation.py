"""A conversation's state and the rules that move it: pure functions, no clock, no AWS.

Times are integer epoch milliseconds. A transition takes the conversation as it was read and returns the one to store;
`timer` writes it on condition that nobody changed it in between (`version`).
"""

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from idle_timer.settings import Settings, Stage
from idle_timer.timestamps import SECOND_MS, ceil_to, floor_to

SCHEMA_VERSION = 1
HISTORY_LENGTH = 6  # keeps an item under 1 KB, which is one DynamoDB write unit
MIN_NOTICE_MS = 5_000  # Scheduler: a time in the past is unstated, so always ask for a safely future second
PARKED_PREFIX = "parked#"  # shards of the sweep's index that the sweep leaves to a person
HOLD_RECHECK_SECONDS = 120  # how soon cleanup looks again while a hold is open

State = Literal["active", "paused", "ended"]
EntryKind = Literal["session", "session_restore", "lex", "connect", "hook", "outcome", "forget"]
END_ACTIONS: frozenset[str] = frozenset({"session", "lex", "connect", "hook", "forget"})
Verdict = Literal["nothing", "held", "rearmed", "would_end", "warned", "ended"]
"""What cleanup does with a conversation when it looks at it (before the caller's end check, if there is one)."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Windows in which nobody is ended: (from, until) pairs; until None = still open."""

    windows: tuple[tuple[int, int | None], ...] = ()

    def is_open(self, now: int) -> bool:
        """Whether a window is open at `now`."""
        return any(start <= now and (until is None or now < until) for start, until in self.windows)

    def credit(self, since: int, now: int) -> int:
        """Milliseconds of [since, now] that lie in windows, overlapping windows counted once."""
        total, counted_until = 0, since
        for start, until in sorted(self.windows, key=lambda window: window[0]):
            begin, end = max(start, counted_until), min(now if until is None else until, now)
            if end > begin:
                total += end - begin
                counted_until = end
        return total


NO_HOLD = Hold()


@dataclass(frozen=True, slots=True)
class Entry:
    """Something still owed for a transition: an end action or an outcome. `body` holds JSON values only."""

    kind: EntryKind
    opening_id: str
    seq: int
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """One item of the conversations table; what each field means stands in the README ("State")."""

    conversation_id: str
    opening_id: str
    opened_at: int
    last_activity_at: int
    state_since: int
    schema_version: int = SCHEMA_VERSION
    version: int = 1  # +1 with every write: whoever saves names the version that it read
    state: State = "active"
    generation: int = 1
    seq: int = 1
    ended_at: int | None = None
    end_reason: str | None = None
    ended_explicitly: bool = False
    idle_timeout_seconds: int | None = None  # only if it differs from the stack's; 0 = never
    stages: tuple[Stage, ...] | None = None
    not_before: int | None = None
    stage: int = 0  # warnings done since the last activity
    stage_at: int | None = None
    pause_timeout_seconds: int | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    session_key: str | None = None
    lex: Mapping[str, str] | None = None
    connect_contact_id: str | None = None
    outbox: Mapping[str, Entry] = field(default_factory=dict)
    attempts: int = 0
    history: tuple[str, ...] = ()  # "<epoch ms> <what>", newest last
    armed_for: int | None = None
    sweep_shard: str | None = None
    sweep_at: int | None = None
    sweep_after_ms: int | None = None  # milliseconds, because DynamoDB can add but not multiply
    expires_at: int | None = None  # epoch seconds (DynamoDB TTL)

    def is_ended_opening(self, opening_id: str) -> bool:
        """Whether this very opening is the current one, and over."""
        return self.state == "ended" and self.opening_id == opening_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A touch, as the rules need it. `changes`: the policy fields that it brings, by Conversation field name."""

    at: int
    sender: Literal["customer", "bot", "agent"] | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Change:
    """What a rule decided: the answer's `result`, and what to store (None: nothing changes)."""

    result: str
    after: Conversation | None = None
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Firing:
    """What woke cleanup: `scheduled_for` is Scheduler's own text, the rest is ours."""

    source: str
    fired_at: int
    scheduled_for: str | None = None
    hold: Hold = NO_HOLD


# --- what is due, and when -------------------------------------------------------------------------------------------


def idle_timeout_seconds(conversation: Conversation, settings: Settings) -> int:
    """The silence after which this conversation ends; 0 = never."""
    own = conversation.idle_timeout_seconds
    return settings.idle_timeout_seconds if own is None else own


def stages(conversation: Conversation, settings: Settings) -> tuple[Stage, ...]:
    """The warnings that apply: its own or the stack's, as far as they come before the end; none in shadow mode."""
    if settings.mode == "shadow":
        return ()
    given = settings.idle_stages if conversation.stages is None else conversation.stages
    timeout = idle_timeout_seconds(conversation, settings)
    return tuple(stage for stage in given if stage.after < timeout)


def _silence_start(conversation: Conversation, settings: Settings, hold: Hold, now: int) -> int:
    """The moment from which stages and end are counted: the last activity, moved on by whatever delays them.

    One number shifts the whole remaining sequence, so a late warning or an extension keeps the full notice between
    the steps that follow.
    """
    timeout_ms = idle_timeout_seconds(conversation, settings) * SECOND_MS
    start = conversation.last_activity_at + hold.credit(conversation.last_activity_at, now)
    if conversation.not_before is not None:
        start = max(start, conversation.not_before - timeout_ms)
    done = stages(conversation, settings)[: conversation.stage]
    if done and conversation.stage_at is not None:
        warned_at = conversation.stage_at
        start = max(start, warned_at - done[-1].after * SECOND_MS + hold.credit(warned_at, now))
    return start


def end_due_at(conversation: Conversation, settings: Settings, hold: Hold, now: int) -> int | None:
    """When it ends if nothing more happens, as a whole second; None = never."""
    if conversation.state == "ended" or not settings.end_when_idle:
        return None
    if conversation.state == "paused":
        own = conversation.pause_timeout_seconds
        timeout = settings.pause_timeout_seconds if own is None else own
        start = max(conversation.state_since, conversation.last_activity_at)
        start += hold.credit(start, now)
    else:
        timeout = idle_timeout_seconds(conversation, settings)
        start = _silence_start(conversation, settings, hold, now) if timeout else 0
    return ceil_to(start + timeout * SECOND_MS, SECOND_MS) if timeout else None


def due_at(conversation: Conversation, settings: Settings, hold: Hold = NO_HOLD, now: int = 0) -> int | None:
    """When the next thing is due, a warning or the end, as a whole second; None = never."""
    stage = next_stage(conversation, settings)
    if stage is None:
        return end_due_at(conversation, settings, hold, now)
    return ceil_to(_silence_start(conversation, settings, hold, now) + stage.after * SECOND_MS, SECOND_MS)


def next_stage(conversation: Conversation, settings: Settings) -> Stage | None:
    """The warning that comes next, if one does before the end."""
    if conversation.state != "active":
        return None
    return next(iter(stages(conversation, settings)[conversation.stage :]), None)


def is_due(due: int, settings: Settings, now: int) -> bool:
    """Whether `due` has passed by the clock that decides, allowing for clocks that differ."""
    return now >= due + settings.clock_skew_allowance_ms


def wake_at(due: int, settings: Settings, now: int) -> int:
    """The whole second to ask Scheduler for."""
    return ceil_to(max(due + settings.clock_skew_allowance_ms, now + MIN_NOTICE_MS), SECOND_MS)


def verdict(conversation: Conversation | None, settings: Settings, hold: Hold, now: int) -> Verdict:
    """What is to be done with it now."""
    due = None if conversation is None else due_at(conversation, settings, hold, now)
    if conversation is None or due is None:
        return "nothing"
    if hold.is_open(now):
        return "held"
    if not is_due(due, settings, now):
        return "rearmed"
    if settings.mode == "shadow":
        return "would_end"
    return "ended" if next_stage(conversation, settings) is None else "warned"


def sweeps_too_early(conversation: Conversation, settings: Settings, hold: Hold, now: int) -> bool:
    """Whether its index entry comes before its due time: a hold has moved the one and not the other."""
    due = due_at(conversation, settings, hold, now)
    alone = not conversation.outbox and not conversation.attempts  # either gives the entry a time of its own
    return alone and due is not None and conversation.sweep_at is not None and conversation.sweep_at < due


def is_parked(conversation: Conversation) -> bool:
    """Whether sweep and redrive have given up on it: a person decides, or activity unparks it."""
    return (conversation.sweep_shard or "").startswith(PARKED_PREFIX)


# --- transitions -----------------------------------------------------------------------------------------------------


def counts(message: Message, settings: Settings) -> bool:
    """Whether this sender's messages reset the clock."""
    return settings.reset_on == "any" or message.sender in (None, "customer")


def touched(
    before: Conversation | None,
    message: Message,
    *,
    conversation_id: str,
    opening_id: str,
    now: int,
    settings: Settings,
) -> Change:
    """A message arrived. `opening_id` is used if it opens or reopens the conversation."""
    ignored = tuple(sorted(message.changes))
    if before is None:
        fields = {**message.changes, "attributes": message.changes.get("attributes") or {}}
        opened = Conversation(
            conversation_id=conversation_id,
            opening_id=opening_id,
            opened_at=message.at,
            last_activity_at=message.at,
            state_since=message.at,
            history=(f"{message.at} opened",),
            **fields,
        )
        if settings.publish_opened:
            opened = _owing(opened, _outcome(opened, "ConversationOpened", message.at))
        return Change("opened", opened)
    if before.state == "ended":
        return _touched_after_end(before, message, opening_id, now, settings)
    if message.at <= before.last_activity_at:
        return Change("paused" if before.state == "paused" else "repeat", ignored=ignored)
    after = _with_changes(before, message.changes)
    if not counts(message, settings):
        return Change("not_counted", after if after != before else None)
    after = replace(after, last_activity_at=message.at, attempts=0)
    if before.state == "paused":
        return Change("paused", after)
    after = replace(after, stage=0, stage_at=None)
    if (
        after.not_before is not None
        and after.not_before <= message.at + idle_timeout_seconds(after, settings) * SECOND_MS
    ):
        after = replace(
            after, not_before=None
        )  # overtaken by this message; later ones take the short way again
    return Change("recorded", after)


def _touched_after_end(
    before: Conversation, message: Message, opening_id: str, now: int, settings: Settings
) -> Change:
    ignored = tuple(sorted(message.changes))
    timeout = _with_changes(before, {k: v for k, v in message.changes.items() if k == "idle_timeout_seconds"})
    timeout_ms = idle_timeout_seconds(timeout, settings) * SECOND_MS
    newer = message.at > before.last_activity_at
    after_explicit_end = not before.ended_explicitly or message.at > (before.ended_at or 0)
    still_fresh = timeout_ms == 0 or message.at + timeout_ms > now
    if not (newer and after_explicit_end and still_fresh):
        return Change("stale", ignored=ignored)
    if not counts(message, settings):
        after = _with_changes(before, message.changes)
        return Change("not_counted", after if after != before else None)
    if settings.on_message_after_end == "reject":
        return Change("rejected", ignored=ignored)
    fresh = replace(
        before,
        opening_id=opening_id,
        opened_at=message.at,
        last_activity_at=message.at,
        state_since=message.at,
        state="active",
        generation=before.generation + 1,
        seq=before.seq + 1,
        ended_at=None,
        end_reason=None,
        ended_explicitly=False,
        not_before=None,
        stage=0,
        stage_at=None,
        pause_timeout_seconds=None,
        attributes={},
        lex=None,
        connect_contact_id=None,
        attempts=0,
        armed_for=None,
        expires_at=None,
    )
    after = _with_changes(_remember(fresh, message.at, "reopened"), message.changes)
    owed = [
        _outcome(
            after,
            "ConversationReopened",
            message.at,
            gap_seconds=(message.at - before.last_activity_at) / SECOND_MS,
            previous_end_reason=before.end_reason,
        )
    ]
    if settings.session_url_secret_arn and settings.session_tombstone_seconds:
        key = settings.session_key(before.conversation_id, before.session_key)
        tombstone_until = (before.ended_at or 0) + settings.session_tombstone_seconds * SECOND_MS
        restore = {"session_key": key, "ended_opening_id": before.opening_id, "until": tombstone_until}
        owed.append(Entry("session_restore", after.opening_id, after.seq, restore))
    return Change("reopened", _owing(after, *owed))


def paused(before: Conversation, at: int, pause_timeout_seconds: int | None) -> Change:
    """Handed to a human. At an equal time pause beats resume."""
    if before.state == "ended" or at < max(before.state_since, before.opened_at):
        return Change("stale")
    if before.state == "paused" and at == before.state_since:
        return Change("repeat")
    after = replace(before, state_since=at, armed_for=None, attempts=0)
    if pause_timeout_seconds is not None:
        after = replace(after, pause_timeout_seconds=pause_timeout_seconds)
    if before.state == "paused":
        return Change("repeat", after)
    after = _next(replace(after, state="paused", pause_timeout_seconds=pause_timeout_seconds), at, "paused")
    return Change("applied", _owing(after, _outcome(after, "ConversationPaused", at)))


def resumed(before: Conversation, at: int) -> Change:
    """Handed back: counts as activity. At an equal time the pause stands."""
    if before.state == "ended" or at < max(before.state_since, before.opened_at):
        return Change("stale")
    if at == before.state_since:
        return Change("stale" if before.state == "paused" else "repeat")
    after = replace(before, state_since=at, attempts=0)
    if at > before.last_activity_at:
        after = replace(after, last_activity_at=at, stage=0, stage_at=None)
    if before.state == "active":
        return Change("repeat", after)
    after = _next(replace(after, state="active", stage=0, stage_at=None, armed_for=None), at, "resumed")
    return Change("applied", _owing(after, _outcome(after, "ConversationResumed", at)))


def extended(before: Conversation, at: int, until: int) -> Change:
    """Not to be ended before `until`; only ever lengthens, counts while active."""
    if before.state == "ended" or at < before.opened_at:
        return Change("stale")
    if before.not_before is not None and until <= before.not_before:
        return Change("repeat")
    return Change(
        "applied", _remember(replace(before, not_before=until, armed_for=None, attempts=0), at, "extended")
    )


def ended_by_event(before: Conversation, at: int, reason: str, settings: Settings) -> Change:
    """A fact about the chat (agent ended it, customer left): stands unless the conversation was opened after it."""
    if at < before.opened_at:
        return Change("stale")
    if before.state != "ended":
        return Change("applied", _ended(replace(before, attempts=0), at, reason, settings, explicitly=True))
    if before.ended_explicitly and at <= (before.ended_at or 0):
        return Change("repeat")
    return Change("repeat", replace(before, ended_explicitly=True, ended_at=at, state_since=at))


def ended_by_timer(before: Conversation, now: int, firing: Firing, settings: Settings) -> Conversation:
    """Idle, or paused for too long: the moment of the decision is the end."""
    reason = "paused_too_long" if before.state == "paused" else "idle_timeout"
    return _ended(before, now, reason, settings, explicitly=False, firing=firing)


def warned(before: Conversation, stage: Stage, now: int, firing: Firing, settings: Settings) -> Conversation:
    """One stage done; the next keeps its distance from this one, however late it came."""
    after = _next(replace(before, stage=before.stage + 1, stage_at=now), now, f"warned {stage.name}")
    ends_at = end_due_at(after, settings, firing.hold, now)
    proof = _proof(before, now, firing, settings)
    return _owing(
        after, _outcome(after, "ConversationWarned", now, proof=proof, stage=stage.name, ends_at=ends_at)
    )


def postponed(before: Conversation, until: int) -> Conversation:
    """The caller's end check asked to wait: the end is not due before `until`."""
    if before.state == "paused":
        start = max(before.state_since, before.last_activity_at)
        return replace(before, pause_timeout_seconds=ceil_to(until - start, SECOND_MS) // SECOND_MS)
    return replace(before, not_before=until, armed_for=None)


def forgotten(before: Conversation, at: int, settings: Settings) -> Conversation:
    """Erase it: ended if it is not, reported as any end, and the whole item owed to oblivion, without a tombstone."""
    after = before
    if before.state != "ended":
        after = _ended(before, at, "forgotten", settings, explicitly=True)
    kept = {
        key: entry
        for key, entry in after.outbox.items()
        if entry.kind not in ("session", "session_restore", "forget")
    }
    body = {"session_key": settings.session_key(after.conversation_id, after.session_key)}
    entry = Entry("forget", after.opening_id, after.seq, body if settings.session_url_secret_arn else {})
    return _owing(replace(after, outbox=kept), entry)


def failed_attempt(before: Conversation, now: int, settings: Settings) -> Conversation:
    """A cleanup through sweep or redrive failed; at the configured number it is parked and a person is told."""
    after = replace(before, attempts=before.attempts + 1)
    if after.attempts < settings.max_attempts or is_parked(before):
        return after
    after = _next(after, now, "parked")
    return _owing(after, _outcome(after, "ConversationEndFailed", now, reason="max_attempts"))


def _ended(
    before: Conversation,
    at: int,
    reason: str,
    settings: Settings,
    *,
    explicitly: bool,
    firing: Firing | None = None,
) -> Conversation:
    after = _next(before, at, f"ended {reason}")
    after = replace(
        after,
        state="ended",
        state_since=at,
        ended_at=at,
        end_reason=reason,
        ended_explicitly=explicitly,
        armed_for=None,
    )
    outcome = _outcome(
        after, "ConversationEnded", at, reason=reason, proof=_proof(before, at, firing, settings)
    )
    owed = [outcome]

    def owe(kind: EntryKind, body: Mapping[str, Any]) -> None:
        owed.append(Entry(kind, after.opening_id, after.seq, body))

    if settings.mode == "shadow":
        return _owing(after, outcome)
    if settings.session_url_secret_arn:
        owe("session", {"session_key": settings.session_key(after.conversation_id, after.session_key)})
    if after.lex is not None:
        owe("lex", after.lex)
    if settings.stop_connect_contact and after.connect_contact_id is not None and not explicitly:
        owe("connect", {"contact_id": after.connect_contact_id})
    if settings.end_hook_function_arn:
        owe("hook", {})  # it is given the outcome, which is published after it
    return _owing(after, *owed)


def _next(conversation: Conversation, at: int, what: str) -> Conversation:
    return _remember(replace(conversation, seq=conversation.seq + 1), at, what)


def _remember(conversation: Conversation, at: int, what: str) -> Conversation:
    return replace(conversation, history=(*conversation.history, f"{at} {what}")[-HISTORY_LENGTH:])


def _with_changes(conversation: Conversation, changes: Mapping[str, Any]) -> Conversation:
    after = replace(conversation, **changes)
    policy_changed = (after.idle_timeout_seconds, after.stages) != (
        conversation.idle_timeout_seconds,
        conversation.stages,
    )
    return replace(after, armed_for=None) if policy_changed else after


# --- the outbox ------------------------------------------------------------------------------------------------------


def _outcome(conversation: Conversation, type_: str, at: int, **facts: Any) -> Entry:
    body: dict[str, Any] = {"type": type_, "occurred_at": at, "generation": conversation.generation}
    if conversation.attributes:
        body["attributes"] = dict(conversation.attributes)
    body |= {name: value for name, value in facts.items() if value is not None}
    return Entry("outcome", conversation.opening_id, conversation.seq, body)


def _proof(
    before: Conversation, decided_at: int, firing: Firing | None, settings: Settings
) -> dict[str, Any]:
    """Why this was decided: enough to check the arithmetic by hand. Milliseconds; formatted when published."""
    hold = firing.hold if firing else NO_HOLD
    due = due_at(before, settings, hold, decided_at)
    proof: dict[str, Any] = {
        "last_activity_at": before.last_activity_at,
        "idle_timeout_seconds": idle_timeout_seconds(before, settings),
        "hold_credit_seconds": hold.credit(before.last_activity_at, decided_at) / SECOND_MS,
        "due_at": due,
        "decided_at": decided_at,
    }
    if firing is not None and due is not None:
        proof |= {
            "scheduled_for": firing.scheduled_for,
            "fired_at": firing.fired_at,
            "lateness_seconds": (decided_at - due) / SECOND_MS,
            "source": firing.source,
        }
    return {name: value for name, value in proof.items() if value is not None}


def entry_id(entry: Entry) -> str:
    """Stable over retries: which opening, which transition, and what is owed for it."""
    stem = f"{entry.opening_id}-{entry.seq}"
    return stem if entry.kind == "outcome" else f"{stem}-{entry.kind}"


def restore_entry(conversation: Conversation) -> Entry | None:
    """What brings the session back, while it is owed for the latest transition, a reopening."""
    wanted = Entry("session_restore", conversation.opening_id, conversation.seq, {})
    return conversation.outbox.get(entry_id(wanted))


def _owing(conversation: Conversation, *entries: Entry) -> Conversation:
    return replace(
        conversation, outbox={**conversation.outbox, **{entry_id(entry): entry for entry in entries}}
    )


def owed(conversation: Conversation) -> Iterator[tuple[str, Entry]]:
    """What is to be worked off, in order: actions before outcomes, older transitions before newer ones.

    That it failed is told first, or it would wait behind the very action that fails; forgetting comes last.
    """

    def order(item: tuple[str, Entry]) -> tuple[int, int, str]:
        key, entry = item
        rank = 0 if is_failure_notice(entry) else {"outcome": 2, "forget": 3}.get(entry.kind, 1)
        return rank, entry.seq, key

    return iter(sorted(conversation.outbox.items(), key=order))


def is_failure_notice(entry: Entry) -> bool:
    """Whether this tells people that the conversation was parked."""
    return entry.body.get("type") == "ConversationEndFailed"


def is_superseded(entry: Entry, conversation: Conversation) -> bool:
    """A warning that activity (or anything else) has overtaken: sending it would be wrong."""
    if entry.body.get("type") != "ConversationWarned":
        return False
    warned_about = entry.body.get("proof", {}).get("last_activity_at")
    still_silent = conversation.state == "active" and conversation.last_activity_at == warned_about
    return not (still_silent and conversation.opening_id == entry.opening_id)


def without(conversation: Conversation, done: str) -> Conversation:
    """The outbox without an entry that was worked off."""
    return replace(
        conversation, outbox={key: entry for key, entry in conversation.outbox.items() if key != done}
    )


# --- what is derived at every write ----------------------------------------------------------------------------------


def stamped(
    after: Conversation, seen: Conversation | None, now: int, settings: Settings, hold: Hold = NO_HOLD
) -> Conversation:
    """The item to write: next version, sweep index keys and TTL, all derived from the rest."""
    grace_ms = settings.sweep_grace_seconds * SECOND_MS
    due = due_at(after, settings, hold, now)
    sweep_at = None
    if due is not None:
        sweep_at = floor_to(after.last_activity_at, settings.sweep_bucket_ms) + _sweep_wait_ms(
            after, due, settings
        )
    if after.outbox:
        known = (
            seen.sweep_at if seen is not None and seen.outbox else None
        )  # a later write must not put it off for ever
        sweep_at = min(at for at in (sweep_at, known, now + grace_ms) if at is not None)
    if after.attempts and sweep_at is not None:
        sweep_at = now + grace_ms * 2 ** min(after.attempts - 1, 10)
    shard = f"{zlib.crc32(after.conversation_id.encode()) % settings.sweep_shards:02d}"
    # Only a counted failure parks, and with a notice: a lowered limit must not do so in passing.
    counted = seen is not None and (after.attempts > seen.attempts or is_parked(seen))
    if counted and after.attempts >= settings.max_attempts:
        shard = PARKED_PREFIX + shard
    expires_at = None
    if after.state == "ended" and not after.outbox:
        expires_at = after.expires_at or now // SECOND_MS + settings.retain_ended_days * 86_400
    return replace(
        after,
        version=seen.version + 1 if seen else 1,
        sweep_at=sweep_at,
        sweep_shard=None if sweep_at is None else shard,
        # Without a key to move, the one update of a message must not apply: it could set only half of it.
        sweep_after_ms=None if sweep_at is None else _sweep_after_ms(after, settings),
        expires_at=expires_at,
    )


def _sweep_after_ms(conversation: Conversation, settings: Settings) -> int | None:
    """What touch adds to the activity's bucket, in its one update, for a conversation that starts over at stage 0."""
    started_over = replace(conversation, stage=0, stage_at=None, not_before=None)
    due = due_at(started_over, settings) if conversation.state == "active" else None
    if due is None:
        return None
    return _sweep_wait_ms(conversation, due, settings)


def _sweep_wait_ms(conversation: Conversation, due: int, settings: Settings) -> int:
    """From the activity's bucket to the sweep: the silence and the grace, in whole buckets."""
    silence_ms = floor_to(
        due - conversation.last_activity_at, SECOND_MS
    )  # the due time was rounded up to a second
    return ceil_to(silence_ms + settings.sweep_grace_seconds * SECOND_MS, settings.sweep_bucket_ms)
