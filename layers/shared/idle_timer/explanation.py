"""Why a conversation ended, or did not, in sentences; and what cleanup would do with it now."""

from idle_timer import conversation as rules
from idle_timer.conversation import Conversation, Hold
from idle_timer.settings import Settings
from idle_timer.timestamps import SECOND_MS, format_time


def would(conversation: Conversation, settings: Settings, hold: Hold, now: int) -> dict[str, str]:
    """What cleanup would do now (end, warn, re_arm, work_off or skip), and why."""
    due = rules.due_at(conversation, settings, hold, now)
    when = "" if due is None else format_time(due)
    match rules.verdict(conversation, settings, hold, now):
        case "ended":
            check = ", unless the end check objects" if settings.end_check_function_arn else ""
            return {
                "would": "end",
                "why": f"{_silence(conversation, now)}, and its end was due at {when}{check}",
            }
        case "warned":
            stage = rules.next_stage(conversation, settings)
            name = stage.name if stage else ""
            return {"would": "warn", "why": f"{_silence(conversation, now)}; {name} was due at {when}"}
        case "rearmed":
            return {
                "would": "re_arm",
                "why": f"nothing is due before {when}, in {_seconds((due or now) - now)}",
            }
        case "held":
            return {"would": "skip", "why": "a hold is open: nobody ends until it is lifted"}
        case "would_end":
            return {"would": "skip", "why": f"its end was due at {when}, but the stack runs in shadow mode"}
    if conversation.outbox:
        return {"would": "work_off", "why": f"nothing is due, but this is still owed: {_owed(conversation)}"}
    if conversation.state == "ended":
        return {"would": "skip", "why": "it is over, and nothing is owed for it"}
    return {"would": "skip", "why": "it never ends by itself"}


def explained(conversation: Conversation | None, settings: Settings, hold: Hold, now: int) -> list[str]:
    """The reasons, most important first."""
    if conversation is None:
        return [
            "There is no such conversation: it was never touched, was forgotten, or its retention is over."
        ]
    sentences = (
        _ended(conversation) if conversation.state == "ended" else _open(conversation, settings, hold, now)
    )
    credit = hold.credit(conversation.last_activity_at, now)
    if conversation.state != "ended" and credit:
        sentences.append(f"It is credited with {_seconds(credit)} of holds.")
    if rules.is_parked(conversation):
        sentences.append(
            f"It is parked after {conversation.attempts} failed attempts: read cleanup's log for the cause,"
            " mend it, then retry. A new message unparks it, too."
        )
    elif conversation.attempts:
        sentences.append(
            f"{conversation.attempts} of {settings.max_attempts} attempts to end it have failed."
        )
    if conversation.outbox:
        sentences.append(f"Still owed: {_owed(conversation)}.")
    return sentences


def _ended(conversation: Conversation) -> list[str]:
    ended_at = conversation.ended_at or conversation.state_since
    last, reason = format_time(conversation.last_activity_at), conversation.end_reason
    if reason == "idle_timeout":
        silent = _seconds(ended_at - conversation.last_activity_at)
        return [f"It ended at {format_time(ended_at)}, {silent} after its last activity at {last}."]
    if reason == "paused_too_long":
        return [f"It ended at {format_time(ended_at)}: nobody handed it back from its pause."]
    return [f"It was ended at {format_time(ended_at)} by an event, with the reason {reason}."]


def _open(conversation: Conversation, settings: Settings, hold: Hold, now: int) -> list[str]:
    due = rules.due_at(conversation, settings, hold, now)
    if conversation.state == "paused":
        first = f"It is paused since {format_time(conversation.state_since)}: a person has it."
    else:
        first = f"It is active: {_silence(conversation, now)}."
    if due is None:
        return [first, "It never ends by itself: its timeout is 0, or the stack only warns."]
    stage = rules.next_stage(conversation, settings)
    what = f"The warning {stage.name}" if stage else "Its end"
    if hold.is_open(now):
        return [first, f"{what} waits: a hold is open."]
    if not rules.is_due(due, settings, now):
        why = []
        if conversation.not_before is not None:
            why = [f"It was asked not to end before {format_time(conversation.not_before)}."]
        return [first, f"{what} is due at {format_time(due)}, in {_seconds(due - now)}.", *why]
    late = f"{what} was due at {format_time(due)}, {_seconds(now - due)} ago"
    if settings.mode == "shadow":
        return [first, f"{late}; the stack runs in shadow mode and ends nobody."]
    swept = conversation.sweep_at
    coming = f": the sweep looks at it from {format_time(swept)} on" if swept is not None else ""
    return [first, f"{late}. Its timer is on the way or was lost{coming}."]


def _silence(conversation: Conversation, now: int) -> str:
    silent = _seconds(now - conversation.last_activity_at)
    return f"silent for {silent}, since {format_time(conversation.last_activity_at)}"


def _owed(conversation: Conversation) -> str:
    return ", ".join(str(entry.body.get("type", entry.kind)) for _, entry in rules.owed(conversation))


def _seconds(milliseconds: int) -> str:
    return f"{max(0, milliseconds) / SECOND_MS:g} s"
