"""Chat sessions in Redis or Valkey: taken out so that they can come back.

A removed session is not deleted but renamed to a *tombstone*, with the time to live that it had left
in a companion key; both expire after the tombstone time. So whoever finds that the conversation was
reopened meanwhile can put the session back as it was.

Names beside a session key ``K`` (grant the service's user these, and the session keys)::

    idle-timer:tombstone:…K…:<opening id>      the session's own value, whatever its type
    idle-timer:ttl:…K…:<opening id>            milliseconds that it had left to live; -1 = no expiry; `back` = the
                                               conversation was reopened, this opening is done with for good

They start with ``idle-timer:`` so that a ``SCAN`` for the application's own prefix does not count
tombstones as sessions. Commands used: INFO, EVALSHA, SCRIPT LOAD, EXISTS, GET, PERSIST, PEXPIRE, PTTL,
RENAME, RENAMENX, SET, UNLINK; on a cluster also CLUSTER SLOTS and COMMAND.

Errors: :class:`SessionUrlError` when the configured URL cannot be used; else ``UnavailableError``, caused by
redis-py's own error. Left to the caller's retry.
"""

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from redis import Redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.cluster import RedisCluster
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisClusterException, RedisError
from redis.retry import Retry

from idle_timer.errors import UnavailableError

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

# A node in the same region accepts in about a millisecond: after a second the host is not there. Connect
# timeouts are not retried, so a wrong security group costs a Lambda 1 s, not its whole timeout.
_CONNECT_TIMEOUT_SECONDS = 1.0
# One script on three keys runs in microseconds; two seconds outlast a failover's pause or a slow
# neighbour's command, and leave room for a Lambda's other work. A command that timed out may have run: it is
# not sent again here, the caller's retry looks afresh. (redis-py's cluster client does send it again, at
# most `_RETRIES` times.)
_SOCKET_TIMEOUT_SECONDS = 2.0
# Connection errors only. Two more tries bridge a closed connection and the moment in which a failover's new
# primary does not listen yet; anything longer is for the Lambda's own retry, a minute later.
_RETRIES = 2
# Seconds: pauses of at most 0.1 and 0.2 (random, so that parallel Lambdas do not return in step).
_BACKOFF_BASE_SECONDS = 0.05
_BACKOFF_CAP_SECONDS = 0.5
# A frozen Lambda sends no keep-alives, and AWS forgets idle TCP connections, after 350 s at the earliest:
# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/security-group-connection-tracking.html
# A packet into such a connection may vanish and cost the whole socket timeout, so it is opened anew before.
_MAX_IDLE_SECONDS = 300.0
# The shortest tombstone time. For a tombstone whose companion the server evicted, so that the session neither dies
# at once nor lives for ever; and far longer than a cleanup lives (a minute) that comes late.
_HOUR_MS = 3_600_000

# KEYS in every script: session, tombstone, companion. A script runs alone, so nothing comes between its lines.

# ARGV: tombstone time in ms, 0 = none. A tombstone may stand already: an earlier attempt crashed after it had
# moved the session, and a new session has come under the key since. RENAME, not RENAMENX: the conversation is
# still ended, so the new session goes, too, and it is the one to come back if anything does. What the older
# tombstone holds was superseded when the application wrote the new one. Without a session nothing changes: a
# repeated removal neither touches the tombstone nor lengthens its life.
# Once restored, an opening's session is not removed any more, nor restored again: a cleanup that read the item
# before it was reopened (or ended once more) may come this late.
_REMOVE = """
if redis.call('GET', KEYS[3]) == 'back' then
    return 0
end
if ARGV[1] == '0' then
    return redis.call('UNLINK', KEYS[1])
end
local ttl = redis.call('PTTL', KEYS[1])
if ttl == -2 then
    return 0
end
redis.call('RENAME', KEYS[1], KEYS[2])
redis.call('PEXPIRE', KEYS[2], ARGV[1])
redis.call('SET', KEYS[3], ttl, 'PX', ARGV[1])
return 1
"""

# ARGV: how long to remember that this was done, in ms; also the time to live for a session whose own is not known
# any more. RENAMENX raises where there is no source, hence EXISTS; `max` because PEXPIRE 0 would delete.
_RESTORE = """
local saved = redis.call('GET', KEYS[3])
if saved == 'back' then
    return 0
end
redis.call('SET', KEYS[3], 'back', 'PX', ARGV[1])
if redis.call('EXISTS', KEYS[2]) == 0 or redis.call('RENAMENX', KEYS[2], KEYS[1]) == 0 then
    return 0
end
if not saved then
    redis.call('PEXPIRE', KEYS[1], ARGV[1])
elseif saved == '-1' then
    redis.call('PERSIST', KEYS[1])
else
    redis.call('PEXPIRE', KEYS[1], math.max(tonumber(saved), 1))
end
return 1
"""

_FORGET = "return redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3])"


class SessionUrlError(UnavailableError):
    """The session store's URL is missing or malformed. Never shows the secret or any part of it."""


def session_url(secrets_client: "SecretsManagerClient", arn: str) -> str:
    """The session store's URL from Secrets Manager: the secret is the URL, or JSON with the key `url`.

    ``redis://`` or ``rediss://`` (TLS; ``?ssl_ca_certs=<file>`` for a private CA).

    :raises SessionUrlError: the secret holds neither.
    :raises botocore.exceptions.ClientError: it cannot be read.
    """
    secret = secrets_client.get_secret_value(SecretId=arn).get("SecretString", "").strip()
    url = _url_from_json(secret) if secret.startswith("{") else secret
    if not _is_usable(url):
        raise SessionUrlError(
            "the session secret holds neither a redis:// or rediss:// URL nor JSON with one under 'url'"
            " (special characters in a password must be percent-encoded)"
        )
    return url


def _url_from_json(secret: str) -> str:
    # The caller raises, outside this `except`: a JSONDecodeError carries the whole secret.
    try:
        url = json.loads(secret).get("url", "")
    except json.JSONDecodeError:
        return ""
    return url if isinstance(url, str) else ""


def _is_usable(url: str) -> bool:
    """Whether the URL has a host, and a password that does not end it early.

    A bare ``/``, ``?`` or ``#`` in a password moves the rest of it, up to the ``@``, behind the host: a part of
    the password would be taken for a host or a port, and stand in a connection error.
    """
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  # raises if it is not a number
    except ValueError:
        return False
    stray = "@" in parts.path + parts.query + parts.fragment
    return parts.scheme in ("redis", "rediss") and bool(parts.hostname) and not stray


def tombstone_names(session_key: str, opening_id: str) -> tuple[str, str]:
    """The names of a session's tombstone and of its companion, both in the session key's cluster slot.

    No two session keys share a name. A slot is found from the first ``{…}`` of a name, if that is not empty:
    https://valkey.io/topics/cluster-spec/#hash-tags
    """
    start = session_key.find("{")
    end = session_key.find("}", start + 1) if start >= 0 else -1
    if end > start + 1:
        tagged = f"tagged:{session_key}"
    elif session_key and "}" not in session_key:
        tagged = f"wrapped:{{{session_key}}}"
    else:
        tagged = f"slot:{{{_tag_of_slot(key_slot(session_key.encode()))}}}{session_key}"
    return f"idle-timer:tombstone:{tagged}:{opening_id}", f"idle-timer:ttl:{tagged}:{opening_id}"


def _tag_of_slot(slot: int) -> str:
    """The smallest number whose decimal text hashes to the slot: at most six digits, found in milliseconds."""
    number = 0
    while key_slot(b"%d" % number) != slot:
        number += 1
    return str(number)


class RedisSessions:
    """Sessions in one Redis or Valkey, plain, with TLS, or as a cluster (ElastiCache Serverless is one).

    Nothing connects before the first call. The connection is kept over calls; after any failure it is dropped,
    and the next call loads the URL anew, since the secret may have been rotated or the server replaced.

    :param load_url: gives the URL. What its query says (``socket_timeout=…``) wins over the defaults here.
    :param tombstone_seconds: how long a removed session can come back; 0 = it is deleted.

    Every method raises :class:`SessionUrlError`, ``UnavailableError``, and whatever `load_url` raises.
    """

    def __init__(self, load_url: Callable[[], str], tombstone_seconds: int) -> None:
        self._load_url = load_url
        self._tombstone_ms = tombstone_seconds * 1000
        self._client: Redis | RedisCluster | None = None
        self._last_used = 0.0  # epoch seconds: the monotonic clock may rest while a Lambda is frozen

    def remove(self, session_key: str, opening_id: str) -> bool:
        """Moves the live session aside; True if there was one.

        Call it only after reading that the conversation is still this ended opening: the session under the key
        goes, even one that came after an earlier attempt, unless this opening's was restored since. False does not mean
        that nothing was ever removed: the answer of an earlier attempt may have been lost.
        """
        return bool(self._run(_REMOVE, session_key, opening_id, self._tombstone_ms))

    def restore(self, session_key: str, opening_id: str) -> bool:
        """Puts the session back with the time to live that it had left; True if it came back.

        Once for each opening, which is then done with: a `remove` that comes later does nothing. A live session is never
        overwritten: its tombstone then stays until it expires.
        """
        return bool(self._run(_RESTORE, session_key, opening_id, _HOUR_MS))

    def forget(self, session_key: str, opening_id: str) -> None:
        """Erases the session and what was kept of it for this opening."""
        self._run(_FORGET, session_key, opening_id)

    def _run(self, script: str, session_key: str, opening_id: str, *args: int) -> Any:
        keys = (session_key, *tombstone_names(session_key, opening_id))
        if time.time() - self._last_used > _MAX_IDLE_SECONDS:
            self._drop()
        try:
            if self._client is None:
                self._client = _connect(self._load_url())
            reply = self._client.register_script(script)(keys, args)
        except (RedisError, RedisClusterException) as error:
            self._drop()
            raise UnavailableError(f"the session store failed: {error}") from error
        self._last_used = time.time()
        return reply

    def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()


def _connect(url: str) -> Redis | RedisCluster:
    client = _open(url) if _is_usable(url) else None
    if client is None:
        raise SessionUrlError(
            "the session store's URL is not a redis:// or rediss:// URL with a host and known options"
        )
    return client


def _open(url: str) -> Redis | RedisCluster | None:
    """A client that fits the server, which is asked whether it is part of a cluster.

    None if redis-py cannot read an option in the URL: its errors quote what they do not understand.
    """
    backoff = ExponentialWithJitterBackoff(cap=_BACKOFF_CAP_SECONDS, base=_BACKOFF_BASE_SECONDS)
    retry = Retry(backoff, _RETRIES, supported_errors=(RedisConnectionError,))
    options: dict[str, Any] = {
        "socket_connect_timeout": _CONNECT_TIMEOUT_SECONDS,
        "socket_timeout": _SOCKET_TIMEOUT_SECONDS,
        # RESP3 would switch maintenance notifications on, and with them off redis-py's check, before each use,
        # that the server has not closed a pooled connection.
        "protocol": 2,
    }
    try:
        client = Redis.from_url(url, retry=retry, **options)
        if client.info("cluster").get("cluster_enabled") != 1:
            return client
        client.close()
        return RedisCluster.from_url(url, retry=retry, **options)
    except (TypeError, ValueError):
        return None
