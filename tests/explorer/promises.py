"""The six promises as checks, with arithmetic of their own: nothing here asks the rules that it is to judge."""

from collections.abc import Hashable, Mapping, Set
from typing import Any

from idle_timer.conversation import Conversation
from idle_timer.settings import Settings

Owed = tuple[str, str]  # outcome id, type


def owed_for(before: Conversation | None, after: Conversation | None) -> set[Owed]:
    """Nothing lost: the outcomes that a transition owes, told from the states alone."""
    if before is None or after is None:
        return set()
    id_ = f"{after.opening_id}-{after.seq}"
    if after.opening_id != before.opening_id:
        return {(id_, "ConversationReopened")}
    if after.state != before.state:
        types = {
            "ended": "ConversationEnded",
            "paused": "ConversationPaused",
            "active": "ConversationResumed",
        }
        return {(id_, types[after.state])}
    if after.stage > before.stage:
        return {(id_, "ConversationWarned")}
    return set()


def broken_by_removal(opening_id: str, last_seen: Conversation | None) -> str:
    """Nothing lost: what ends an opening is not done by one that has seen it over, or reopened, by then."""
    if last_seen is not None and last_seen.state == "ended" and last_seen.opening_id == opening_id:
        return ""
    return (
        "nothing lost: a session is removed for an opening that is not the one that was last seen to be over"
    )


def broken_by_commit(
    before: Conversation | None,
    after: Conversation | None,
    now: int,
    acknowledged: int,
    settings: Settings,
) -> str:
    """Which promise this write breaks; empty = none."""
    if after is None:
        return "nothing lost: the conversation was deleted"
    if before is None:
        return "" if after.version == 1 and after.state == "active" else "a conversation began in the middle"
    if after.version != before.version + 1:
        return "once: a write went over another that it had not seen"
    if after.last_activity_at < before.last_activity_at:
        return "duplicates and reordering are harmless: activity went backwards"
    transition = bool(owed_for(before, after))
    if after.seq != before.seq + transition:
        return "once: seq does not count the transitions"
    if before.state == "ended":
        return _broken_after_end(before, after)
    if after.opening_id != before.opening_id:
        return "once: a new opening of a conversation that had not ended"
    if after.state == "ended":
        return _broken_by_end(before, after, now, acknowledged, settings)
    if after.stage > before.stage:
        silent_since = before.last_activity_at
        stages = settings.idle_stages if before.stages is None else before.stages
        due = silent_since + stages[before.stage].after * 1_000 + settings.clock_skew_allowance_ms
        if (after.stage_at or 0) < due:
            return f"never early: warned {due - (after.stage_at or 0)} ms too early"
    return ""


def _broken_after_end(before: Conversation, after: Conversation) -> str:
    if after.state == "ended":
        same = after.opening_id == before.opening_id and after.end_reason == before.end_reason
        return "" if same else "once: ended a second time"
    if after.opening_id == before.opening_id or after.generation != before.generation + 1:
        return "once: the ended opening came back to life"
    if before.ended_explicitly and after.opened_at <= (before.ended_at or 0):
        return "duplicates and reordering are harmless: a message older than the end reopened it"
    return ""


def _broken_by_end(
    before: Conversation, after: Conversation, now: int, acknowledged: int, settings: Settings
) -> str:
    ended_at = after.ended_at or 0
    if after.ended_explicitly:
        early = before.opened_at > ended_at
        return "duplicates and reordering are harmless: an old end ended a newer opening" if early else ""
    own = before.idle_timeout_seconds
    timeout_ms = (settings.idle_timeout_seconds if own is None else own) * 1_000
    due = max(before.last_activity_at, acknowledged) + timeout_ms
    if before.state == "paused":
        own_pause = before.pause_timeout_seconds
        pause_ms = (settings.pause_timeout_seconds if own_pause is None else own_pause) * 1_000
        due = max(before.state_since, before.last_activity_at) + pause_ms
        if not pause_ms:
            return "never early: ended a pause that has no timeout"
    elif not timeout_ms:
        return "never early: ended a conversation that is never to end"
    else:
        due = max(due, before.not_before or 0)
    due += settings.clock_skew_allowance_ms
    if ended_at < due:
        return f"never early: ended {due - ended_at} ms too early"
    return "never early: ended by a clock that is ahead" if ended_at > now else ""


def broken_by_outcome(
    outcome: Mapping[str, Any], content: Hashable, committed: Set[Owed], published: Set[Any]
) -> str:
    """Which promise this publication breaks; empty = none."""
    if (outcome["id"], outcome["type"]) not in committed:
        return f"once: {outcome['type']} was published for a transition that never happened"
    if any(id_ == outcome["id"] and content != other for id_, _, other in published):
        return f"once: {outcome['type']} was published twice with one id and two contents"
    if outcome["type"] == "ConversationEnded" and any(
        type_ == "ConversationEnded"
        and id_ != outcome["id"]
        and id_.rpartition("-")[0] == outcome["opening_id"]
        for id_, type_, _ in published
    ):
        return "once: one opening, two ends"
    return ""


def broken_at_rest(
    item: Conversation | None, facts: tuple[tuple[str, int], ...], session_is_live: bool, sessions: bool
) -> str:
    """What must hold whenever nothing is under way; empty = it does."""
    if item is None:
        return ""
    rank = {"resume": 0, "pause": 1, "end": 2}
    ends = [at for action, at in facts if action == "end"]
    if item.state != "ended" and any(at >= item.opened_at for at in ends):
        return "duplicates and reordering are harmless: an end was undone"
    own = [(at, rank[action], action) for action, at in facts if at >= item.opened_at and action != "end"]
    if own and item.state != "ended":
        newest = max(own)[2]
        if item.state != ("paused" if newest == "pause" else "active"):
            return f"duplicates and reordering are harmless: {newest} came last, but it is {item.state}"
    if sessions and not item.outbox and session_is_live != (item.state != "ended"):
        return (
            "nothing lost: a live conversation lost its session"
            if item.state != "ended"
            else "never forgotten: ended, but the session is still there"
        )
    return ""


def broken_at_the_end(
    item: Conversation | None, committed: Set[Owed], published: Set[tuple[str, str, Hashable]]
) -> str:
    """What must hold when all is over; empty = it does."""
    if item is not None and item.outbox:
        return "nothing lost: something is still owed"
    told = {(id_, type_) for id_, type_, _ in published}
    missing = sorted(
        f"{type_} {id_}" for id_, type_ in committed - told if type_ != "ConversationWarned"
    )  # a warning that activity has overtaken is dropped
    if missing:
        return f"nothing lost: never published: {', '.join(missing)}"
    return ""
