"""Take over conversations that are already active for ever: each gets its timer, with its real last activity.

    python -m idle_timer.adopt backlog.csv --function ARN --dry-run
    python -m idle_timer.adopt --table my-conversations --function ARN --rate 20

Invokes touch once per conversation with the time of its last message, so all of touch's rules apply: whoever is known
already, or wrote meanwhile, is left as he is, and running it again is harmless. A conversation that has been silent for
longer than its timeout ends within moments of being taken over: the rate is also the rate of these ends.
"""

import argparse
import csv
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from idle_timer import messages
from idle_timer.errors import InvalidEventError
from idle_timer.timestamps import SECOND_MS, format_time, parse_time
from idle_timer.upkeep_ports import Call, Functions

DEFAULT_RATE = 20.0  # conversations a second
PROGRESS_EVERY = 100
_EPOCH_MS_FROM = 10**11  # a whole number below this is seconds: as milliseconds it would lie in 1973

Row = Mapping[str, Any]


class Adoption:
    """One run. `out`: a line per conversation; `err`: progress and problems."""

    def __init__(self, functions: Functions, *, out: TextIO, err: TextIO) -> None:
        self._functions = functions
        self._out = out
        self._err = err

    def run(
        self,
        rows: Iterable[tuple[str, Row]],
        *,
        rate: float,
        dry_run: bool,
        idle_timeout_seconds: int,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> int:
        """Take over every row, at most `rate` a second. Returns how many could not be: 0 is success."""
        results: Counter[str] = Counter()
        began, place, number = now(), "", 0
        try:
            for number, (here, row) in enumerate(rows, start=1):
                place, result = (
                    here,
                    self._one(here, row, dry_run, idle_timeout_seconds, int(now() * SECOND_MS)),
                )
                results[result] += 1
                if number % PROGRESS_EVERY == 0:
                    self._tell(f"{number} done; to go on from here: --resume-after '{place}'")
                if not dry_run:
                    sleep(max(0.0, began + number / rate - now()))
        finally:
            summary = (
                ", ".join(f"{count} {result}" for result, count in sorted(results.items())) or "nothing to do"
            )
            self._tell(
                f"{'dry run: ' if dry_run else ''}{summary}"
                + (f"; to go on from here: --resume-after '{place}'" if place else "")
            )
        return results["invalid"] + results["failed"]

    def _one(self, place: str, row: Row, dry_run: bool, idle_timeout_seconds: int, now: int) -> str:
        try:
            event = event_of(row)
            parsed = messages.parse(messages.TouchEvent, event)
        except (InvalidEventError, ValueError) as problem:
            self._tell(f"{place}: {problem}")
            return "invalid"
        conversation_id = parsed.conversation_id
        if dry_run:
            at = min(parsed.occurred_at or now, now)
            timeout = idle_timeout_seconds if parsed.idle_timeout is None else parsed.idle_timeout
            self._say(conversation_id, _would(at, timeout, now))
            return "would be opened"
        [(_, reply)] = self._functions.call_each([Call(conversation_id, "touch", event)])
        if reply.answer is None:
            self._tell(f"{place}: {conversation_id}: {reply.error} {reply.message}".rstrip())
            return "failed"
        result = str(reply.answer.get("result"))
        self._say(
            conversation_id, f"{result}, due at {reply.answer.get('due_at') or 'no time: it never ends'}"
        )
        return result

    def _say(self, conversation_id: str, what: str) -> None:
        self._out.write(f"{conversation_id}: {what}\n")

    def _tell(self, text: str) -> None:
        self._err.write(f"{text}\n")
        self._err.flush()


def _would(at: int, timeout_seconds: int, now: int) -> str:
    last = f"would be opened unless it is known, last activity {format_time(at)}"
    if not timeout_seconds:
        return f"{last}, would never end"
    due = at + timeout_seconds * SECOND_MS
    return f"{last}, due at {format_time(due)}{' (at once)' if due <= now else ''}"


def event_of(row: Row) -> dict[str, Any]:
    """A row -> touch's event. Raises ValueError with what is wrong, and no value."""
    event: dict[str, Any] = {"conversation_id": row.get("conversation_id") or ""}
    if not row.get("last_activity_at"):
        raise ValueError("last_activity_at is missing: without it everybody would look active now")
    event["occurred_at"] = _time(row["last_activity_at"])
    if row.get("idle_timeout") not in (None, ""):
        given = row["idle_timeout"]
        event["idle_timeout"] = int(given) if str(given).isdigit() else given
    if row.get("attributes") not in (None, ""):
        given = row["attributes"]
        try:
            event["attributes"] = json.loads(given) if isinstance(given, str) else given
        except ValueError:
            raise ValueError("attributes must be a JSON object") from None
    return event


def _time(value: Any) -> str:
    """RFC 3339 with a zone, or a whole number since 1970: seconds, or milliseconds if it is large."""
    text = str(value)
    if text.isascii() and text.isdigit():
        number = int(text)
        return format_time(number if number >= _EPOCH_MS_FROM else number * SECOND_MS)
    try:
        return format_time(parse_time(value))
    except ValueError as problem:
        raise ValueError(f"last_activity_at {problem}") from None


def csv_rows(lines: Iterable[str], resume_after: str | None) -> Iterator[tuple[str, Row]]:
    """A file with a header line; places are line numbers. Raises ValueError where a column is missing."""
    reader = csv.DictReader(lines)
    missing = {"conversation_id", "last_activity_at"} - set(reader.fieldnames or ())
    if missing:
        raise ValueError(f"the header line lacks {' and '.join(sorted(missing))}")
    for row in reader:
        if resume_after is None or reader.line_num > int(resume_after):
            yield str(reader.line_num), row


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m idle_timer.adopt",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Columns: conversation_id; last_activity_at (RFC 3339 with a zone, or seconds or milliseconds since"
        " 1970); optionally idle_timeout (seconds or PT5M; 0 = never) and attributes (a JSON object). Exit status: 0,"
        " or 1 if a conversation could not be taken over; those are named on standard error.",
    )
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE.csv", help="with a header line")
    parser.add_argument(
        "--table", metavar="NAME", help="instead of a file: a DynamoDB table with these attributes"
    )
    parser.add_argument(
        "--id-attribute", default="conversation_id", help="the table's name for it (%(default)s)"
    )
    parser.add_argument(
        "--time-attribute", default="last_activity_at", help="the table's name for it (%(default)s)"
    )
    parser.add_argument(
        "--function", metavar="ARN", help="the stack's output TouchFunctionArn; not for --dry-run"
    )
    parser.add_argument(
        "--rate", type=float, default=DEFAULT_RATE, help="conversations a second, at most (%(default)g)"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="check everything and say what would happen; calls nothing"
    )
    parser.add_argument(
        "--idle-timeout",
        type=int,
        default=300,
        metavar="SECONDS",
        help="the stack's IdleTimeoutSeconds, for the dry run's arithmetic (%(default)s)",
    )
    parser.add_argument(
        "--resume-after", metavar="PLACE", help="go on behind this place, as an earlier run named it"
    )
    given = parser.parse_args(argv)
    if (given.file is None) == (given.table is None):
        parser.error("give either FILE.csv or --table NAME")
    if not given.dry_run and not given.function:
        parser.error("--function is needed, unless it is a --dry-run")
    if given.rate <= 0:
        parser.error("--rate must be above 0")
    return given


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    from idle_timer.adapters.aws import client
    from idle_timer.adapters.backlog import table_rows
    from idle_timer.adapters.siblings import LambdaFunctions

    given = _arguments(argv)
    adoption = Adoption(
        LambdaFunctions(lambda: client("lambda", read_timeout_seconds=15), {"touch": given.function or ""}),
        out=sys.stdout,
        err=sys.stderr,
    )

    def run(rows: Iterable[tuple[str, Row]]) -> int:
        return adoption.run(
            rows, rate=given.rate, dry_run=given.dry_run, idle_timeout_seconds=given.idle_timeout
        )

    try:
        if given.table:
            names = {given.id_attribute: "conversation_id", given.time_attribute: "last_activity_at"}
            return min(1, run(table_rows(client("dynamodb"), given.table, names, given.resume_after)))
        with given.file.open(encoding="utf-8-sig", newline="") as lines:
            return min(1, run(csv_rows(lines, given.resume_after)))
    except (OSError, ValueError) as problem:
        sys.stderr.write(f"{problem}\n")
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
