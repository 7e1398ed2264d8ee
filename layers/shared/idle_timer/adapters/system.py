"""The clock and randomness of the machine."""

import random
import secrets
import time


class SystemClock:
    """See `ports.Clock`."""

    def now(self) -> int:
        """Epoch milliseconds."""
        return time.time_ns() // 1_000_000

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


class SystemChance:
    """See `ports.Chance`. Read from the system at each use, so a restored snapshot repeats nothing."""

    def opening_id(self) -> str:
        """96 random bits: two openings never share one."""
        return secrets.token_hex(12)

    def jitter(self) -> float:
        """A number from 0 to 1."""
        return random.SystemRandom().random()
