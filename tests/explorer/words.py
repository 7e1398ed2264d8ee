"""Steps in plain words, times relative to the scenario's start."""

from dataclasses import dataclass

from tests.explorer.machine import Event, Machine, Node, Outcome


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
        kind = type(value).__name__
        if kind == "Conversation":
            state = f"{value.state} {value.opening_id} v{value.version}"  # type: ignore[attr-defined]
            owes = len(value.outbox)  # type: ignore[attr-defined]
            active = self.when(value.last_activity_at)  # type: ignore[attr-defined]
            return f"<{state}, active {active}{f', owes {owes}' if owes else ''}>"
        if kind in ("Recorded", "Saved", "Read"):
            parts = [self._short(getattr(value, name)) for name in value.__slots__ if name != "hold"]  # type: ignore[attr-defined]
            return f"{kind}({', '.join(parts)})"
        if kind == "Activity":
            return f"at {self.when(value.at)}"  # type: ignore[attr-defined]
        if kind == "Raised":
            return repr(value.error)  # type: ignore[attr-defined]
        if isinstance(value, dict):
            return f"{value.get('type')} {value.get('id')}"
        return repr(value)


def name(event: Event) -> str:
    return f"{event.kind} {event.label}"


def says(node: Node) -> str:
    """What a finished operation answers. Of cleanup it is not known for sure: nobody listens (see `liveness`)."""
    if node.error is not None:
        return f": {node.error!r}"
    return f": {node.answer['result']}" if "result" in node.answer else ""
