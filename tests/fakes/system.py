"""Time, randomness and metrics that a test holds in its hand."""

import random
from collections import Counter
from dataclasses import dataclass, field

from tests.fakes.steps import Steps

NOON = 1_767_268_800_000  # 2026-01-01T12:00:00Z


@dataclass
class ManualClock:
    """See `ports.Clock`. Stands still but for `advance`, and for those who sleep."""

    steps: Steps = field(default_factory=Steps)
    time: int = NOON  # epoch ms

    def now(self) -> int:
        answer: int = self.steps.take("clock.now", lambda: self.time)
        return answer

    def sleep(self, seconds: float) -> None:
        self.steps.take("clock.sleep", lambda: self.advance(seconds), seconds)

    def advance(self, seconds: float) -> None:
        self.time += round(seconds * 1_000)


@dataclass
class SeededChance:
    """See `ports.Chance`. Opening ids count up: `opening-1`, `opening-2`, …"""

    steps: Steps = field(default_factory=Steps)
    seed: int = 0
    opened: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)  # noqa: S311 - repeatable, not secret

    def opening_id(self) -> str:
        answer: str = self.steps.take("chance.opening_id", self._next_opening_id)
        return answer

    def jitter(self) -> float:
        answer: float = self.steps.take("chance.jitter", self._random.random)
        return answer

    def _next_opening_id(self) -> str:
        self.opened += 1
        return f"opening-{self.opened}"


@dataclass
class CountingTelemetry:
    """See `ports.Telemetry`. No step: counting changes nothing that anybody could race for."""

    totals: Counter[str] = field(default_factory=Counter)
    by: Counter[tuple[str, str]] = field(default_factory=Counter)
    values: dict[str, list[float]] = field(default_factory=dict)

    def count(self, metric: str, value: float = 1, *, by: str | None = None) -> None:
        self.totals[metric] += 1
        self.values.setdefault(metric, []).append(value)
        if by is not None:
            self.by[metric, by] += 1
