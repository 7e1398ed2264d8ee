"""Amazon Lex V2 and Amazon Connect, as far as an end touches them."""

from collections.abc import Callable, Mapping
from typing import Any

from idle_timer.adapters.aws import ClientError, error_code

Clients = Callable[[str], Any]


class LexAndConnect:
    """See `ports.Bots`. `clients` makes a client by its service name at the first use; most stacks need neither."""

    def __init__(self, clients: Clients, connect_instance_id: str) -> None:
        self._clients = clients
        self._connect_instance_id = connect_instance_id

    def delete_lex_session(self, lex: Mapping[str, str]) -> None:
        """https://docs.aws.amazon.com/lexv2/latest/APIReference/API_runtime_DeleteSession.html"""
        call = self._clients("lexv2-runtime").delete_session
        _unless_gone(
            call,
            botId=lex["bot_id"],
            botAliasId=lex["bot_alias_id"],
            localeId=lex["locale_id"],
            sessionId=lex["session_id"],
        )

    def stop_contact(self, contact_id: str) -> None:
        """https://docs.aws.amazon.com/connect/latest/APIReference/API_StopContact.html"""
        call = self._clients("connect").stop_contact
        _unless_gone(call, ContactId=contact_id, InstanceId=self._connect_instance_id)


def _unless_gone(call: Callable[..., Any], **request: str) -> None:
    try:
        call(**request)
    except ClientError as error:
        if error_code(error) not in ("ResourceNotFoundException", "ContactNotFoundException"):
            raise
