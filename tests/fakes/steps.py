"""Every call of a fake port is a step: recorded, and open to a test that wants it to fail, or something in between."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Effect = Callable[[], Any]
Twist = Callable[[Effect], Any]
"""Stands in for one call: gets the call's real effect, and returns or raises what the caller is to see."""


@dataclass(frozen=True)
class Call:
    """`name`: port and method, like `store.save`."""

    name: str
    args: tuple[Any, ...]


@dataclass
class Steps:
    """Shared by all fakes of one world. Override `take` to interleave at every call."""

    calls: list[Call] = field(default_factory=list)
    _twists: dict[str, list[Twist]] = field(default_factory=dict)

    def take(self, name: str, effect: Effect, *args: Any) -> Any:
        """Do the call. `effect` does what the real service would, and answers as it would."""
        self.calls.append(Call(name, args))
        waiting = self._twists.get(name)
        return waiting.pop(0)(effect) if waiting else effect()

    def twist(self, name: str, *twists: Twist) -> None:
        """Let the next calls of `name` go differently: one twist each, then as usual."""
        self._twists.setdefault(name, []).extend(twists)

    def names(self, *ports: str) -> list[str]:
        """The calls so far, in order; only those of some ports (`store`, `scheduler`), if any are named."""
        return [call.name for call in self.calls if not ports or call.name.split(".")[0] in ports]


def normal() -> Twist:
    """As usual."""
    return lambda effect: effect()


def failing(error: BaseException) -> Twist:
    """Nothing happens, and the caller sees `error`."""

    def twist(effect: Effect) -> Any:
        raise error

    return twist


def losing_the_answer(error: BaseException) -> Twist:
    """It happens, but the caller sees `error` (a timeout, or the process dies right after)."""

    def twist(effect: Effect) -> Any:
        effect()
        raise error

    return twist


def answering(answer: Any) -> Twist:
    """Nothing happens, and the caller sees `answer`."""
    return lambda effect: answer


def preceded_by(action: Callable[[], Any]) -> Twist:
    """Somebody else is faster: `action`, then the call as usual."""

    def twist(effect: Effect) -> Any:
        action()
        return effect()

    return twist


def followed_by(action: Callable[[], Any]) -> Twist:
    """The call as usual, then somebody else's `action` before the caller goes on."""

    def twist(effect: Effect) -> Any:
        answer = effect()
        action()
        return answer

    return twist
