"""Which local variables a stopped function can still look at. What it can not, need not be known to tell it from another.

The usual backward data flow over the byte code. Where exactly in a statement a value has been put aside already cannot be
seen from outside, so all names of the statement that is under way count as well; and what a loop counts with.
"""

import ast
import dis
import functools
import itertools
from types import CodeType

_LOADS = frozenset(
    {"LOAD_FAST", "LOAD_FAST_CHECK", "LOAD_FAST_AND_CLEAR", "LOAD_FAST_LOAD_FAST", "DELETE_FAST"}
)
_STORES = frozenset({"STORE_FAST", "STORE_FAST_STORE_FAST"})
_NO_WAY_ON = frozenset(
    {"RETURN_VALUE", "RETURN_CONST", "RAISE_VARARGS", "RERAISE", "JUMP_FORWARD", "JUMP_BACKWARD"}
    | {"JUMP_BACKWARD_NO_INTERRUPT"}
)


@functools.cache
def live(code: CodeType, offset: int) -> frozenset[str]:
    """The names that count while the call at this offset (`tb_lasti`) is under way."""
    flow = _flow(code)
    lines = _statement(code, _line(code, offset))
    under_way = {
        name
        for each in dis.get_instructions(code)
        if each.positions and each.positions.lineno in lines
        for name in _names(each)
    }
    return frozenset(flow[offset] | under_way | _counted(code) | {*code.co_cellvars, *code.co_freevars})


def _unheard(code: CodeType) -> set[int]:
    """The lines that only say what cleanup answers: it makes no difference to anybody."""
    if not code.co_qualname.startswith("Cleanup."):
        return set()
    returns = [each for each in _statements(code.co_filename) if isinstance(each, ast.Return)]
    answers = [each for each in returns if "_answer" in ast.dump(each)]
    return {line for each in answers for line in range(each.lineno, (each.end_lineno or each.lineno) + 1)}


@functools.cache
def _flow(code: CodeType) -> dict[int, set[str]]:
    """Offset -> the names that are live after the instruction."""
    instructions = list(dis.get_instructions(code))
    following = {here.offset: after.offset for here, after in itertools.pairwise(instructions)}
    ways: dict[int, set[int]] = {}
    handlers = dis.Bytecode(code).exception_entries  # type: ignore[attr-defined] # not in typeshed
    for each in instructions:
        ways[each.offset] = {entry.target for entry in handlers if entry.start <= each.offset < entry.end}
        if each.jump_target is not None:
            ways[each.offset].add(each.jump_target)
        if each.opname not in _NO_WAY_ON and each.offset in following:
            ways[each.offset].add(following[each.offset])
    before: dict[int, set[str]] = {each.offset: set() for each in instructions}
    after: dict[int, set[str]] = {each.offset: set() for each in instructions}
    unheard = _unheard(code)
    loaded = {
        each.offset: set() if each.positions and each.positions.lineno in unheard else _loaded(each)
        for each in instructions
    }
    changed = True
    while changed:
        changed = False
        for each in reversed(instructions):
            here = each.offset
            after[here] = set().union(*(before[way] for way in ways[here]))
            found = after[here] - _stored(each) | loaded[here]
            changed = changed or found != before[here]
            before[here] = found
    return after


def _names(instruction: dis.Instruction) -> set[str]:
    return _loaded(instruction) | _stored(instruction)


def _loaded(instruction: dis.Instruction) -> set[str]:
    if instruction.opname == "STORE_FAST_LOAD_FAST":
        return {instruction.argval[1]}
    return _as_set(instruction.argval) if instruction.opname in _LOADS else set()


def _stored(instruction: dis.Instruction) -> set[str]:
    if instruction.opname == "STORE_FAST_LOAD_FAST":
        return {instruction.argval[0]}
    return _as_set(instruction.argval) if instruction.opname in _STORES else set()


def _as_set(names: str | tuple[str, ...]) -> set[str]:
    return {names} if isinstance(names, str) else set(names)


@functools.cache
def _counted(code: CodeType) -> set[str]:
    """What loops assign: an iterator itself is not to be seen."""
    counted: set[str] = set()
    waiting = False
    for each in dis.get_instructions(code):
        if each.opname == "FOR_ITER":
            waiting = True
        elif waiting and _stored(each):
            counted |= _stored(each)
            waiting = False
    return counted


def _line(code: CodeType, offset: int) -> int:
    return next(
        each.positions.lineno or 0
        for each in dis.get_instructions(code)
        if each.offset == offset and each.positions
    )


def _statement(code: CodeType, line: int) -> range:
    """The lines of the innermost statement around it; of one with a body, only its head."""
    found = range(line, line + 1)
    for statement in _statements(code.co_filename):
        end = statement.end_lineno or statement.lineno
        if statement.lineno <= line <= end:
            body = getattr(statement, "body", None) or getattr(statement, "cases", None)
            found = range(statement.lineno, line + 1 if body else end + 1)
    return found


@functools.cache
def _statements(filename: str) -> list[ast.stmt]:
    """From the outside in."""
    with open(filename) as source:
        return [each for each in ast.walk(ast.parse(source.read())) if isinstance(each, ast.stmt)]
