"""The protocol: touch and lifecycle. The item is the truth, the schedule only a hint to look at it.

Order is what makes it safe (README, "Races"): activity is stored before a timer is armed, a schedule is deleted before
an end is committed, and whoever deletes a schedule arms a new one if the conversation is alive. Every effect goes
through a port, so the tests step through all interleavings of this very code.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from idle_timer import conversation as rules
from idle_timer import messages
from idle_timer.conversation import NO_HOLD, Change, Conversation, Hold, Message
from idle_timer.errors import ContendedError, InvalidEventError, TimerNotArmedError
from idle_timer.ports import Activity, Chance, Clock, Handover, Saved, Scheduler, Store, Telemetry
from idle_timer.settings import MAX_TIMEOUT_SECONDS, Settings
from idle_timer.timestamps import MINUTE_MS, SECOND_MS, floor_to

SAVE_TRIES = 10  # each lost race means that somebody else made progress; ten in a row is a fault
UPSERT_TRIES = (
    6  # schedule calls for one arming: both kinds, and some waiting while it "is being changed right now"
)
UPSERT_WAIT_SECONDS = 0.2  # one schedule takes 10 reads or writes a second

_TIMING_FIELDS = frozenset({"idle_timeout_seconds", "stages"})

LINK_DAYS = (
    60  # longer than any contact lives; the link is written anew when the conversation brings it again
)

TimerWord = Literal["created", "updated", "kept", "deferred", "none", "throttled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timers:
    """Arming: the part that touch, lifecycle and cleanup share."""

    settings: Settings
    store: Store
    scheduler: Scheduler
    clock: Clock
    chance: Chance
    telemetry: Telemetry

    def arm(self, conversation: Conversation, *, first: Literal["create", "update"]) -> TimerWord:
        """Set the schedule for the conversation's due time, whether or not there is one; never due: leave it.

        Returns throttled where Scheduler is; raises TimerNotArmedError if the schedule stays busy.
        """
        due = rules.due_at(conversation, self.settings)
        if due is None:
            return "none"  # a timer that is still set finds nothing due
        word = self.arm_at(conversation.conversation_id, due, first=first)
        if word != "throttled":
            self._note(conversation, due)
        return word

    def arm_at(self, conversation_id: str, due: int, *, first: Literal["create", "update"]) -> TimerWord:
        """As `arm`, for a due time (epoch ms)."""
        at = rules.wake_at(due, self.settings, self.clock.now())
        kind = first
        for attempt in range(UPSERT_TRIES):
            answer = (self.scheduler.create if kind == "create" else self.scheduler.update)(
                conversation_id, at
            )
            match answer:
                case "done":
                    self.telemetry.count("TimersArmed")
                    return "created" if kind == "create" else "updated"
                case "throttled":
                    return "throttled"
                case "absent":
                    kind = "create"
                case "conflict" if kind == "create":
                    kind = "update"
                case "conflict":  # not a rival's schedule but one in the middle of a change
                    self.clock.sleep(UPSERT_WAIT_SECONDS * (attempt + 1) * self.chance.jitter())
        raise TimerNotArmedError("Scheduler kept answering that the schedule is being changed")

    def arm_and_look_again(
        self, conversation: Conversation, hold: Hold, *, first: Literal["create", "update"]
    ) -> TimerWord:
        """Arm, then make sure that nobody has made the conversation due earlier meanwhile: for whatever may arm later.

        Never due: the schedule is deleted. Raises TimerNotArmedError where Scheduler is throttled.
        """
        word: TimerWord = "none"
        for _ in range(SAVE_TRIES):
            armed_for = rules.due_at(conversation, self.settings, hold, self.clock.now())
            if armed_for is None:
                self.scheduler.delete(conversation.conversation_id)
                word = "none"
            else:
                word = self.arm_at(conversation.conversation_id, armed_for, first=first)
                if word == "throttled":
                    raise TimerNotArmedError("Scheduler is throttled")
                first = "update"
            read = self.store.read(conversation.conversation_id)
            if read.conversation is None:
                return word
            conversation, hold = read.conversation, read.hold
            due = rules.due_at(conversation, self.settings, hold, self.clock.now())
            if due is None or (armed_for is not None and armed_for <= due):
                if armed_for is not None:
                    self._note(conversation, armed_for)
                return word
        raise ContendedError("the conversation's due time kept moving")

    def is_set_already(self, conversation: Conversation) -> bool:
        """Timer slack: whether a timer that was really set comes up to the slack before the due time, but not after it.

        It fires early, sees the activity, and cleanup arms for the rest: the end does not move.
        """
        due, armed_for = rules.due_at(conversation, self.settings), conversation.armed_for
        if due is None or armed_for is None or not self.settings.timer_slack_seconds:
            return False
        earliest = max(due - self.settings.timer_slack_seconds * SECOND_MS, self.clock.now() + 1)
        return earliest <= armed_for <= due

    def _note(self, conversation: Conversation, armed_for: int) -> None:
        if self.settings.timer_slack_seconds and conversation.state == "active":
            self.store.note_timer(conversation, armed_for)

    def save(self, after: Conversation, seen: Conversation | None, hold: Hold = NO_HOLD) -> Saved:
        """Write a transition, on condition that nobody changed what it was made from."""
        stamped = rules.stamped(after, seen, self.clock.now(), self.settings, hold)
        saved = self.store.save(stamped, seen)
        return Saved(True, stamped) if saved.done else saved


@dataclass(frozen=True, slots=True, kw_only=True)
class Timer:
    """What the backend calls, per message and per lifecycle event."""

    timers: Timers
    handover: Handover

    # --- touch ---

    def touch(self, event: messages.TouchEvent) -> dict[str, Any]:
        """A message arrived: record it and arm the schedule. After the first message exactly two AWS calls.

        Returns the answer of the contract. Raises TimerNotArmedError, ContendedError and AWS errors: safe to repeat.
        """
        self.timers.telemetry.count("Touches")
        now = self.timers.clock.now()
        at = now if event.occurred_at is None else min(event.occurred_at, now)
        message = Message(at=at, sender=event.sender, changes=event.changes())
        if rules.counts(message, self.timers.settings):
            recorded = self.timers.store.record(self._activity(event.conversation_id, message))
            if recorded.after is not None:
                return self._touched(message, recorded.before, Change("recorded", recorded.after))
            seen = recorded.before
        else:
            seen = self.timers.store.read(event.conversation_id).conversation
        return self._touch_exactly(event.conversation_id, message, seen, now)

    def _activity(self, conversation_id: str, message: Message) -> Activity:
        bucket = floor_to(message.at, self.timers.settings.sweep_bucket_ms)
        return Activity(
            conversation_id=conversation_id, at=message.at, changes=message.changes, sweep_bucket_ms=bucket
        )

    def _touch_exactly(
        self, conversation_id: str, message: Message, seen: Conversation | None, now: int
    ) -> dict[str, Any]:
        """The long way, for everything but an in-order message: decide on what was seen, write if it still holds."""
        opening_id = self.timers.chance.opening_id()
        for _ in range(SAVE_TRIES):
            change = rules.touched(
                seen,
                message,
                conversation_id=conversation_id,
                opening_id=opening_id,
                now=now,
                settings=self.timers.settings,
            )
            if change.after is None:
                return self._touched(message, seen, Change(change.result, seen, change.ignored))
            contact = change.after.connect_contact_id
            if contact is not None and (seen is None or contact != seen.connect_contact_id):
                self.timers.store.link_contact(
                    contact, conversation_id, now // SECOND_MS + LINK_DAYS * 86_400
                )
            saved = self.timers.save(change.after, seen)
            if saved.done:
                return self._touched(message, seen, Change(change.result, saved.current, change.ignored))
            seen = saved.current
        raise ContendedError("the conversation kept changing while a message was recorded")

    def _touched(self, message: Message, before: Conversation | None, change: Change) -> dict[str, Any]:
        after = change.after
        assert after is not None  # noqa: S101 - every touch opens, changes or finds an item
        # A retry of an uncounted message finds its policy stored already, and arms for it all the same.
        policy_brought = change.result == "not_counted" and not _TIMING_FIELDS.isdisjoint(message.changes)
        timer: TimerWord = "none"
        if change.result in ("opened", "recorded", "reopened", "repeat") or (
            policy_brought and after.state == "active"
        ):
            timer = self._arm_for_message(message, before, change.result, after)
        elif after.state == "active":
            timer = "kept"
        if after.outbox and change.result in ("opened", "reopened", "repeat"):
            self.handover.to_cleanup(after.conversation_id, "outbox")
        self._count(before, change)
        answer = self._answer(after.conversation_id, after, change, timer)
        restore = rules.restore_entry(after)
        if restore is not None and self.timers.clock.now() < restore.body["until"]:
            answer["session"] = "restoring"
        return answer

    def _arm_for_message(
        self, message: Message, before: Conversation | None, result: str, after: Conversation
    ) -> TimerWord:
        known = before is not None and before.state == "active"
        timers = self.timers
        if rules.due_at(after, timers.settings) is None:
            return "none"  # a timer that is still set finds nothing due
        if result == "recorded" and timers.is_set_already(after):
            return "kept"
        first: Literal["create", "update"] = "update" if known else "create"
        if self._may_be_later(message, before, result, after):
            return timers.arm_and_look_again(after, NO_HOLD, first=first)
        word = timers.arm(after, first=first)
        if first == "create" and word == "updated":
            # Somebody has armed for this opening already, perhaps with a timeout that was shortened since.
            return timers.arm_and_look_again(after, NO_HOLD, first="update")
        if word == "throttled":
            if before is None or result == "repeat" or not self._covered(before, after):
                raise TimerNotArmedError("Scheduler is throttled")
            timers.telemetry.count("TimersDeferred")
            return "deferred"
        return word

    def _may_be_later(
        self, message: Message, before: Conversation | None, result: str, after: Conversation
    ) -> bool:
        """A longer timeout: its timer must not outlive a shorter one that somebody sets at the same moment."""
        if result == "repeat":
            # What the first attempt changed is stored already, and it may have died before it looked again.
            return not _TIMING_FIELDS.isdisjoint(message.changes)
        if before is None or before.state != "active":
            return False  # what opens is told by its create whether somebody has armed before it
        return (before.idle_timeout_seconds, before.stages) != (after.idle_timeout_seconds, after.stages)

    def _covered(self, before: Conversation, after: Conversation) -> bool:
        """Whether a timer that was set before fires in time: it will see the activity, and arm again."""
        settings = self.timers.settings
        was, will = rules.due_at(before, settings), rules.due_at(after, settings)
        return (
            was is not None
            and will is not None
            and self.timers.clock.now() < was <= will
            and before.not_before is None
        )

    def _count(self, before: Conversation | None, change: Change) -> None:
        count = self.timers.telemetry.count
        if change.result == "stale":
            count("StaleEvents")
        if change.after is None or before is None:
            return
        if change.result == "recorded":
            count("MessageGapSeconds", (change.after.last_activity_at - before.last_activity_at) / SECOND_MS)
        if change.result == "reopened":
            count("ConversationsReopened")
            came_back_after = change.after.opened_at - (before.ended_at or 0)
            false_end_ms = self.timers.settings.false_end_minutes * MINUTE_MS  # 0: none is counted
            if before.end_reason == "idle_timeout" and false_end_ms and came_back_after <= false_end_ms:
                count("FalseEnds")

    # --- lifecycle ---

    def lifecycle(self, event: messages.LifecycleEvent) -> dict[str, Any]:
        """pause, resume, end, extend: commit, then arm or hand the outbox to cleanup. Raises as `touch` does."""
        now = self.timers.clock.now()
        at = now if event.occurred_at is None else min(event.occurred_at, now)
        match event.action:
            case "pause":
                return self._move(event, lambda seen: rules.paused(seen, at, event.pause_timeout))
            case "resume":
                return self._move(event, lambda seen: rules.resumed(seen, at))
            case "extend":
                until = event.until or 0
                if until > now + MAX_TIMEOUT_SECONDS * SECOND_MS:
                    raise InvalidEventError(
                        f"invalid event: until: must be within {MAX_TIMEOUT_SECONDS} seconds from now"
                    )
                return self._move(event, lambda seen: rules.extended(seen, at, until))
            case "end":
                return self._end(event, at, event.reason or "ended")

    def _move(self, event: messages.LifecycleEvent, rule: Callable[[Conversation], Change]) -> dict[str, Any]:
        """Commit, arm, look again: none of these ends the conversation."""
        change = self._commit(event.conversation_id, rule, before_saving=lambda: None)
        after, timer = change.after, "none"
        if after is not None and after.state != "ended":
            # A stale one, too: its first attempt may have armed over a newer one's timer, and died before it looked.
            timer = self.timers.arm_and_look_again(after, NO_HOLD, first="update")
        return self._moved(event.conversation_id, change, timer)

    def _end(self, event: messages.LifecycleEvent, at: int, reason: str) -> dict[str, Any]:
        """Delete the schedule, commit: in this order, or a reopening message's new timer would be deleted with it."""

        def delete() -> None:
            self.timers.scheduler.delete(event.conversation_id)

        change = self._commit(
            event.conversation_id,
            lambda seen: rules.ended_by_event(seen, at, reason, self.timers.settings),
            before_saving=delete,
        )
        timer = "none"
        if change.after is not None and change.after.state != "ended":
            # Lost to a reopening, whose timer this attempt, or one that died before, may have deleted.
            timer = self.timers.arm_and_look_again(change.after, NO_HOLD, first="create")
        return self._moved(event.conversation_id, change, timer)

    def _commit(
        self, conversation_id: str, rule: Callable[[Conversation], Change], before_saving: Callable[[], None]
    ) -> Change:
        """Returns the change with what stands in the table now as `after` (None: no such conversation)."""
        seen = self.timers.store.read(conversation_id).conversation
        for _ in range(SAVE_TRIES):
            if seen is None:
                return Change("unknown")
            change = rule(seen)
            if change.after is None:
                return Change(change.result, seen)
            before_saving()
            saved = self.timers.save(change.after, seen)
            if saved.done:
                return Change(change.result, saved.current)
            seen = saved.current
        raise ContendedError("the conversation kept changing while a lifecycle event was applied")

    def _moved(self, conversation_id: str, change: Change, timer: str) -> dict[str, Any]:
        if change.after is not None and change.after.outbox and change.result in ("applied", "repeat"):
            self.handover.to_cleanup(conversation_id, "outbox")
        if change.result == "stale":
            self.timers.telemetry.count("StaleEvents")
        return self._answer(conversation_id, change.after, change, timer)

    def _answer(
        self, conversation_id: str, after: Conversation | None, change: Change, timer: str
    ) -> dict[str, Any]:
        due = None if after is None else rules.due_at(after, self.timers.settings)
        return messages.answer(
            conversation_id, after, result=change.result, timer=timer, due_at=due, ignored=change.ignored
        )
