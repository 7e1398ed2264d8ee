"""What a sweep reads, as open conversations grow from a thousand to a million and what is overdue stays the same.

The index is counted at the port, with DynamoDB's own semantics: a query on `sweep_shard = … AND sweep_at BETWEEN …` reads
the matching keys alone, as many as the page's limit, found by binary search.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from idle_timer.conversation import Conversation
from idle_timer.upkeep_ports import IndexEntry, IndexPage
from tests.fakes.operations import Operations
from tests.fakes.world import World

HOUR_MS = 3_600_000


@dataclass
class CountingIndex:
    """See `ports.Overview`: the overdue items are the world's, the open ones only stand in the index."""

    world: World
    open_until: Mapping[str, array[int]]  # shard -> sweep_at of the open conversations, in order
    counted: Counter[str] = field(default_factory=Counter)

    def entries(
        self, shard: str, *, since: int = 0, until: int, after: IndexEntry | None = None, limit: int = 20
    ) -> IndexPage:
        self.counted["requests"] += 1
        overdue = sorted(
            (item.sweep_at, item.conversation_id)
            for item in self.world.store.items.values()
            if item.sweep_shard == shard and item.sweep_at is not None and since <= item.sweep_at <= until
        )
        open_ones = self.open_until.get(shard, array("q"))
        first, last = bisect_left(open_ones, since), bisect_right(open_ones, until)
        matching = sorted([*overdue, *((at, f"open-{shard}-{at}") for at in open_ones[first:last])])
        rest = [each for each in matching if after is None or each > (after.sweep_at, after.conversation_id)]
        shown = tuple(IndexEntry(shard, at, name) for at, name in rest[:limit])
        self.counted["items"] += len(shown)
        return IndexPage(shown, shown[-1] if len(rest) > limit else None)

    def count(self, shard: str, *, until: int) -> int:
        return len(self.entries(shard, until=until, limit=1_000_000).entries)

    def read_each(self, conversation_ids: Sequence[str]) -> Mapping[str, Conversation]:
        self.counted["requests"] += 1
        self.counted["items"] += len(conversation_ids)
        items = self.world.store.items
        return {each: items[each] for each in conversation_ids if each in items}


def work(open_conversations: int, overdue: int = 100) -> Counter[str]:
    """Requests and items read by one sweep that finds and ends what is overdue."""
    world = World()
    operations = Operations(world)
    for number in range(overdue):
        world.touch(f"overdue-{number}")
        world.scheduler.schedules.clear()  # lost
    world.clock.advance(3_600)
    shards = [f"{number:02d}" for number in range(world.settings.sweep_shards)]
    each = open_conversations // len(shards)
    not_yet = world.clock.time + 1
    index = CountingIndex(
        world, {shard: array("q", (not_yet + n * HOUR_MS // each for n in range(each))) for shard in shards}
    )
    object.__setattr__(operations.sweeper, "overview", index)
    answer = operations.sweep(seconds=600)
    ended = sum(item.state == "ended" for item in world.store.items.values())
    if answer["result"] != "finished" or ended != overdue:
        raise AssertionError(f"the sweep ended {ended} of {overdue}: {answer}")
    return index.counted


def growth(sizes: Sequence[int] = (1_000, 10_000, 100_000, 1_000_000)) -> dict[int, Counter[str]]:
    """The work at each size."""
    return {size: work(size) for size in sizes}
