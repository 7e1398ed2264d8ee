"""The two tables in memory: what `DynamoDBStore` does, seen from outside."""

from dataclasses import dataclass, field, replace

from idle_timer.conversation import NO_HOLD, Conversation, Hold
from idle_timer.ports import Activity, Read, Recorded, Saved
from tests.fakes.steps import Steps


@dataclass
class MemoryStore:
    """See `ports.Store`. `items` and `hold` are the tests' own door."""

    steps: Steps = field(default_factory=Steps)
    items: dict[str, Conversation] = field(default_factory=dict)
    hold: Hold = NO_HOLD
    contacts: dict[str, tuple[str, int]] = field(
        default_factory=dict
    )  # contact -> (conversation, expires_at)

    def record(self, activity: Activity) -> Recorded:
        answer: Recorded = self.steps.take("store.record", lambda: self._record(activity), activity)
        return answer

    def read(self, conversation_id: str) -> Read:
        answer: Read = self.steps.take(
            "store.read", lambda: Read(self.items.get(conversation_id), self.hold), conversation_id
        )
        return answer

    def save(self, after: Conversation, seen: Conversation | None) -> Saved:
        answer: Saved = self.steps.take("store.save", lambda: self._save(after, seen), after, seen)
        return answer

    def delete(self, seen: Conversation) -> Saved:
        answer: Saved = self.steps.take("store.delete", lambda: self._delete(seen), seen)
        return answer

    def note_timer(self, conversation: Conversation, armed_for: int) -> None:
        self.steps.take(
            "store.note_timer", lambda: self._note_timer(conversation, armed_for), conversation, armed_for
        )

    def link_contact(self, contact_id: str, conversation_id: str, expires_at: int) -> None:
        def link() -> None:
            self.contacts[contact_id] = (conversation_id, expires_at)

        self.steps.take("store.link_contact", link, contact_id, conversation_id, expires_at)

    def conversation_of_contact(self, contact_id: str) -> str | None:
        answer: str | None = self.steps.take(
            "store.conversation_of_contact", lambda: self.contacts.get(contact_id, (None, 0))[0], contact_id
        )
        return answer

    def _record(self, activity: Activity) -> Recorded:
        before = self.items.get(activity.conversation_id)
        if before is None:
            return Recorded(None, None)
        is_in_order = before.state == "active" and before.last_activity_at < activity.at
        is_unencumbered = not before.outbox and before.attempts == 0 and before.not_before is None
        is_timed = before.sweep_after_ms is not None
        has_the_policy = all(
            activity.changes[name] == getattr(before, name)
            for name in ("idle_timeout_seconds", "stages", "connect_contact_id")
            if name in activity.changes
        )
        if not (is_in_order and is_unencumbered and is_timed and has_the_policy):
            return Recorded(before, None)
        after = activity.applied_to(before)
        self.items[activity.conversation_id] = after
        return Recorded(before, after)

    def _save(self, after: Conversation, seen: Conversation | None) -> Saved:
        current = self.items.get(after.conversation_id)
        if (current and current.version) != (seen and seen.version):
            return Saved(current == after, current)
        self.items[after.conversation_id] = after
        return Saved(True, after)

    def _note_timer(self, conversation: Conversation, armed_for: int) -> None:
        fence = ("opening_id", "seq", "idle_timeout_seconds", "stages", "not_before")
        current = self.items.get(conversation.conversation_id)
        if current is not None and all(
            getattr(current, name) == getattr(conversation, name) for name in fence
        ):
            self.items[conversation.conversation_id] = replace(
                current, armed_for=armed_for, version=current.version + 1
            )

    def _delete(self, seen: Conversation) -> Saved:
        current = self.items.get(seen.conversation_id)
        if current is not None and current.version != seen.version:
            return Saved(False, current)
        self.items.pop(seen.conversation_id, None)
        return Saved(True, None)
