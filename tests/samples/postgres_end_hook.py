"""An end hook for PostgreSQL: the conversation's row goes to `ended`, once per end, however often this is invoked.

It needs two columns in a table of your own, here `conversations` with the key `conversation_id`:
`ALTER TABLE conversations ADD COLUMN outcome_id text, ADD COLUMN outcome_seq bigint NOT NULL DEFAULT 0;`
"""

import os
from typing import Any

import psycopg

UPDATE = """
    UPDATE conversations
       SET status = 'ended', end_reason = %(reason)s, ended_at = %(occurred_at)s,
           outcome_id = %(id)s, outcome_seq = %(seq)s
     WHERE conversation_id = %(conversation_id)s
       AND outcome_seq < %(seq)s -- a repeat, or one that a later end has overtaken, changes nothing
"""


def handler(outcome: dict[str, Any], context: object) -> dict[str, bool]:
    """`outcome`: a ConversationEnded as the topic publishes it. What raises here is invoked again later."""
    # As a context manager the connection commits at the end, or rolls back, and is closed.
    with psycopg.connect(os.environ["DATABASE_URL"], connect_timeout=5) as connection:
        changed = connection.execute(UPDATE, outcome).rowcount
    return {"changed": bool(changed)}
