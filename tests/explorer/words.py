"""Steps in plain words, times relative to the scenario's start."""

from dataclasses import dataclass

from idle_timer.conversation import Conversation
from idle_timer.ports import Activity, Read, Recorded, Saved
from tests.explorer.machine import Event, Machine, Node, Outcome, Raised


@dataclass(frozen=True)
class Words:
    """`start`: epoch ms."""

    machine: Machine
    start: int

    def when(self, instant: int) -> str:
        return f"{(instant - self.start) / 1_000:+.3f} s"

    def call(self, node: Node, variant: str, outcome: Outcome) -> str:
        answer = self.machine.answers.values[outcome.answer]
        args = ", ".join(self._short(arg) for arg in node.args)
        how = "" if variant == "normal" else f" [{variant}]"
        return f"{name(node.event)}: {node.call}({args}) -> {self._short(answer)}{how}"

    def _short(self, value: object) -> str:
        if isinstance(value, int) and value > self.start // 2 and not isinstance(value, bool):
            return self.when(value)
        match value:
            case Conversation():
                state = f"{value.state} {value.opening_id} v{value.version}"
                owes = f", owes {len(value.outbox)}" if value.outbox else ""
                return f"<{state}, active {self.when(value.last_activity_at)}{owes}>"
            case Recorded():
                return f"Recorded({self._short(value.before)}, {self._short(value.after)})"
            case Saved():
                return f"Saved({value.done}, {self._short(value.current)})"
            case Read():
                return f"Read({self._short(value.conversation)})"
            case Activity():
                return f"at {self.when(value.at)}"
            case Raised():
                return repr(value.error)
            case dict():
                return f"{value.get('type')} {value.get('id')}"
        return repr(value)


def name(event: Event) -> str:
    return f"{event.kind} {event.label}"


def says(node: Node) -> str:
    """What a finished operation answers. Of cleanup it is not known for sure: nobody listens (see `liveness`)."""
    if node.error is not None:
        return f": {node.error!r}"
    return f": {node.answer['result']}" if "result" in node.answer else ""
