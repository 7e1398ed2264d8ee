"""The outcome topic."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from idle_timer.messages import sentence

if TYPE_CHECKING:
    from mypy_boto3_sns import SNSClient


class SnsOutcomes:
    """See `ports.Outcomes`."""

    def __init__(self, client: "SNSClient", topic_arn: str) -> None:
        self._client = client
        self._topic_arn = topic_arn

    def publish(self, outcome: Mapping[str, Any]) -> None:
        """Programs get the JSON, people a sentence; type and reason are attributes for filter policies."""
        # ASCII, because queues refuse some characters that an id may have (U+FFFE); JSON's readers see no difference.
        body = json.dumps(outcome, separators=(",", ":"))
        text = "".join(c if c.isprintable() or c == "\n" else "?" for c in sentence(outcome))
        filterable = {name: outcome[name] for name in ("type", "reason") if outcome.get(name)}
        self._client.publish(
            TopicArn=self._topic_arn,
            # ASCII and under 100 characters (https://docs.aws.amazon.com/sns/latest/api/API_Publish.html), so never an id.
            Subject=f"Idle Timer: {outcome['type']}",
            MessageStructure="json",
            Message=json.dumps({"default": body, "email": text, "sms": text.splitlines()[0]}),
            MessageAttributes={
                name: {"DataType": "String", "StringValue": value} for name, value in filterable.items()
            },
        )
