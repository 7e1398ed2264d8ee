"""Which operations meet, and in what situation."""

from tests.explorer.machine import Event
from tests.explorer.rights import Budget
from tests.explorer.search import Scenario

START = 1_767_268_800_000  # 2026-01-01T12:00:00Z, a whole second
FIRST = START + 123  # the activity that the timers of the setups were armed for: no whole second

OPENED = Event("touch", "first", FIRST)

WITH_A_WARNING = Event("touch", "first", FIRST, (("stages", ((("name", "still_there"), ("after", 60)),)),))

SITUATIONS: dict[str, tuple[Event | str | int, ...]] = {
    "new": (1_000,),
    "active": (200, OPENED, 10_000),
    "fired": (200, OPENED, "fire"),
    "warning": (200, WITH_A_WARNING, "fire"),
    "warned": (200, WITH_A_WARNING, "fire", "run", Event("cleanup", "first look"), "fire"),
    "lost": (200, OPENED, "lose the timer", 599_800),
    "ended": (200, OPENED, "fire", "run", Event("cleanup", "end of it"), 2_000),
    "paused": (200, OPENED, 10_000, Event("pause", "handed over", START + 10_000), "run", 5_000),
}
"""Name -> what has happened before."""

# What happens in a situation is newer than what its setup did; the clock stands at the setup's end or a little later.
NOW = {
    "new": START + 1_000,
    "active": START + 10_200,
    "fired": START + 302_000,
    "warning": START + 62_000,
    "warned": START + 303_000,
    "lost": START + 600_000,
    "ended": START + 304_000,
    "paused": START + 15_200,
}


def operation(kind: str, label: str, now: int) -> Event:
    """An operation of the triples and pairs. Labels tell who is who in a story."""
    match kind:
        case "touch":
            return Event("touch", label, None)  # sent when it begins
        case "earlier touch":
            return Event("touch", label, now - 3)  # at the very time of the end
        case "old touch":
            return Event("touch", label, now - 299_500)  # still fresh for half a second
        case "repeated touch":
            return Event("touch", "first", FIRST)
        case "longer touch":
            return Event("touch", label, now - 1, (("idle_timeout", 600),))
        case "shorter touch":
            return Event("touch", label, now, (("idle_timeout", 60),))
        case "cleanup":
            return Event("cleanup", label)
        case "end":
            return Event("end", label, now - 3)
        case "pause":
            return Event("pause", label, now - 4)
        case "resume":
            return Event("resume", label, now - 2)
        case "tied resume":
            return Event("resume", label, now - 4)  # at the very time of the pause
        case "extend":
            return Event("extend", label, now, (("until_ms", 600_000),))
        case "sweep":
            return Event("sweep", label)
        case "redrive":
            return Event("redrive", label)
        case "redriven touch":
            return Event("redrive", label, fields=(("occurred_at", now - 1),))
        case "bad touch":
            return Event("touch", label, now, (("idle_timeout", -1),))
    raise ValueError(kind)


KINDS = (
    "touch",
    "earlier touch",
    "old touch",
    "repeated touch",
    "longer touch",
    "shorter touch",
    "cleanup",
    "end",
    "pause",
    "resume",
    "tied resume",
    "extend",
    "sweep",
    "redrive",
    "redriven touch",
    "bad touch",
)

TRIPLES = (
    ("touch", "earlier touch", "cleanup"),
    ("touch", "cleanup", "cleanup"),
    ("touch", "end", "cleanup"),
    ("touch", "pause", "resume"),
    ("pause", "resume", "cleanup"),
    ("touch", "sweep", "cleanup"),
    ("touch", "redrive", "cleanup"),
    ("touch", "redriven touch", "cleanup"),
)

PLAIN_MESSAGES = frozenset({"touch", "earlier touch", "old touch", "repeated touch", "redriven touch"})

# A message costs two calls, so it does not look again after it has armed (but one that changes the timeout of an active
# conversation does): it may undo the earlier timer that another message, which shortens the timeout at the same moment,
# has set in between. Nothing is lost but punctuality.
SHORTENED = "two messages at the same moment, one of which shortens the timeout"


def scenario(kinds: tuple[str, ...], situation: str, budget: Budget, stack: str = "") -> Scenario:
    letters = "ABC"
    operations = tuple(operation(kind, letters[i], NOW[situation]) for i, kind in enumerate(kinds))
    name = (
        f"{'+'.join(kinds).replace(' ', '_')}@{situation}/{''.join(map(str, budget))}{stack and f'~{stack}'}"
    )
    shortened = "shorter touch" in kinds and not PLAIN_MESSAGES.isdisjoint(kinds)
    reason = SHORTENED if shortened else ""
    return Scenario(name, SITUATIONS[situation], operations, budget, START, reason, stack)


def by_name(name: str) -> Scenario:
    """The scenario of a seed."""
    kinds, _, rest = name.partition("@")
    situation, _, rest = rest.partition("/")
    budget, _, stack = rest.partition("~")
    plain = tuple(kind.replace("_", " ") for kind in kinds.split("+"))
    return scenario(plain, situation, Budget(*map(int, budget)), stack)
