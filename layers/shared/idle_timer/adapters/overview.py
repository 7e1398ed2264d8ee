"""The conversations table, many items at a time; and the control table's lease and hold."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from idle_timer.adapters.aws import ClientError, error_code
from idle_timer.adapters.dynamodb import BATCH_TRIES, CONTACT_PREFIX, HOLD_ID, from_item, hold_from_item
from idle_timer.conversation import NO_HOLD, Conversation, Hold
from idle_timer.errors import UnavailableError
from idle_timer.upkeep_ports import IndexEntry, IndexPage, Lease

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

INDEX = "sweep"
LEASE_ID = "sweep"


class DynamoDBOverview:
    """See `ports.Overview`."""

    def __init__(self, client: "DynamoDBClient", conversations_table: str) -> None:
        self._client = client
        self._table = conversations_table

    def entries(
        self, shard: str, *, since: int = 0, until: int, after: IndexEntry | None = None, limit: int = 20
    ) -> IndexPage:
        """One query; the index is keys only, so a page costs next to nothing."""
        start: dict[str, Any] = {} if after is None else {"ExclusiveStartKey": _key(after)}
        answer = self._client.query(**self._query(shard, since, until), Limit=limit, **start)
        last = answer.get("LastEvaluatedKey")
        return IndexPage(tuple(_entry(item) for item in answer["Items"]), _entry(last) if last else None)

    def count(self, shard: str, *, until: int) -> int:
        """As many queries as it takes, a megabyte of keys each."""
        counted = 0
        start: dict[str, Any] = {}
        while True:
            answer: Any = self._client.query(**self._query(shard, 0, until), Select="COUNT", **start)
            counted += int(answer["Count"])
            if "LastEvaluatedKey" not in answer:
                return counted
            start = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}

    def read_each(self, conversation_ids: Sequence[str]) -> Mapping[str, Conversation]:
        """One call for up to 100 items; raises UnavailableError where the table is throttled."""
        keys = [{"conversation_id": {"S": each}} for each in dict.fromkeys(conversation_ids)]
        wanted: Any = {self._table: {"Keys": keys, "ConsistentRead": True}} if keys else {}
        found: dict[str, Conversation] = {}
        for _ in range(BATCH_TRIES):
            if not wanted:
                return found
            answer = self._client.batch_get_item(RequestItems=wanted)
            for item in answer["Responses"].get(self._table, []):
                conversation = from_item(item)
                found[conversation.conversation_id] = conversation
            wanted = answer.get("UnprocessedKeys")
        if wanted:
            raise UnavailableError("the table is throttled")
        return found

    def _query(self, shard: str, since: int, until: int) -> Any:
        return {
            "TableName": self._table,
            "IndexName": INDEX,
            "KeyConditionExpression": "#shard = :shard AND #at BETWEEN :since AND :until",
            "ExpressionAttributeNames": {"#shard": "sweep_shard", "#at": "sweep_at"},
            "ExpressionAttributeValues": {
                ":shard": {"S": shard},
                ":since": {"N": str(since)},
                ":until": {"N": str(until)},
            },
        }


class DynamoDBControl:
    """See `ports.Leases`, `ports.Holds` and `ports.Links`."""

    def __init__(self, client: "DynamoDBClient", control_table: str) -> None:
        self._client = client
        self._table = control_table

    def take(self, run: str, handovers: int, *, now: int, until: int) -> Lease | None:
        """One conditional update; whoever loses changes nothing."""
        nobody_has_it = "attribute_not_exists(#owner) OR #until <= :now"
        handed_over_to_me = "#owner = :run AND #handovers = :before"
        values = {":run": {"S": run}, ":handovers": _number(handovers), ":until": _number(until)}
        values |= {":before": _number(handovers - 1)} if handovers else {":now": _number(now)}
        try:
            answer = self._client.update_item(
                TableName=self._table,
                Key={"control_id": {"S": LEASE_ID}},
                UpdateExpression="SET #owner = :run, #handovers = :handovers, #until = :until",
                ConditionExpression=handed_over_to_me if handovers else nobody_has_it,
                ExpressionAttributeNames={"#owner": "owner", "#handovers": "handovers", "#until": "until"},
                ExpressionAttributeValues=values,
                ReturnValues="ALL_NEW",
            )
        except ClientError as error:
            _only_lost(error)
            return None
        item = answer["Attributes"]
        return Lease(
            run=run,
            handovers=handovers,
            cursor=_entry(item["cursor"]["M"]) if "cursor" in item else None,
            audit_token=item["audit_token"]["S"] if "audit_token" in item else None,
        )

    def keep(self, lease: Lease, *, until: int) -> bool:
        """One update, on condition that the lease is still this run's."""
        progress: dict[str, Any] = {}
        if lease.cursor is not None:
            progress["cursor"] = {"M": _key(lease.cursor)}
        if lease.audit_token is not None:
            progress["audit_token"] = {"S": lease.audit_token}
        gone = [name for name in ("cursor", "audit_token") if name not in progress]
        sets = ", ".join(["#until = :until", *(f"#{name} = :{name}" for name in progress)])
        try:
            self._client.update_item(
                TableName=self._table,
                Key={"control_id": {"S": LEASE_ID}},
                UpdateExpression=f"SET {sets}"
                + (f" REMOVE {', '.join(f'#{name}' for name in gone)}" if gone else ""),
                ConditionExpression="#owner = :run AND #handovers = :handovers",
                ExpressionAttributeNames={
                    f"#{name}": name for name in ("owner", "handovers", "until", "cursor", "audit_token")
                },
                ExpressionAttributeValues={
                    ":run": {"S": lease.run},
                    ":handovers": _number(lease.handovers),
                    ":until": _number(until),
                    **{f":{name}": value for name, value in progress.items()},
                },
            )
        except ClientError as error:
            _only_lost(error)
            return False
        return True

    def read(self) -> tuple[Hold, int]:
        """One consistent read."""
        answer = self._client.get_item(
            TableName=self._table, Key={"control_id": {"S": HOLD_ID}}, ConsistentRead=True
        )
        item = answer.get("Item")
        return (hold_from_item(item), int(item["version"]["N"])) if item else (NO_HOLD, 0)

    def write(self, hold: Hold, version: int) -> bool:
        """One put, on condition that nobody has written since `version`."""
        windows = [
            {"M": {name: _number(at) for name, at in (("from", start), ("until", end)) if at is not None}}
            for start, end in hold.windows
        ]
        condition: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(#version)"}
        if version:
            condition = {
                "ConditionExpression": "#version = :seen",
                "ExpressionAttributeValues": {":seen": _number(version)},
            }
        item = {"control_id": {"S": HOLD_ID}, "version": _number(version + 1), "windows": {"L": windows}}
        try:
            self._client.put_item(
                TableName=self._table,
                Item=item,
                ExpressionAttributeNames={"#version": "version"},
                **condition,
            )
        except ClientError as error:
            _only_lost(error)
            return False
        return True

    def unlink_contact(self, contact_id: str) -> None:
        """One delete."""
        self._client.delete_item(
            TableName=self._table, Key={"control_id": {"S": CONTACT_PREFIX + contact_id}}
        )


def _only_lost(error: ClientError) -> None:
    if error_code(error) != "ConditionalCheckFailedException":
        raise error


def _number(value: int) -> Any:
    return {"N": str(value)}


def _key(entry: IndexEntry) -> Any:
    return {
        "sweep_shard": {"S": entry.shard},
        "sweep_at": _number(entry.sweep_at),
        "conversation_id": {"S": entry.conversation_id},
    }


def _entry(item: Mapping[str, Any]) -> IndexEntry:
    return IndexEntry(item["sweep_shard"]["S"], int(item["sweep_at"]["N"]), item["conversation_id"]["S"])
