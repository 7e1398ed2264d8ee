"""The caller's own table of conversations, read for adoption."""

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from idle_timer.adapters.dynamodb import plain

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

PAGE = 100  # items per Scan: a page is also how far a resumed run goes back


def table_rows(
    client: "DynamoDBClient", table: str, names: Mapping[str, str], resume_after: str | None
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every item, attributes renamed by `names`; a place is the key of the last item of the page before, as JSON.

    Raises ValueError where `resume_after` is not such a place.
    """
    start: dict[str, Any] = {}
    if resume_after is not None:
        start = {"ExclusiveStartKey": json.loads(resume_after)}
    place = resume_after or ""
    while True:
        page: Any = client.scan(TableName=table, Limit=PAGE, **start)
        for item in page["Items"]:
            row = {name: plain(value) for name, value in item.items()}
            yield place, {names.get(name, name): value for name, value in row.items()}
        if "LastEvaluatedKey" not in page:
            return
        start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}
        place = json.dumps(page["LastEvaluatedKey"])
