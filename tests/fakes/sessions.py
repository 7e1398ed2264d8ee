"""Sessions in memory: what `RedisSessions` does, seen from outside, without a server."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Session:
    value: str
    expires_at: int | None = None  # epoch ms; None = never


@dataclass
class Tombstone:
    value: str
    ttl: int | None  # ms that the session had left
    expires_at: int


class MemorySessions:
    """`live` is the application's side: tests put sessions there and look whether they are still in it.

    :param now: epoch milliseconds
    """

    def __init__(self, now: Callable[[], int], tombstone_seconds: int = 3600) -> None:
        self.live: dict[str, Session] = {}
        self.tombstones: dict[tuple[str, str], Tombstone] = {}
        self.back: set[tuple[str, str]] = set()  # openings that were restored, and are done with
        self.failure: Exception | None = None  # raised by each call while it is set
        self._now = now
        self._tombstone_ms = tombstone_seconds * 1000

    def remove(self, session_key: str, opening_id: str) -> bool:
        self._begin()
        if (session_key, opening_id) in self.back:
            return False
        session = self.live.pop(session_key, None)
        if session is None:
            return False
        ttl = None if session.expires_at is None else session.expires_at - self._now()
        tombstone = Tombstone(session.value, ttl, expires_at=self._now() + self._tombstone_ms)
        self.tombstones[session_key, opening_id] = tombstone
        return True

    def restore(self, session_key: str, opening_id: str) -> bool:
        self._begin()
        if (session_key, opening_id) in self.back:
            return False
        self.back.add((session_key, opening_id))
        if session_key in self.live or (session_key, opening_id) not in self.tombstones:
            return False
        tombstone = self.tombstones.pop((session_key, opening_id))
        expires_at = None if tombstone.ttl is None else self._now() + tombstone.ttl
        self.live[session_key] = Session(tombstone.value, expires_at)
        return True

    def forget(self, session_key: str, opening_id: str) -> None:
        self._begin()
        self.live.pop(session_key, None)
        self.tombstones.pop((session_key, opening_id), None)
        self.back.discard((session_key, opening_id))

    def _begin(self) -> None:
        if self.failure is not None:
            raise self.failure
        now = self._now()
        self.live = {k: s for k, s in self.live.items() if s.expires_at is None or s.expires_at > now}
        self.tombstones = {k: t for k, t in self.tombstones.items() if t.expires_at > now}
