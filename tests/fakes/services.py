"""What stands around the protocol, in memory: cleanup's queue, the topic, sessions, bots, the caller's own code."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.sessions import MemorySessions
from tests.fakes.steps import Steps


@dataclass
class MemoryHandover:
    """See `ports.Handover`. `handed`: (conversation id, source), oldest first."""

    steps: Steps = field(default_factory=Steps)
    handed: list[tuple[str, str]] = field(default_factory=list)

    def to_cleanup(self, conversation_id: str, source: str) -> None:
        self.steps.take(
            "handover.to_cleanup",
            lambda: self.handed.append((conversation_id, source)),
            conversation_id,
            source,
        )


@dataclass
class MemoryOutcomes:
    """See `ports.Outcomes`. `published`: in their wire form, repeats included."""

    steps: Steps = field(default_factory=Steps)
    published: list[Mapping[str, Any]] = field(default_factory=list)

    def publish(self, outcome: Mapping[str, Any]) -> None:
        self.steps.take("outcomes.publish", lambda: self.published.append(outcome), outcome)

    def types(self) -> list[str]:
        """The published types, in order."""
        return [outcome["type"] for outcome in self.published]


@dataclass
class SteppedSessions:
    """See `ports.Sessions`. `memory` is the twin of the Redis adapter that does it; here its calls become steps."""

    steps: Steps
    memory: MemorySessions

    def remove(self, session_key: str, opening_id: str) -> bool:
        answer: bool = self.steps.take(
            "sessions.remove", lambda: self.memory.remove(session_key, opening_id), session_key, opening_id
        )
        return answer

    def restore(self, session_key: str, opening_id: str) -> bool:
        answer: bool = self.steps.take(
            "sessions.restore", lambda: self.memory.restore(session_key, opening_id), session_key, opening_id
        )
        return answer

    def forget(self, session_key: str, opening_id: str) -> None:
        self.steps.take(
            "sessions.forget", lambda: self.memory.forget(session_key, opening_id), session_key, opening_id
        )


@dataclass
class MemoryBots:
    """See `ports.Bots`."""

    steps: Steps = field(default_factory=Steps)
    deleted_lex_sessions: list[Mapping[str, str]] = field(default_factory=list)
    stopped_contacts: list[str] = field(default_factory=list)

    def delete_lex_session(self, lex: Mapping[str, str]) -> None:
        self.steps.take("bots.delete_lex_session", lambda: self.deleted_lex_sessions.append(lex), lex)

    def stop_contact(self, contact_id: str) -> None:
        self.steps.take("bots.stop_contact", lambda: self.stopped_contacts.append(contact_id), contact_id)


@dataclass
class MemoryCallersCode:
    """See `ports.CallersCode`. `wait_seconds`: what the end check answers; 0 = it may end."""

    steps: Steps = field(default_factory=Steps)
    wait_seconds: int = 0
    asked: list[Mapping[str, Any]] = field(default_factory=list)
    hooked: list[Mapping[str, Any]] = field(default_factory=list)

    def may_end(self, conversation: Mapping[str, Any]) -> int:
        def ask() -> int:
            self.asked.append(conversation)
            return self.wait_seconds

        answer: int = self.steps.take("callers_code.may_end", ask, conversation)
        return answer

    def run_end_hook(self, outcome: Mapping[str, Any]) -> None:
        self.steps.take("callers_code.run_end_hook", lambda: self.hooked.append(outcome), outcome)
