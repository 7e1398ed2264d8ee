"""A burst on one conversation: Scheduler takes ten writes a second for one schedule, and that cannot be raised.

https://docs.aws.amazon.com/scheduler/latest/UserGuide/scheduler-quotas.html
BURST_MESSAGES=1000 makes it a long one: each refused write is tried once more by botocore, half a second later.
"""

import os
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime

from tests.local.stack import LocalStack, eventually

MESSAGES = int(os.environ.get("BURST_MESSAGES", "150"))
WRITES_PER_SECOND = 1  # well below what the local stack takes
TIMEOUT_SECONDS = 10


def epoch(time_: str) -> float:
    return datetime.fromisoformat(time_).timestamp()


def test_a_burst_beyond_the_limit_of_one_schedule_succeeds_and_ends_once(
    stack: LocalStack, new_id: Callable[[str], str]
) -> None:
    conversation_id = new_id("burst")
    event = {"conversation_id": conversation_id, "idle_timeout": f"PT{TIMEOUT_SECONDS}S"}
    stack.invoke("touch", event)
    began = time.monotonic()
    with stack.faults.refuse(
        *("scheduler", "UpdateSchedule", "ThrottlingException", 429),
        contains=conversation_id,
        per_second=WRITES_PER_SECOND,
        times=0,
    ) as throttled:
        answers = [stack.invoke("touch", event) for _ in range(MESSAGES - 1)]
        taken_per_second = (MESSAGES - 1) / (time.monotonic() - began)
        assert throttled.hits
    words = Counter(answer["timer"] for answer in answers)
    print(f"{taken_per_second:.0f} messages a second; {dict(words)}; {throttled.hits} writes refused")
    assert {answer["result"] for answer in answers} == {"recorded"}
    assert set(words) == {"updated", "deferred"}
    assert taken_per_second > WRITES_PER_SECOND
    assert words["deferred"] > MESSAGES / 4

    def ends() -> list[dict[str, str]]:
        found = [each for each in stack.outcomes() if each.body["conversation_id"] == conversation_id]
        return [each.body["proof"] for each in found if each.type == "ConversationEnded"]

    eventually(ends, 40, "the conversation to end")
    last = answers[-1]["last_activity_at"]
    assert ends()[0]["last_activity_at"] == last
    assert epoch(ends()[0]["decided_at"]) >= epoch(last) + TIMEOUT_SECONDS
    time.sleep(3)
    assert len(ends()) == 1
