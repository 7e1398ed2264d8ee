"""What sweep, redrive, inspect and adopt need of AWS: held to the fakes' contract, on moto; requests by Stubber."""

import io
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import boto3
import pytest
from botocore.exceptions import ReadTimeoutError
from botocore.response import StreamingBody
from botocore.stub import Stubber
from moto import mock_aws

from idle_timer.adapters.backlog import table_rows
from idle_timer.adapters.dynamodb import DynamoDBStore
from idle_timer.adapters.overview import DynamoDBControl, DynamoDBOverview
from idle_timer.adapters.queues import SqsFailureQueues
from idle_timer.adapters.scheduler import EventBridgeScheduler
from idle_timer.adapters.siblings import LambdaFunctions, SweepContinuation
from idle_timer.adapters.timetable import SchedulerTimetable
from idle_timer.conversation import NO_HOLD, Conversation, Hold
from idle_timer.errors import UnavailableError
from idle_timer.upkeep_ports import Call, IndexEntry, Lease, Reply, SetTimer, TimetablePage
from tests.fakes.operations import MemoryControl, MemoryOverview
from tests.fakes.store import MemoryStore
from tests.fakes.world import World

NUMBERS = itertools.count()
CLEANUP = "arn:aws:lambda:us-east-1:123456789012:function:cleanup:live"
TOUCH = "arn:aws:lambda:us-east-1:123456789012:function:touch:live"


def aws(service: str) -> Any:
    new_client: Any = boto3.client  # its overloads want a literal service name
    return new_client(
        service,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106 - nobody's
    )


def conversation(conversation_id: str, shard: str | None, sweep_at: int | None) -> Conversation:
    return Conversation(
        conversation_id=conversation_id,
        opening_id="o-1",
        opened_at=1,
        last_activity_at=1,
        state_since=1,
        sweep_shard=shard,
        sweep_at=sweep_at,
    )


@dataclass
class Tables:
    """The ports over one pair of tables."""

    store: MemoryStore | DynamoDBStore
    overview: MemoryOverview | DynamoDBOverview
    control: MemoryControl | DynamoDBControl

    def put(self, *conversations: Conversation) -> None:
        for each in conversations:
            assert self.store.save(each, None).done


@pytest.fixture(scope="module")
def dynamodb() -> Iterator[Any]:
    with mock_aws():
        yield aws("dynamodb")


def on_dynamodb(client: Any) -> Tables:
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
    return Tables(
        DynamoDBStore(client, conversations, control),
        DynamoDBOverview(client, conversations),
        DynamoDBControl(client, control),
    )


def in_memory() -> Tables:
    world = World()
    return Tables(world.store, MemoryOverview(world), MemoryControl(world))


@pytest.fixture(params=["memory", "dynamodb"])
def tables(request: pytest.FixtureRequest, dynamodb: Any) -> Tables:
    return in_memory() if request.param == "memory" else on_dynamodb(dynamodb)


def pages(tables: Tables, shard: str, *, since: int = 0, until: int, limit: int) -> list[list[str]]:
    found, after = [], None
    while True:
        page = tables.overview.entries(shard, since=since, until=until, after=after, limit=limit)
        found.append([entry.conversation_id for entry in page.entries])
        after = page.after
        if after is None:
            return [ids for ids in found if ids]


class TestOverview:
    def test_a_shards_entries_come_in_order_of_time_page_by_page(self, tables: Tables) -> None:
        tables.put(*(conversation(f"c-{at}", "00", at) for at in (50, 10, 30, 20, 40)))
        tables.put(conversation("other", "01", 10), conversation("parked", "parked#00", 10))
        tables.put(conversation("nothing due", None, None))
        assert pages(tables, "00", until=40, limit=2) == [["c-10", "c-20"], ["c-30", "c-40"]]
        assert pages(tables, "00", since=20, until=30, limit=9) == [["c-20", "c-30"]]
        assert pages(tables, "parked#00", until=40, limit=9) == [["parked"]]
        assert pages(tables, "07", until=40, limit=9) == []

    def test_entries_of_one_moment_are_all_there(self, tables: Tables) -> None:
        tables.put(*(conversation(f"c-{number}", "00", 7) for number in range(5)))
        assert sorted(itertools.chain.from_iterable(pages(tables, "00", until=7, limit=2))) == [
            f"c-{n}" for n in range(5)
        ]

    def test_it_goes_on_behind_an_entry_that_is_gone(self, tables: Tables) -> None:
        tables.put(*(conversation(f"c-{at}", "00", at) for at in (10, 20, 30)))
        after = IndexEntry("00", 15, "gone")
        page = tables.overview.entries("00", until=30, after=after, limit=9)
        assert [entry.conversation_id for entry in page.entries] == ["c-20", "c-30"]
        assert page.after is None

    def test_what_is_overdue_is_counted(self, tables: Tables) -> None:
        tables.put(*(conversation(f"c-{at}", "00", at) for at in (10, 20, 30)))
        assert tables.overview.count("00", until=20) == 2

    def test_many_items_are_read_at_once_and_who_is_not_there_is_left_out(self, tables: Tables) -> None:
        both = [conversation("日本", "00", 1), conversation("c-2", None, None)]
        tables.put(*both)
        assert tables.overview.read_each(["日本", "c-2", "absent", "c-2"]) == {
            "日本": both[0],
            "c-2": both[1],
        }
        assert tables.overview.read_each([]) == {}


class TestDelete:
    def test_it_deletes_what_was_seen(self, tables: Tables) -> None:
        seen = conversation("c-1", "00", 1)
        tables.put(seen)
        assert tables.store.delete(seen).done
        assert tables.store.read("c-1").conversation is None
        assert tables.store.delete(seen).done  # gone already

    def test_it_does_not_delete_what_changed_since(self, tables: Tables) -> None:
        seen = conversation("c-1", "00", 1)
        newer = replace(seen, version=2)
        tables.put(seen)
        tables.store.save(newer, seen)
        deleted = tables.store.delete(seen)
        assert (deleted.done, deleted.current) == (False, newer)


class TestLease:
    def test_nobody_else_gets_it_until_it_runs_out_or_is_given_back(self, tables: Tables) -> None:
        control = tables.control
        lease = control.take("a", 0, now=100, until=200)
        assert lease == Lease(run="a", handovers=0)
        assert control.take("b", 0, now=199, until=300) is None
        assert control.take("b", 0, now=200, until=300) == Lease(run="b", handovers=0)
        assert not control.keep(Lease(run="a", handovers=0), until=400)
        assert control.keep(Lease(run="b", handovers=0), until=0)
        assert control.take("c", 0, now=201, until=300) is not None

    def test_a_hand_over_takes_its_own_runs_lease_once(self, tables: Tables) -> None:
        control = tables.control
        control.take("a", 0, now=100, until=200)
        assert control.take("a", 2, now=100, until=200) is None
        assert control.take("b", 1, now=100, until=200) is None
        assert control.take("a", 1, now=100, until=200) == Lease(run="a", handovers=1)
        assert control.take("a", 1, now=100, until=200) is None
        assert not control.keep(Lease(run="a", handovers=0), until=400)

    def test_progress_is_kept_from_lease_to_lease(self, tables: Tables) -> None:
        control = tables.control
        control.take("a", 0, now=100, until=200)
        cursor = IndexEntry("03", 5, "日本")
        kept = Lease(run="a", handovers=0, cursor=cursor, audit_token="token")  # noqa: S106 - a page's
        assert control.keep(kept, until=0)
        assert control.take("b", 0, now=100, until=200) == replace(kept, run="b")
        assert control.keep(Lease(run="b", handovers=0), until=0)
        assert control.take("c", 0, now=100, until=200) == Lease(run="c", handovers=0)


class TestHold:
    def test_windows_are_written_and_read_by_everybody(self, tables: Tables) -> None:
        assert tables.control.read() == (NO_HOLD, 0)
        hold = Hold(((1, 2), (3, None)))
        assert tables.control.write(hold, 0)
        assert tables.control.read() == (hold, 1)
        assert tables.store.read("anybody").hold == hold
        assert tables.control.write(NO_HOLD, 1)
        assert tables.store.read("anybody").hold == NO_HOLD

    def test_who_saw_an_older_one_does_not_write(self, tables: Tables) -> None:
        assert tables.control.write(Hold(((1, None),)), 0)
        assert not tables.control.write(NO_HOLD, 0)
        assert tables.control.write(Hold(((1, 2),)), 1)
        assert not tables.control.write(NO_HOLD, 1)


def test_a_contacts_link_is_forgotten(tables: Tables) -> None:
    tables.store.link_contact("contact", "c-1", 10)
    tables.control.unlink_contact("contact")
    tables.control.unlink_contact("contact")
    assert tables.store.conversation_of_contact("contact") is None


def test_keys_that_a_throttled_table_left_are_asked_for_again_and_not_for_ever() -> None:
    client = aws("dynamodb")
    left = {"conversations": {"Keys": [{"conversation_id": {"S": "c-1"}}], "ConsistentRead": True}}
    with Stubber(client) as stubber:
        for _ in range(3):
            stubber.add_response(
                "batch_get_item", {"Responses": {}, "UnprocessedKeys": left}, {"RequestItems": left}
            )
        with pytest.raises(UnavailableError):
            DynamoDBOverview(client, "conversations").read_each(["c-1"])


# --- queues ---


@pytest.fixture
def queues() -> Iterator[tuple[Any, SqsFailureQueues, str, str]]:
    with mock_aws():
        client = aws("sqs")
        number = next(NUMBERS)
        failure = client.create_queue(QueueName=f"failure-{number}")["QueueUrl"]
        parked = client.create_queue(QueueName=f"parked-{number}")["QueueUrl"]
        yield client, SqsFailureQueues(client, failure_url=failure, parked_url=parked), failure, parked


def waiting(client: Any, url: str) -> int:
    names = ["ApproximateNumberOfMessages"]
    return int(
        client.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"][
            "ApproximateNumberOfMessages"
        ]
    )


def test_a_parked_event_is_there_as_it_came_with_the_reason_beside_it(
    queues: tuple[Any, SqsFailureQueues, str, str],
) -> None:
    client, both, _, parked = queues
    both.park("not { JSON", "unreadable")
    client.send_message(QueueUrl=parked, MessageBody="moved by SQS itself")
    seen = sorted(both.parked(10), key=lambda event: event.why)
    assert [(event.body, event.why) for event in seen] == [
        ("moved by SQS itself", "received_too_often"),
        ("not { JSON", "unreadable"),
    ]


def test_more_events_than_one_call_brings_are_shown_once_each_and_stay(
    queues: tuple[Any, SqsFailureQueues, str, str],
) -> None:
    client, both, _, parked = queues
    for number in range(25):
        both.park(str(number), "unreadable")
    shown = [event.body for event in both.parked(20)]
    assert len(set(shown)) == len(shown) == 20
    attributes = client.get_queue_attributes(QueueUrl=parked, AttributeNames=["All"])["Attributes"]
    total = int(attributes["ApproximateNumberOfMessages"]) + int(
        attributes["ApproximateNumberOfMessagesNotVisible"]
    )
    assert total == 25


def test_events_are_put_back_as_many_as_were_asked_for(
    queues: tuple[Any, SqsFailureQueues, str, str],
) -> None:
    client, both, failure, parked = queues
    for number in range(15):
        both.park(str(number), "unreadable")
    assert both.put_back(12) == 12
    assert (waiting(client, failure), waiting(client, parked)) == (12, 3)
    assert both.put_back(12) == 3
    assert both.put_back(12) == 0


def test_a_failed_event_waits_as_long_as_it_should(queues: tuple[Any, SqsFailureQueues, str, str]) -> None:
    client, both, failure, _ = queues
    client.send_message(QueueUrl=failure, MessageBody="x")
    [message] = client.receive_message(QueueUrl=failure, VisibilityTimeout=600)["Messages"]
    both.delay(message["ReceiptHandle"], 0)
    assert waiting(client, failure) == 1


# --- our functions ---


def answered(payload: object, *, error: bool = False) -> dict[str, Any]:
    body = json.dumps(payload).encode()
    answer: dict[str, Any] = {"StatusCode": 200, "Payload": StreamingBody(io.BytesIO(body), len(body))}
    return answer | ({"FunctionError": "Unhandled"} if error else {})


def called(*responses: dict[str, Any] | str) -> list[Reply]:
    """The replies to as many calls, one after the other."""
    client = aws("lambda")
    replies = []
    with Stubber(client) as stubber:
        functions = LambdaFunctions(lambda: client, {"cleanup": CLEANUP, "touch": TOUCH})
        for response in responses:
            if isinstance(response, str):
                stubber.add_client_error("invoke", response, http_status_code=429)
            else:
                stubber.add_response("invoke", response)
            [(_, reply)] = functions.call_each([Call("k", "cleanup", {"conversation_id": "c-1"})])
            replies.append(reply)
        assert list(functions.call_each([])) == []
    return replies


def test_a_function_is_invoked_by_its_alias_and_waited_for() -> None:
    client = aws("lambda")
    call = Call("k", "touch", {"conversation_id": "日本"})
    with Stubber(client) as stubber:
        stubber.add_response(
            "invoke",
            answered({"result": "opened"}),
            {
                "FunctionName": TOUCH,
                "InvocationType": "RequestResponse",
                "Payload": json.dumps({"conversation_id": "日本"}).encode(),
            },
        )
        replies = list(LambdaFunctions(lambda: client, {"touch": TOUCH}).call_each([call]))
    assert replies == [(call, Reply(answer={"result": "opened"}))]


def test_a_functions_error_is_told_from_a_function_that_did_not_run() -> None:
    error = {"errorType": "UnavailableError", "errorMessage": "no topic", "stackTrace": []}
    assert called(answered(error, error=True), "TooManyRequestsException", answered(None)) == [
        Reply(error="UnavailableError", message="no topic"),
        Reply(error="TooManyRequestsException", message="cleanup could not be invoked", reached=False),
        Reply(answer={}),
    ]


def test_a_function_that_does_not_answer_counts_as_one_that_failed() -> None:
    class Hanging:
        def invoke(self, **_: Any) -> Any:
            raise ReadTimeoutError(endpoint_url="x")

    functions = LambdaFunctions(Hanging, {"cleanup": CLEANUP})  # type: ignore[arg-type]
    [(_, reply)] = functions.call_each([Call("k", "cleanup", {})])
    assert (reply.error, reply.reached) == ("ReadTimeout", True)


def test_the_sweep_hands_over_to_its_own_alias() -> None:
    client = aws("lambda")
    with Stubber(client) as stubber:
        event = {"version": 1, "source": "handover", "run": "r-1", "handovers": 2}
        stubber.add_response(
            "invoke",
            {"StatusCode": 202},
            {
                "FunctionName": "arn:sweep:live",
                "InvocationType": "Event",
                "Payload": json.dumps(event).encode(),
            },
        )
        SweepContinuation(client, "arn:sweep:live").hand_over("r-1", 2)
        stubber.assert_no_pending_responses()


# --- Scheduler, looked through ---


def test_every_schedule_is_found_with_whose_it_is_and_when() -> None:
    with mock_aws():
        client = aws("scheduler")
        client.create_schedule_group(Name="group")
        scheduler = EventBridgeScheduler(
            client, group="group", target_arn=CLEANUP, role_arn="arn:role", dead_letter_arn="arn:queue"
        )
        at = 1_900_000_000_000
        for conversation_id in ("c-1", "日本/<b>"):
            assert scheduler.create(conversation_id, at) == "done"
        definition = scheduler.definition("x", at)
        definition["Name"] = "somebody-elses"
        definition["Target"]["Input"] = "{}"
        client.create_schedule(**definition)
        page = SchedulerTimetable(client, "group").page(None)
    assert page is not None
    assert set(page.timers) == {SetTimer("c-1", at), SetTimer("日本/<b>", at)}
    assert page.token is None


def test_a_page_is_fifty_and_goes_on_with_the_token() -> None:
    client = aws("scheduler")
    with Stubber(client) as stubber:
        stubber.add_response(
            "list_schedules",
            {"Schedules": [], "NextToken": "t-2"},
            {"GroupName": "group", "MaxResults": 50, "NextToken": "t-1"},
        )
        page = SchedulerTimetable(client, "group").page("t-1")
    assert page == TimetablePage((), "t-2")


def test_scheduler_absent_is_a_warning_and_a_stale_token_starts_over() -> None:
    client = aws("scheduler")
    with Stubber(client) as stubber:
        timetable = SchedulerTimetable(client, "group")
        stubber.add_client_error("list_schedules", "InternalServerException", http_status_code=500)
        assert timetable.page(None) is None
        stubber.add_client_error("list_schedules", "ValidationException", http_status_code=400)
        assert timetable.page("stale") == TimetablePage((), None)


# --- the caller's own table ---


def test_a_table_of_the_callers_is_read_with_his_names_and_resumed_by_its_keys() -> None:
    with mock_aws():
        client = aws("dynamodb")
        client.create_table(
            TableName="theirs",
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        for number in range(250):
            item = {"id": {"S": f"c-{number}"}, "seen": {"N": "1767268800"}, "other": {"BOOL": True}}
            client.put_item(TableName="theirs", Item=item)
        names = {"id": "conversation_id", "seen": "last_activity_at"}
        rows = list(table_rows(client, "theirs", names, None))
        assert len(rows) == 250
        assert rows[0][1]["last_activity_at"] == 1_767_268_800
        place = rows[150][0]
        again = list(table_rows(client, "theirs", names, place))
        assert [row["conversation_id"] for _, row in again] == [
            row["conversation_id"] for _, row in rows[100:]
        ]
