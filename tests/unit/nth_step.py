"""Faults and rivals at every single step of a run, not only at those that somebody thought of."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from idle_timer.settings import Settings
from tests.fakes.steps import Effect, Steps, Twist
from tests.fakes.world import World


class CrashError(Exception):
    """The process dies here."""


@dataclass
class NthStep(Steps):
    """Steps of which one, counted from `arm`, goes differently."""

    struck: str | None = None  # the name of that step, once it was reached
    _number: int = -1
    _twist: Twist | None = None

    def strike(self, number: int, twist: Twist) -> None:
        self._number, self._twist = len(self.calls) + number, twist

    def take(self, name: str, effect: Effect, *args: Any) -> Any:
        twist = self._twist
        if twist is None or len(self.calls) != self._number:
            return super().take(name, effect, *args)
        self.struck, self._twist = name, None
        return super().take(name, lambda: twist(effect), *args)


def at_each_step(
    stack: Settings,
    prepare: Callable[[World], Any],
    twist: Callable[[World], Twist],
    run: Callable[[World], Any],
) -> Iterator[tuple[World, str]]:
    """Prepare, then run with the twist at step 0; again from the start with it at step 1; and so on, to the last step.

    Yields each world as it stands after the run, crashed or not, and the name of the step.
    """
    number = 0
    while True:
        steps = NthStep()
        world = World(stack, steps)
        prepare(world)
        steps.strike(number, twist(world))
        with suppress(CrashError):
            run(world)
        if steps.struck is None:
            assert number >= 4, "hardly a run"
            return
        yield world, f"step {number}, {steps.struck}"
        number += 1


def finish(world: World) -> None:
    """Let cleanup do what was handed to it, and what follows from that."""
    for _ in range(10):
        if not world.handover.handed:
            return
        world.drain()
    raise AssertionError("cleanup is handed work for ever")
