"""The protocol: cleanup, which verifies that a conversation is idle, ends it, and works off what is owed for it.

The only part that talks to the topic, the session store, Lex, Connect and the caller's own code.
"""

from dataclasses import dataclass, replace
from typing import Any

from idle_timer import conversation as rules
from idle_timer import messages
from idle_timer.conversation import END_ACTIONS, Conversation, Entry, Firing, Hold
from idle_timer.errors import ContendedError, TimerNotArmedError
from idle_timer.ports import Bots, CallersCode, Outcomes, Read, Sessions
from idle_timer.timer import SAVE_TRIES, Timers
from idle_timer.timestamps import SECOND_MS, format_time


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleanup:
    """Whoever invokes it, and however often: always the same steps."""

    timers: Timers
    outcomes: Outcomes
    sessions: Sessions
    bots: Bots
    callers_code: CallersCode

    def cleanup(self, event: messages.CleanupEvent) -> dict[str, Any]:
        """Delete the schedule, look, then end, warn, re-arm or do nothing; then work off the outbox.

        Returns the decision with its proof. Raises what the retry must mend: arming, and whatever the outbox needs.
        """
        fired_at = self.timers.clock.now()
        conversation_id = event.conversation_id
        read, keeps_its_timer = self._look(event)
        seen, hold = read.conversation, read.hold
        told, seen = self._tell_of_failure(seen)
        if told and event.source == "outbox" and seen is not None and rules.is_parked(seen):
            # This was all that it was invoked for: what has just been parked is not tried once more.
            firing = Firing(source=event.source, fired_at=fired_at)
            return self._answer(conversation_id, "nothing", seen, hold, firing)
        for _ in range(SAVE_TRIES):
            firing = Firing(
                source=event.source, fired_at=fired_at, scheduled_for=event.scheduled_for, hold=hold
            )
            decision, after = self._decide(seen, firing)
            if after is None:
                break
            saved = self.timers.save(after, seen, hold)
            if saved.done:
                seen = saved.current
                break
            read = self.timers.store.read(conversation_id)
            seen, hold = read.conversation, read.hold
        else:
            raise ContendedError("the conversation kept changing while cleanup looked at it")
        if seen is None:
            return self._answer(conversation_id, decision, None, hold, firing)
        if keeps_its_timer and decision in ("rearmed", "held"):
            decision = "nothing"
        elif decision in ("rearmed", "warned"):
            self.timers.arm_and_look_again(seen, hold, first="create")
        elif decision == "held":
            self._arm_recheck(conversation_id)
        self._count(decision, seen)
        current = self._work_off(seen)
        if current is not None and current.attempts:
            self._forgive_attempts(current)
        return self._answer(conversation_id, decision, seen, hold, firing)

    def _look(self, event: messages.CleanupEvent) -> tuple[Read, bool]:
        """Delete the schedule, then read. Returns whether the schedule was left alone instead.

        That is where it is invoked for an outbox, nothing is due, and whoever wrote the outbox has armed: deleting that
        timer and setting it anew would double what a reopening costs. A delete is not needed where nothing is committed.
        """
        store = self.timers.store
        if event.source == "outbox":
            found = store.read(event.conversation_id)
            verdict = rules.verdict(
                found.conversation, self.timers.settings, found.hold, self.timers.clock.now()
            )
            if verdict in ("rearmed", "held"):
                return found, True
        # Before anything is committed: afterwards, it would take along the timer of a message that reopens in between.
        # A refusal does not stop an end: a leftover schedule fires, finds nothing to do, and is deleted here.
        self.timers.scheduler.delete(event.conversation_id)
        return store.read(event.conversation_id), False

    def _decide(self, seen: Conversation | None, firing: Firing) -> tuple[str, Conversation | None]:
        """The decision, and what to store for it (None: nothing)."""
        settings, now = self.timers.settings, self.timers.clock.now()
        verdict = rules.verdict(seen, settings, firing.hold, now)
        if seen is None:
            return verdict, None
        match verdict:
            case "rearmed" if rules.sweeps_too_early(seen, settings, firing.hold, now):
                return (
                    verdict,
                    seen,
                )  # stored anew with the hold's credit, or the sweep would find it again and again
            case "warned":
                stage = rules.next_stage(seen, settings)
                assert stage is not None  # noqa: S101 - that is what the verdict says
                return verdict, rules.warned(seen, stage, now, firing, settings)
            case "ended":
                due = rules.due_at(seen, settings, firing.hold, now)
                if settings.end_check_function_arn and due is not None:
                    wait_seconds = self.callers_code.may_end(messages.end_check(seen, due))
                    if wait_seconds > 0:
                        until = self.timers.clock.now() + wait_seconds * SECOND_MS
                        return "rearmed", rules.postponed(seen, until)
                return verdict, rules.ended_by_timer(seen, self.timers.clock.now(), firing, settings)
        return verdict, None

    def _arm_recheck(self, conversation_id: str) -> None:
        # Spread, so that lifting a hold does not end everything in the same second.
        wait_seconds = rules.HOLD_RECHECK_SECONDS * (1 + self.timers.chance.jitter())
        due = self.timers.clock.now() + int(wait_seconds * SECOND_MS)
        if self.timers.arm_at(conversation_id, due, first="create") == "throttled":
            raise TimerNotArmedError("Scheduler is throttled")

    def _forgive_attempts(self, current: Conversation) -> None:
        """It went well this time. Lost to somebody else's write: theirs is newer, and the next success forgives."""
        self.timers.save(replace(current, attempts=0), current)

    # --- the outbox ---

    def _tell_of_failure(self, seen: Conversation | None) -> tuple[bool, Conversation | None]:
        """Publish that it was parked before trying anything else, which may fail again."""
        notices = (
            [key for key, entry in seen.outbox.items() if rules.is_failure_notice(entry)] if seen else []
        )
        for done in notices:
            if seen is not None and done in seen.outbox:
                self._perform(seen, seen.outbox[done])
                seen = self._remove(seen, done)
        return bool(notices), seen

    def _work_off(self, conversation: Conversation) -> Conversation | None:
        """Entry by entry; one that fails raises, and the retry resumes there. Returns the item as it is afterwards."""
        current: Conversation | None = conversation
        while current is not None and current.outbox:
            done, entry = next(rules.owed(current))
            self._perform(current, entry)
            if entry.kind == "forget" and current.is_ended_opening(entry.opening_id):
                current = self._forget(current)
            else:
                current = self._remove(current, done)
        return current

    def _forget(self, seen: Conversation) -> Conversation | None:
        """The item itself goes last, unless somebody has just written to it: then its outbox is looked at again."""
        deleted = self.timers.store.delete(seen)
        return None if deleted.done else deleted.current

    def _remove(self, seen: Conversation | None, done: str) -> Conversation | None:
        for _ in range(SAVE_TRIES):
            if seen is None or done not in seen.outbox:
                return seen
            saved = self.timers.save(rules.without(seen, done), seen)
            if saved.done:
                return saved.current
            seen = saved.current
        raise ContendedError("the conversation kept changing while its outbox was worked off")

    def _perform(self, current: Conversation, entry: Entry) -> None:
        if entry.kind in END_ACTIONS and not self._still_ended(current.conversation_id, entry):
            self.timers.telemetry.count("EndActionsDropped")
            return
        match entry.kind:
            case "session":
                # Reopened since that look: what brings the session back is owed with the reopening, and marks it as back.
                self.sessions.remove(entry.body["session_key"], entry.opening_id)
            case "session_restore":
                self.sessions.restore(entry.body["session_key"], entry.body["ended_opening_id"])
            case "forget" if "session_key" in entry.body:
                self.sessions.forget(entry.body["session_key"], entry.opening_id)
            case "lex":
                self.bots.delete_lex_session(entry.body)
            case "connect":
                self.bots.stop_contact(entry.body["contact_id"])
            case "hook":
                end = current.outbox[rules.entry_id(replace(entry, kind="outcome"))]
                self.callers_code.run_end_hook(messages.outcome(current.conversation_id, end))
            case "outcome" if self._is_superseded(current.conversation_id, entry):
                self.timers.telemetry.count("WarningsSuperseded")
            case "outcome":
                self.outcomes.publish(messages.outcome(current.conversation_id, entry))

    def _is_superseded(self, conversation_id: str, entry: Entry) -> bool:
        """Looks again before it warns: a message may have come while the next timer was armed."""
        if entry.body["type"] != "ConversationWarned":
            return False
        now_there = self.timers.store.read(conversation_id).conversation
        return now_there is None or rules.is_superseded(entry, now_there)

    def _still_ended(self, conversation_id: str, entry: Entry) -> bool:
        now_there = self.timers.store.read(conversation_id).conversation
        return now_there is not None and now_there.is_ended_opening(entry.opening_id)

    # --- telling ---

    def _count(self, decision: str, after: Conversation) -> None:
        count = self.timers.telemetry.count
        if decision == "ended":
            count("ConversationsEnded", by=after.end_reason)
        elif decision == "warned":
            count("ConversationsWarned")
        elif decision == "rearmed":
            count("Rearmed")
        elif decision == "would_end":
            count("WouldEnd")
        if decision in ("ended", "warned"):
            count("EndLatenessSeconds", self._lateness_seconds(after))

    def _lateness_seconds(self, after: Conversation) -> float:
        proofs = [entry.body.get("proof", {}) for entry in after.outbox.values() if entry.seq == after.seq]
        return max((float(proof.get("lateness_seconds", 0)) for proof in proofs), default=0.0)

    def _answer(
        self,
        conversation_id: str,
        decision: str,
        conversation: Conversation | None,
        hold: Hold,
        firing: Firing,
    ) -> dict[str, Any]:
        answer: dict[str, Any] = {
            "conversation_id": conversation_id,
            "decision": decision,
            "source": firing.source,
        }
        answer["fired_at"] = format_time(firing.fired_at)
        if conversation is None:
            return answer | {"state": None, "due_at": None}
        now = self.timers.clock.now()
        due = rules.due_at(conversation, self.timers.settings, hold, now)
        return answer | {
            "state": conversation.state,
            "last_activity_at": format_time(conversation.last_activity_at),
            "idle_timeout_seconds": rules.idle_timeout_seconds(conversation, self.timers.settings),
            "hold_credit_seconds": hold.credit(conversation.last_activity_at, now) / SECOND_MS,
            "due_at": None if due is None else format_time(due),
            "scheduled_for": firing.scheduled_for,
            "decided_at": format_time(now),
        }
