"""Counting what failed: on the conversation itself, so that sweep and redrive count together and survive anything."""

from dataclasses import dataclass
from typing import Literal

from idle_timer import conversation as rules
from idle_timer.conversation import Conversation
from idle_timer.errors import ContendedError
from idle_timer.ports import Clock, Handover, Store, Telemetry
from idle_timer.settings import Settings
from idle_timer.timer import SAVE_TRIES
from idle_timer.upkeep_ports import Overview

Counted = Literal["counted", "parked", "gone"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempts:
    """Failed cleanups; a parked conversation waits for a person."""

    settings: Settings
    overview: Overview
    store: Store
    handover: Handover
    clock: Clock
    telemetry: Telemetry

    def failed(self, conversation_id: str) -> Counted:
        """One more failed attempt; with the last one it is parked, and cleanup is asked to say so.

        Raises ContendedError, and AWS errors: then it was not counted.
        """
        for _ in range(SAVE_TRIES):
            seen = self.overview.read_each([conversation_id]).get(conversation_id)
            if seen is None or seen.sweep_at is None:
                return "gone"  # or nothing is due or owed any more: meanwhile somebody else has done it
            if rules.is_parked(seen):
                return "parked"
            now = self.clock.now()
            after = rules.stamped(rules.failed_attempt(seen, now, self.settings), seen, now, self.settings)
            if self.store.save(after, seen).done:
                return self._counted(after)
        raise ContendedError("the conversation kept changing while a failed attempt was counted")

    def _counted(self, after: Conversation) -> Counted:
        if not rules.is_parked(after):
            return "counted"
        self.telemetry.count("Parked")
        self.tell(after)
        return "parked"

    def tell(self, parked: Conversation) -> None:
        """Have it published that a conversation was parked, if that is still owed."""
        if any(rules.is_failure_notice(entry) for entry in parked.outbox.values()):
            self.handover.to_cleanup(parked.conversation_id, "outbox")
