"""The store: in memory and in DynamoDB (moto), held to one contract; and what only DynamoDB's adapter can get wrong."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from moto import mock_aws

from idle_timer.adapters.dynamodb import DynamoDBStore, from_item, hold_from_item, to_item
from idle_timer.conversation import Conversation, Entry, Hold
from idle_timer.errors import UnavailableError
from idle_timer.ports import Activity, Recorded, Saved
from idle_timer.settings import Stage
from tests.fakes.store import MemoryStore

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

T0 = 1_767_268_800_123
WARNING = Stage(name="still_there", after=60)
LEX = {"bot_id": "B" * 10, "bot_alias_id": "A" * 10, "locale_id": "en_US", "session_id": "s-1"}
OUTCOME = Entry(
    "outcome", "o-1", 2, {"type": "ConversationEnded", "gap_seconds": 0.25, "proof": {"due_at": T0}}
)
ACTIVE = Conversation(
    conversation_id="c-1",
    opening_id="o-1",
    opened_at=T0,
    last_activity_at=T0,
    state_since=T0,
    stage=1,
    stage_at=T0 + 5,
    version=7,
    sweep_shard="03",
    sweep_at=T0 + 480_000,
    sweep_after_ms=480_000,
)
FULL = Conversation(
    conversation_id="c-1",
    opening_id="o-1",
    opened_at=T0,
    last_activity_at=T0 + 1,
    state_since=T0 + 2,
    schema_version=2,
    version=3,
    state="ended",
    generation=4,
    seq=5,
    ended_at=T0 + 3,
    end_reason="idle_timeout",
    ended_explicitly=True,
    idle_timeout_seconds=0,
    stages=(WARNING, Stage(name="last_call", after=120)),
    not_before=T0 + 4,
    stage=1,
    stage_at=T0 + 5,
    pause_timeout_seconds=0,
    attributes={"tenant": "", "日本": "🙂"},
    session_key="session:ключ",
    lex=LEX,
    connect_contact_id="contact-1",
    outbox={"o-1-2": OUTCOME, "o-1-2-session": Entry("session", "o-1", 2, {"session_key": "k"})},
    attempts=6,
    history=(f"{T0} opened", f"{T0} ended idle_timeout"),
    armed_for=T0 + 6,
    sweep_shard="parked#03",
    sweep_at=T0 + 7,
    sweep_after_ms=480_000,
    expires_at=1_800_000_000,
)


def activity(at: int = T0 + 1_000, /, **changes: Any) -> Activity:
    return Activity(conversation_id="c-1", at=at, changes=changes, sweep_bucket_ms=T0 // 60_000 * 60_000)


@dataclass
class Stored:
    """A store and the tests' own way to put a hold into its table."""

    store: MemoryStore | DynamoDBStore
    client: "DynamoDBClient | None" = None
    control: str = ""
    conversations: str = ""

    def put(self, conversation: Conversation) -> None:
        seen = self.store.read(conversation.conversation_id).conversation
        assert self.store.save(conversation, seen).done

    def get(self, conversation_id: str = "c-1") -> Conversation | None:
        return self.store.read(conversation_id).conversation

    def drop(self, conversation_id: str) -> None:
        if isinstance(self.store, MemoryStore):
            del self.store.items[conversation_id]
        else:
            assert self.client is not None
            self.client.delete_item(
                TableName=self.conversations, Key={"conversation_id": {"S": conversation_id}}
            )

    def hold(self, *windows: tuple[int, int | None]) -> None:
        if isinstance(self.store, MemoryStore):
            self.store.hold = Hold(windows)
            return
        assert self.client is not None
        written: list[Any] = [
            {"M": {"from": {"N": str(start)}} | ({} if until is None else {"until": {"N": str(until)}})}
            for start, until in windows
        ]
        self.client.put_item(
            TableName=self.control, Item={"control_id": {"S": "hold"}, "windows": {"L": written}}
        )


def new_client() -> "DynamoDBClient":
    return boto3.client(
        "dynamodb",
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106 - nobody's
    )


@pytest.fixture(scope="module")
def client() -> "Iterator[DynamoDBClient]":
    with mock_aws():
        yield new_client()


NUMBERS = itertools.count()


def dynamodb_tables(client: "DynamoDBClient") -> Stored:
    number = next(NUMBERS)
    conversations, control = f"conversations-{number}", f"control-{number}"
    client.create_table(
        TableName=conversations,
        KeySchema=[{"AttributeName": "conversation_id", "KeyType": "HASH"}],
        AttributeDefinitions=[
            {"AttributeName": "conversation_id", "AttributeType": "S"},
            {"AttributeName": "sweep_shard", "AttributeType": "S"},
            {"AttributeName": "sweep_at", "AttributeType": "N"},
        ],
        GlobalSecondaryIndexes=[
            {
                "IndexName": "sweep",
                "KeySchema": [
                    {"AttributeName": "sweep_shard", "KeyType": "HASH"},
                    {"AttributeName": "sweep_at", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            }
        ],
        BillingMode="PAY_PER_REQUEST",
    )
    client.create_table(
        TableName=control,
        KeySchema=[{"AttributeName": "control_id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "control_id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    return Stored(DynamoDBStore(client, conversations, control), client, control, conversations)


@pytest.fixture(params=["memory", "dynamodb"])
def stored(request: pytest.FixtureRequest, client: "DynamoDBClient") -> Stored:
    return Stored(MemoryStore()) if request.param == "memory" else dynamodb_tables(client)


class TestContract:
    """What the protocol relies on."""

    # --- record ---

    def test_an_in_order_message_moves_activity_sweep_and_stages(self, stored: Stored) -> None:
        stored.put(ACTIVE)
        recorded = stored.store.record(activity(T0 + 1_000))
        assert recorded.before == ACTIVE
        assert recorded.after == replace(
            ACTIVE,
            version=8,
            last_activity_at=T0 + 1_000,
            stage=0,
            stage_at=None,
            sweep_at=T0 // 60_000 * 60_000 + 480_000,
        )
        assert stored.get() == recorded.after

    def test_a_message_one_millisecond_newer_is_in_order(self, stored: Stored) -> None:
        stored.put(ACTIVE)
        assert stored.store.record(activity(T0 + 1)).after is not None

    def test_a_message_of_an_unknown_conversation_creates_nothing(self, stored: Stored) -> None:
        assert stored.store.record(activity()) == Recorded(None, None)
        assert stored.get() is None

    @pytest.mark.parametrize(
        "obstacle",
        [
            {"state": "paused"},
            {"state": "ended"},
            {"last_activity_at": T0 + 1_000},
            {"last_activity_at": T0 + 1_001},
            {"outbox": {"o-1-2": OUTCOME}},
            {"attempts": 1},
            {"sweep_after_ms": None},
            {"not_before": T0},
        ],
        ids=lambda obstacle: next(f"{name}={value}"[:30] for name, value in obstacle.items()),
    )
    def test_an_encumbered_conversation_is_left_as_it_is_and_returned(
        self, stored: Stored, obstacle: dict[str, Any]
    ) -> None:
        encumbered = replace(ACTIVE, **obstacle)
        stored.put(encumbered)
        assert stored.store.record(activity(T0 + 1_000)) == Recorded(encumbered, None)
        assert stored.get() == encumbered

    @pytest.mark.parametrize(
        ("name", "value", "other"),
        [
            ("idle_timeout_seconds", 60, 61),
            ("idle_timeout_seconds", 0, 60),
            ("stages", (WARNING,), (Stage(name="still_there", after=61),)),
            ("stages", (), (WARNING,)),
            ("connect_contact_id", "contact-1", "contact-2"),
        ],
    )
    class TestPolicyOfAMessage:
        """What moves the due time, or needs a link written first, must be stored already."""

        def test_the_same_as_stored_is_recorded(
            self, stored: Stored, name: str, value: Any, other: Any
        ) -> None:
            stored.put(replace(ACTIVE, **{name: value}))
            after = stored.store.record(activity(T0 + 1_000, **{name: value})).after
            assert after is not None
            assert getattr(after, name) == value
            assert stored.get() == after

        def test_another_than_stored_is_not(self, stored: Stored, name: str, value: Any, other: Any) -> None:
            stored.put(replace(ACTIVE, **{name: value}))
            assert stored.store.record(activity(**{name: other})).after is None

        def test_one_where_none_is_stored_is_not(
            self, stored: Stored, name: str, value: Any, other: Any
        ) -> None:
            stored.put(ACTIVE)
            assert stored.store.record(activity(T0 + 1_000, **{name: value})).after is None

        def test_null_where_none_is_stored_is_recorded(
            self, stored: Stored, name: str, value: Any, other: Any
        ) -> None:
            stored.put(ACTIVE)
            after = stored.store.record(activity(T0 + 1_000, **{name: None})).after
            assert after is not None
            assert stored.get() == after

        def test_null_where_one_is_stored_is_not(
            self, stored: Stored, name: str, value: Any, other: Any
        ) -> None:
            stored.put(replace(ACTIVE, **{name: value}))
            assert stored.store.record(activity(T0 + 1_000, **{name: None})).after is None

        def test_none_brought_leaves_the_stored_one(
            self, stored: Stored, name: str, value: Any, other: Any
        ) -> None:
            stored.put(replace(ACTIVE, **{name: value}))
            after = stored.store.record(activity()).after
            assert after is not None
            assert getattr(after, name) == value

    @pytest.mark.parametrize(
        ("name", "old", "new"),
        [
            ("attributes", {"a": "1", "b": "2"}, {"a": "", "日本": "🙂"}),
            ("session_key", None, "session:ключ"),
            ("session_key", "old", "new"),
            ("lex", None, LEX),
            ("lex", LEX, LEX | {"session_id": "s-2"}),
        ],
    )
    def test_what_does_not_move_the_due_time_is_written_along(
        self, stored: Stored, name: str, old: Any, new: Any
    ) -> None:
        stored.put(replace(ACTIVE, **{name: old}))
        recorded = stored.store.record(activity(**{name: new}))
        assert recorded.after is not None
        assert getattr(recorded.after, name) == new
        assert stored.get() == recorded.after

    def test_all_that_a_message_can_bring_is_recorded_at_once(self, stored: Stored) -> None:
        policy: dict[str, Any] = {
            "idle_timeout_seconds": 60,
            "stages": (WARNING,),
            "connect_contact_id": "contact-1",
        }
        stored.put(replace(ACTIVE, **policy))
        brought = policy | {"attributes": {"a": "1"}, "session_key": "k", "lex": LEX}
        recorded = stored.store.record(activity(**brought))
        assert recorded.after is not None
        assert {name: getattr(recorded.after, name) for name in brought} == brought
        assert stored.get() == recorded.after

    # --- save ---

    def test_a_new_conversation_is_saved(self, stored: Stored) -> None:
        assert stored.store.save(ACTIVE, None) == Saved(True, ACTIVE)
        assert stored.get() == ACTIVE

    def test_a_new_conversation_that_somebody_else_made_first_is_not(self, stored: Stored) -> None:
        stored.put(ACTIVE)
        rival = replace(ACTIVE, opening_id="o-2")
        assert stored.store.save(rival, None) == Saved(False, ACTIVE)
        assert stored.get() == ACTIVE

    def test_a_transition_of_what_was_seen_is_saved_whole(self, stored: Stored) -> None:
        stored.put(FULL)
        bare = replace(ACTIVE, version=FULL.version + 1, stage_at=None, sweep_at=None, sweep_shard=None)
        assert stored.store.save(bare, FULL) == Saved(True, bare)
        assert stored.get() == bare

    def test_a_transition_of_what_has_changed_since_is_not(self, stored: Stored) -> None:
        stored.put(ACTIVE)
        moved = stored.store.record(activity()).after
        ended = replace(ACTIVE, version=8, state="ended")
        assert stored.store.save(ended, ACTIVE) == Saved(False, moved)
        assert stored.get() == moved

    def test_a_transition_of_what_is_gone_is_not(self, stored: Stored) -> None:
        stored.put(ACTIVE)
        stored.drop("c-1")
        assert stored.store.save(replace(ACTIVE, version=8), ACTIVE) == Saved(False, None)
        assert stored.get() is None

    @pytest.mark.parametrize("seen", [None, ACTIVE])
    def test_a_write_whose_answer_was_lost_is_recognized_when_repeated(
        self, stored: Stored, seen: Conversation | None
    ) -> None:
        if seen:
            stored.put(seen)
        after = replace(FULL, version=8 if seen else 1)
        assert stored.store.save(after, seen).done
        assert stored.store.save(after, seen) == Saved(True, after)

    # --- delete ---

    def test_what_was_seen_is_deleted(self, stored: Stored) -> None:
        stored.put(ACTIVE)
        assert stored.store.delete(ACTIVE) == Saved(True, None)
        assert stored.get() is None

    def test_what_has_changed_since_is_not_deleted(self, stored: Stored) -> None:
        stored.put(ACTIVE)
        moved = stored.store.record(activity()).after
        assert stored.store.delete(ACTIVE) == Saved(False, moved)
        assert stored.get() == moved

    def test_deleting_what_is_gone_is_success(self, stored: Stored) -> None:
        assert stored.store.delete(ACTIVE) == Saved(True, None)

    # --- note_timer ---

    @pytest.mark.parametrize("policy", [{}, {"idle_timeout_seconds": 60, "stages": (WARNING,)}])
    def test_a_timer_that_was_set_is_noted_and_counts_as_a_write(
        self, stored: Stored, policy: dict[str, Any]
    ) -> None:
        armed = replace(ACTIVE, not_before=T0 + 9, **policy)
        stored.put(armed)
        stored.store.note_timer(armed, T0 + 5)
        assert stored.get() == replace(armed, armed_for=T0 + 5, version=armed.version + 1)

    def test_a_timer_is_noted_although_a_message_came_meanwhile(self, stored: Stored) -> None:
        stored.put(ACTIVE)
        moved = stored.store.record(activity()).after
        assert moved is not None
        stored.store.note_timer(ACTIVE, T0 + 5)
        assert stored.get() == replace(moved, armed_for=T0 + 5, version=moved.version + 1)

    @pytest.mark.parametrize(
        "changed",
        [
            {"opening_id": "o-2"},
            {"seq": 2},
            {"idle_timeout_seconds": 60},
            {"stages": (WARNING,)},
            {"not_before": T0 + 9},
        ],
        ids=lambda changed: next(iter(changed)),
    )
    def test_a_timer_that_may_have_been_replaced_is_not_noted(
        self, stored: Stored, changed: dict[str, Any]
    ) -> None:
        for now_there, armed in ((replace(ACTIVE, **changed), ACTIVE), (ACTIVE, replace(ACTIVE, **changed))):
            if (before := stored.get()) is not None:
                assert stored.store.delete(before).done
            stored.put(now_there)
            stored.store.note_timer(armed, T0 + 5)
            assert stored.get() == now_there

    def test_a_timer_of_what_is_gone_brings_nothing_back(self, stored: Stored) -> None:
        stored.store.note_timer(ACTIVE, T0 + 5)
        assert stored.get() is None

    # --- read ---

    def test_nothing_is_read_where_nothing_is(self, stored: Stored) -> None:
        read = stored.store.read("c-1")
        assert read.conversation is None
        assert read.hold == Hold()

    def test_the_hold_comes_with_the_conversation(self, stored: Stored) -> None:
        stored.put(ACTIVE)
        stored.hold((T0, T0 + 1), (T0 + 2, None))
        read = stored.store.read("c-1")
        assert read.conversation == ACTIVE
        assert read.hold == Hold(((T0, T0 + 1), (T0 + 2, None)))

    def test_the_hold_is_read_where_no_conversation_is(self, stored: Stored) -> None:
        stored.hold((T0, None))
        assert stored.store.read("c-1").hold.is_open(T0)

    @pytest.mark.parametrize(
        "conversation_id", ["hold", "contact#c", "日本 🙂", "a\u0301", "x" * 512, "\x00"]
    )
    def test_any_unicode_id_is_an_id_like_others(self, stored: Stored, conversation_id: str) -> None:
        stored.hold((T0, None))
        stored.store.link_contact("c", "c-9", 1)
        mine = replace(ACTIVE, conversation_id=conversation_id)
        stored.put(mine)
        assert stored.get(conversation_id) == mine
        assert stored.get("c-1") is None

    def test_ids_are_not_normalized(self, stored: Stored) -> None:
        composed = replace(ACTIVE, conversation_id="\u00e9")
        stored.put(composed)
        assert stored.get("e\u0301") is None

    # --- links ---

    def test_a_contact_that_nobody_linked_is_nobodys(self, stored: Stored) -> None:
        assert stored.store.conversation_of_contact("hold") is None

    def test_a_linked_contact_is_found_and_can_be_linked_anew(self, stored: Stored) -> None:
        stored.store.link_contact("contact-1", "c-1", 1_800_000_000)
        assert stored.store.conversation_of_contact("contact-1") == "c-1"
        stored.store.link_contact("contact-1", "c-2", 1_800_000_000)
        assert stored.store.conversation_of_contact("contact-1") == "c-2"


# --- any item --------------------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
WORD = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
TIMES = st.integers(0, 2**45)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**45), 2**45)
    | st.integers(-(10**9), 10**9).map(lambda n: n / 1_000)
    | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORD, inner, max_size=2),
    max_leaves=4,
)
STAGES = st.lists(
    st.builds(Stage, name=st.sampled_from(["a", "b_1"]), after=st.integers(1, 2_592_000)), max_size=3
).map(tuple)
ENTRIES = st.builds(
    Entry,
    kind=st.sampled_from(["session", "session_restore", "lex", "connect", "hook", "outcome"]),
    opening_id=WORD,
    seq=st.integers(0, 9),
    body=st.dictionaries(WORD, JSON, max_size=3),
)
LEX_SESSIONS = st.fixed_dictionaries(dict.fromkeys(LEX, WORD))
CONVERSATIONS = st.builds(
    Conversation,
    conversation_id=st.just("c-1"),
    opening_id=WORD,
    opened_at=TIMES,
    last_activity_at=TIMES,
    state_since=TIMES,
    version=st.integers(1, 99),
    state=st.sampled_from(["active", "paused", "ended"]),
    generation=st.integers(1, 99),
    seq=st.integers(1, 99),
    ended_at=st.none() | TIMES,
    end_reason=st.none() | WORD,
    ended_explicitly=st.booleans(),
    idle_timeout_seconds=st.none() | st.integers(0, 2_592_000),
    stages=st.none() | STAGES,
    not_before=st.none() | TIMES,
    stage=st.integers(0, 3),
    stage_at=st.none() | TIMES,
    pause_timeout_seconds=st.none() | st.integers(0, 2_592_000),
    attributes=st.dictionaries(WORD, TEXT, max_size=3),
    session_key=st.none() | WORD,
    lex=st.none() | LEX_SESSIONS,
    connect_contact_id=st.none() | WORD,
    outbox=st.dictionaries(WORD, ENTRIES, max_size=3),
    attempts=st.integers(0, 9),
    history=st.lists(TEXT, max_size=6).map(tuple),
    armed_for=st.none() | TIMES,
    sweep_shard=st.none() | WORD,
    sweep_at=st.none() | TIMES,
    sweep_after_ms=st.none() | st.integers(1, 2**42),
    expires_at=st.none() | TIMES,
)
CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "idle_timeout_seconds": st.none() | st.sampled_from([0, 60]),
        "stages": st.none() | st.sampled_from([(), (WARNING,)]),
        "session_key": WORD,
        "attributes": st.dictionaries(WORD, TEXT, max_size=2),
        "lex": LEX_SESSIONS,
        "connect_contact_id": st.sampled_from(["contact-1", "contact-2"]),
    },
)
NEARLY_ACTIVE = st.builds(
    replace,
    st.just(ACTIVE),
    state=st.sampled_from(["active", "active", "active", "paused", "ended"]),
    last_activity_at=st.sampled_from([T0, T0 + 999, T0 + 1_000, T0 + 1_001]),
    idle_timeout_seconds=st.sampled_from([None, 0, 60]),
    stages=st.sampled_from([None, (), (WARNING,)]),
    connect_contact_id=st.sampled_from([None, "contact-1"]),
    attempts=st.sampled_from([0, 0, 0, 1]),
    not_before=st.sampled_from([None, None, None, T0]),
    sweep_after_ms=st.sampled_from([480_000, 480_000, 480_000, None]),
)


@pytest.fixture(scope="module")
def dynamodb(client: "DynamoDBClient") -> Stored:
    return dynamodb_tables(client)


class TestAnyItem:
    def test_the_full_example_sets_every_field(self) -> None:
        unset = [field.name for field in fields(Conversation) if getattr(FULL, field.name) in (None, (), {})]
        assert not unset

    def test_an_item_with_every_field_set_comes_back_the_same(self, dynamodb: Stored) -> None:
        dynamodb.put(FULL)
        assert dynamodb.get() == FULL

    @hypothesis_settings(
        max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(conversation=CONVERSATIONS)
    def test_any_item_comes_back_the_same(self, dynamodb: Stored, conversation: Conversation) -> None:
        dynamodb.put(conversation)
        assert dynamodb.get() == conversation

    @hypothesis_settings(
        max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(before=NEARLY_ACTIVE, changes=CHANGES)
    def test_memory_and_dynamodb_record_alike(
        self, dynamodb: Stored, before: Conversation, changes: dict[str, Any]
    ) -> None:
        memory = Stored(MemoryStore())
        memory.put(before)
        dynamodb.put(before)
        message = activity(T0 + 1_000, **changes)
        assert dynamodb.store.record(message) == memory.store.record(message)
        assert dynamodb.get() == memory.get()

    def test_attributes_of_a_newer_version_are_not_looked_at(self) -> None:
        assert from_item(to_item(FULL) | {"invented_later": {"S": "x"}}) == FULL

    def test_what_is_none_is_not_written_so_the_index_stays_sparse(self) -> None:
        item = to_item(replace(FULL, sweep_shard=None, sweep_at=None, expires_at=None))
        assert not {"sweep_shard", "sweep_at", "expires_at"} & item.keys()

    def test_the_outbox_is_a_map_from_the_start(self) -> None:
        assert to_item(ACTIVE)["outbox"] == {"M": {}}

    def test_a_hold_window_without_an_end_is_open(self) -> None:
        hold = hold_from_item({"windows": {"L": [{"M": {"from": {"N": "5"}}}]}})
        assert hold == Hold(((5, None),))


class TestSweepIndex:
    def found(self, stored: Stored, shard: str) -> list[tuple[str, int]]:
        assert stored.client is not None
        answer = stored.client.query(
            TableName=stored.conversations,
            IndexName="sweep",
            KeyConditionExpression="sweep_shard = :shard",
            ExpressionAttributeValues={":shard": {"S": shard}},
        )
        return [(item["conversation_id"]["S"], int(item["sweep_at"]["N"])) for item in answer["Items"]]

    def test_a_conversation_stands_where_its_activity_put_it(self, client: "DynamoDBClient") -> None:
        stored = dynamodb_tables(client)
        stored.put(ACTIVE)
        stored.store.record(activity())
        assert self.found(stored, "03") == [("c-1", T0 // 60_000 * 60_000 + 480_000)]

    def test_one_that_owes_nothing_and_is_never_due_is_not_in_it(self, client: "DynamoDBClient") -> None:
        stored = dynamodb_tables(client)
        stored.put(ACTIVE)
        stored.put(replace(ACTIVE, version=8, sweep_shard=None, sweep_at=None))
        assert self.found(stored, "03") == []


# --- exact requests --------------------------------------------------------------------------------------------------


class TestRequests:
    WANTED_ITEM: dict[str, Any] = {  # noqa: RUF012 - never changed
        "conversations": {"Keys": [{"conversation_id": {"S": "c-1"}}], "ConsistentRead": True}
    }
    WANTED_HOLD: dict[str, Any] = {  # noqa: RUF012 - never changed
        "control": {"Keys": [{"control_id": {"S": "hold"}}], "ConsistentRead": True}
    }

    @pytest.fixture
    def stub(self) -> Iterator[tuple[DynamoDBStore, Stubber]]:
        client = new_client()
        with Stubber(client) as stubber:
            yield DynamoDBStore(client, "conversations", "control"), stubber
            stubber.assert_no_pending_responses()

    def test_item_and_hold_are_read_consistently_in_one_call(
        self, stub: tuple[DynamoDBStore, Stubber]
    ) -> None:
        store, stubber = stub
        stubber.add_response(
            "batch_get_item",
            {"Responses": {"conversations": [to_item(ACTIVE)], "control": []}, "UnprocessedKeys": {}},
            {"RequestItems": self.WANTED_ITEM | self.WANTED_HOLD},
        )
        assert store.read("c-1").conversation == ACTIVE

    @pytest.mark.parametrize("late", ["conversations", "control"])
    def test_only_what_was_left_unprocessed_is_asked_for_again(
        self, stub: tuple[DynamoDBStore, Stubber], late: str
    ) -> None:
        store, stubber = stub
        wanted = self.WANTED_ITEM | self.WANTED_HOLD
        rows: dict[str, Any] = {
            "conversations": to_item(ACTIVE),
            "control": {"control_id": {"S": "hold"}, "windows": {"L": [{"M": {"from": {"N": "5"}}}]}},
        }
        early = ({"conversations", "control"} - {late}).pop()
        stubber.add_response(
            "batch_get_item",
            {"Responses": {early: [rows[early]]}, "UnprocessedKeys": {late: wanted[late]}},
            {"RequestItems": wanted},
        )
        stubber.add_response(
            "batch_get_item",
            {"Responses": {late: [rows[late]]}, "UnprocessedKeys": {}},
            {"RequestItems": {late: wanted[late]}},
        )
        read = store.read("c-1")
        assert read.conversation == ACTIVE
        assert read.hold == Hold(((5, None),))

    def test_a_table_that_stays_throttled_is_an_error_not_an_absence(
        self, stub: tuple[DynamoDBStore, Stubber]
    ) -> None:
        store, stubber = stub
        wanted = self.WANTED_ITEM | self.WANTED_HOLD
        for _ in range(3):
            stubber.add_response(
                "batch_get_item", {"Responses": {}, "UnprocessedKeys": wanted}, {"RequestItems": wanted}
            )
        with pytest.raises(UnavailableError):
            store.read("c-1")

    def test_a_contact_is_looked_up_consistently(self, stub: tuple[DynamoDBStore, Stubber]) -> None:
        store, stubber = stub
        stubber.add_response(
            "get_item",
            {},
            {
                "TableName": "control",
                "Key": {"control_id": {"S": "contact#contact-1"}},
                "ConsistentRead": True,
            },
        )
        assert store.conversation_of_contact("contact-1") is None

    def test_a_link_expires(self, stub: tuple[DynamoDBStore, Stubber]) -> None:
        store, stubber = stub
        stubber.add_response(
            "put_item",
            {},
            {
                "TableName": "control",
                "Item": {
                    "control_id": {"S": "contact#contact-1"},
                    "conversation_id": {"S": "c-1"},
                    "expires_at": {"N": "1800000000"},
                },
            },
        )
        store.link_contact("contact-1", "c-1", 1_800_000_000)

    @pytest.mark.parametrize("code", ["ThrottlingException", "ProvisionedThroughputExceededException"])
    def test_a_refusal_is_neither_a_lost_race_nor_a_missing_item(
        self, stub: tuple[DynamoDBStore, Stubber], code: str
    ) -> None:
        store, stubber = stub
        for method in ("update_item", "update_item", "put_item", "delete_item", "batch_get_item", "get_item"):
            stubber.add_client_error(method, code)
        with pytest.raises(ClientError):
            store.record(activity())
        with pytest.raises(ClientError):
            store.note_timer(ACTIVE, T0)
        with pytest.raises(ClientError):
            store.save(ACTIVE, None)
        with pytest.raises(ClientError):
            store.delete(ACTIVE)
        with pytest.raises(ClientError):
            store.read("c-1")
        with pytest.raises(ClientError):
            store.conversation_of_contact("contact-1")
