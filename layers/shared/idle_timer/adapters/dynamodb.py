"""The conversations and control tables."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from idle_timer.adapters.aws import ClientError, error_code
from idle_timer.conversation import NO_HOLD, Conversation, Entry, Hold
from idle_timer.errors import UnavailableError
from idle_timer.ports import Activity, Read, Recorded, Saved
from idle_timer.settings import Stage

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

HOLD_ID = "hold"
CONTACT_PREFIX = "contact#"
BATCH_TRIES = 3  # BatchGetItem leaves keys unprocessed when a table is throttled

_FIELDS = frozenset(field.name for field in fields(Conversation))


class DynamoDBStore:
    """See `ports.Store`. Throttling and outages raise botocore's errors."""

    def __init__(self, client: "DynamoDBClient", conversations_table: str, control_table: str) -> None:
        self._client = client
        self._conversations = conversations_table
        self._control = control_table

    def record(self, activity: Activity) -> Recorded:
        """One conditional update; the loser gets the old item back in the error, so nobody reads a second time."""
        changes = {name: _value(value) for name, value in activity.changes.items()}
        is_active = "#state = :active"
        is_newer = "#last_activity_at < :at"
        owes_nothing = "size(#outbox) = :zero"
        never_failed = "#attempts = :zero"
        is_timed = "attribute_exists(#sweep_after_ms)"
        is_not_extended = "attribute_not_exists(#not_before)"
        # What moves the due time, or needs a link written first, must be stored already.
        same_policy = [
            f"#{name} = :{name}" if activity.changes[name] is not None else f"attribute_not_exists(#{name})"
            for name in ("idle_timeout_seconds", "stages", "connect_contact_id")
            if name in changes
        ]
        conditions = [
            is_active,
            is_newer,
            owes_nothing,
            never_failed,
            is_timed,
            is_not_extended,
            *same_policy,
        ]
        moved = [
            "#last_activity_at = :at",
            "#version = #version + :one",
            "#stage = :zero",
            "#sweep_at = :bucket + #sweep_after_ms",
            *(f"#{name} = :{name}" for name in ("session_key", "attributes", "lex") if name in changes),
        ]
        used = {
            "state",
            "last_activity_at",
            "outbox",
            "attempts",
            "sweep_after_ms",
            "not_before",
            "version",
            "stage",
            "stage_at",
        }
        try:
            answer = self._client.update_item(
                TableName=self._conversations,
                Key={"conversation_id": {"S": activity.conversation_id}},
                UpdateExpression=f"SET {', '.join(moved)} REMOVE #stage_at",
                ConditionExpression=" AND ".join(conditions),
                ExpressionAttributeNames={
                    f"#{name}": name for name in sorted(used | {"sweep_at"} | changes.keys())
                },
                ExpressionAttributeValues={
                    ":active": {"S": "active"},
                    ":at": _value(activity.at),
                    ":zero": {"N": "0"},
                    ":one": {"N": "1"},
                    ":bucket": _value(activity.sweep_bucket_ms),
                    **{
                        f":{name}": value
                        for name, value in changes.items()
                        if activity.changes[name] is not None
                    },
                },
                ReturnValues="ALL_OLD",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ClientError as error:
            return Recorded(before=_loser(error), after=None)
        before = from_item(answer["Attributes"])
        return Recorded(before=before, after=activity.applied_to(before))

    def read(self, conversation_id: str) -> Read:
        """One call for both tables, so that the hold costs no round trip."""
        wanted: Any = {
            self._conversations: {
                "Keys": [{"conversation_id": {"S": conversation_id}}],
                "ConsistentRead": True,
            },
            self._control: {"Keys": [{"control_id": {"S": HOLD_ID}}], "ConsistentRead": True},
        }
        found: dict[str, Any] = {}
        for _ in range(BATCH_TRIES):
            answer = self._client.batch_get_item(RequestItems=wanted)
            found |= {table: items[0] for table, items in answer["Responses"].items() if items}
            wanted = answer.get("UnprocessedKeys")
            if not wanted:
                break
        else:
            raise UnavailableError("the tables are throttled")
        item, hold = found.get(self._conversations), found.get(self._control)
        return Read(item and from_item(item), hold_from_item(hold) if hold else NO_HOLD)

    def save(self, after: Conversation, seen: Conversation | None) -> Saved:
        """One conditional put of the whole item, which is under 1 KB and so costs the same as any update."""
        is_new = "attribute_not_exists(#conversation_id)"
        is_as_seen = "#version = :seen"
        condition: dict[str, Any] = {
            "ConditionExpression": is_new,
            "ExpressionAttributeNames": {"#conversation_id": "conversation_id"},
        }
        if seen is not None:
            condition = {
                "ConditionExpression": is_as_seen,
                "ExpressionAttributeNames": {"#version": "version"},
                "ExpressionAttributeValues": {":seen": _value(seen.version)},
            }
        try:
            self._client.put_item(
                TableName=self._conversations,
                Item=to_item(after),
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
                **condition,
            )
        except ClientError as error:
            current = _loser(error)
            # The answer to a first try was lost on the way, and botocore's second try met its own write.
            return Saved(done=current == after, current=current)
        return Saved(done=True, current=after)

    def delete(self, seen: Conversation) -> Saved:
        """One conditional delete; an item that is gone already is success."""
        try:
            self._client.delete_item(
                TableName=self._conversations,
                Key={"conversation_id": {"S": seen.conversation_id}},
                ConditionExpression="#version = :seen",
                ExpressionAttributeNames={"#version": "version"},
                ExpressionAttributeValues={":seen": _value(seen.version)},
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ClientError as error:
            current = _loser(error)
            return Saved(done=current is None, current=current)
        return Saved(done=True, current=None)

    def note_timer(self, conversation: Conversation, armed_for: int) -> None:
        """One conditional update of one attribute."""
        policy = {
            name: getattr(conversation, name) for name in ("idle_timeout_seconds", "stages", "not_before")
        }
        fence = {"opening_id": conversation.opening_id, "seq": conversation.seq, **policy}
        values = {name: _value(value) for name, value in fence.items() if value is not None}
        conditions = [
            f"#{name} = :{name}" if name in values else f"attribute_not_exists(#{name})" for name in fence
        ]
        try:
            self._client.update_item(
                TableName=self._conversations,
                Key={"conversation_id": {"S": conversation.conversation_id}},
                UpdateExpression="SET #armed_for = :armed_for, #version = #version + :one",
                ConditionExpression=" AND ".join(conditions),
                ExpressionAttributeNames={f"#{name}": name for name in (*fence, "armed_for", "version")},
                ExpressionAttributeValues={
                    ":armed_for": _value(armed_for),
                    ":one": {"N": "1"},
                    **{f":{name}": value for name, value in values.items()},
                },
            )
        except ClientError as error:
            if error_code(error) != "ConditionalCheckFailedException":
                raise

    def link_contact(self, contact_id: str, conversation_id: str, expires_at: int) -> None:
        """One put; linking again is harmless."""
        self._client.put_item(
            TableName=self._control,
            Item={
                "control_id": {"S": CONTACT_PREFIX + contact_id},
                "conversation_id": {"S": conversation_id},
                "expires_at": _value(expires_at),
            },
        )

    def conversation_of_contact(self, contact_id: str) -> str | None:
        """One consistent read."""
        answer = self._client.get_item(
            TableName=self._control,
            Key={"control_id": {"S": CONTACT_PREFIX + contact_id}},
            ConsistentRead=True,
        )
        item = answer.get("Item")
        return item["conversation_id"]["S"] if item else None


def _loser(error: ClientError) -> Conversation | None:
    """The item that the condition failed on. Any other error is raised on."""
    if error_code(error) != "ConditionalCheckFailedException":
        raise error
    item: Any = error.response.get("Item")
    return from_item(item) if item else None


# --- items -----------------------------------------------------------------------------------------------------------


def to_item(conversation: Conversation) -> dict[str, Any]:
    """A conversation as DynamoDB's attribute values; what is None is left out."""
    values = {name: getattr(conversation, name) for name in _FIELDS}
    values["outbox"] = {key: asdict(entry) for key, entry in conversation.outbox.items()}
    return {name: _value(value) for name, value in values.items() if value is not None}


def from_item(item: Mapping[str, Any]) -> Conversation:
    """DynamoDB's attribute values -> a conversation; attributes of a newer version are not looked at."""
    values = {name: plain(value) for name, value in item.items() if name in _FIELDS}
    values["outbox"] = {key: Entry(**entry) for key, entry in values["outbox"].items()}
    values["history"] = tuple(values["history"])
    if "stages" in values:
        values["stages"] = tuple(Stage(**stage) for stage in values["stages"])
    return Conversation(**values)


def hold_from_item(item: Mapping[str, Any]) -> Hold:
    """The control table's hold: {"windows": [{"from": ms, "until": ms or absent}]}."""
    return Hold(tuple((window["from"], window.get("until")) for window in plain(item["windows"])))


def _value(value: Any) -> Any:
    match value:
        case bool():
            return {"BOOL": value}
        case int() | float():
            return {"N": repr(value)}
        case str():
            return {"S": value}
        case None:
            return {"NULL": True}
        case Stage():
            return _value({"name": value.name, "after": value.after})
        case Mapping():
            return {"M": {key: _value(inner) for key, inner in value.items()}}
        case list() | tuple():
            return {"L": [_value(inner) for inner in value]}
    raise TypeError(f"no DynamoDB type for {type(value).__name__}")


def plain(value: Mapping[str, Any]) -> Any:
    """One of DynamoDB's attribute values -> a Python value."""
    [(kind, inner)] = value.items()
    match kind:
        case "N":
            return int(inner) if inner.lstrip("-").isdigit() else float(inner)
        case "M":
            return {key: plain(each) for key, each in inner.items()}
        case "L":
            return [plain(each) for each in inner]
        case "NULL":
            return None
    return inner
