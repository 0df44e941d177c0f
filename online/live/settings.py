"""Where the parts of a running system are, and how they are spoken to: one file and the environment.

A file ``unskew.toml`` has a table for each part; ``UNSKEW_<TABLE>_<NAME>`` in the environment takes its place, value by
value. What is secret is kept in `Secret` and is never printed.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from unskew.pipelines.errors import InputError, nearest
from unskew.pipelines.timegrid import parse_duration

FILE = "unskew.toml"
PREFIX = "UNSKEW"
SHARE = re.compile(r"0(\.[0-9]+)?|1(\.0+)?")
ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s\[\]:/@]+):([0-9]{1,5})")
LAST_PORT = 65_535
CERTIFICATE = "-----BEGIN CERTIFICATE-----"
PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


class Secret(str):
    """A text that is not shown: ``str.__str__(secret)`` and comparison have it, `repr` and formatting do not."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Return nothing of it."""
        return "'***'" if len(self) else "''"

    def __str__(self) -> str:
        """Return nothing of it."""
        return "***" if len(self) else ""

    def __format__(self, _: str) -> str:
        """Return nothing of it."""
        return str(self)

    def reveal(self) -> str:
        """Return the text itself, for the part that it is meant for."""
        return str.__str__(self)


NONE = Secret("")


@dataclass(frozen=True)
class KafkaSettings:
    """The broker.

    Parameters
    ----------
    bootstrap_servers
        ``host:port``, several with commas.
    security_protocol, sasl_mechanism
        Kafka's names; SASL needs `sasl_username` and `sasl_password`.
    ssl_cafile, ssl_certfile, ssl_keyfile
        PEM files; the key's password is `ssl_password`. The job reads key and certificate from `ssl_keyfile`: put both in it.
    partitions, replication
        Of the topics that unskew makes.
    """

    bootstrap_servers: str = "localhost:9092"
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str = "PLAIN"
    sasl_username: str = ""
    sasl_password: Secret = NONE
    ssl_cafile: str = ""
    ssl_certfile: str = ""
    ssl_keyfile: str = ""
    ssl_password: Secret = NONE
    partitions: int = 4
    replication: int = 1

    def __post_init__(self) -> None:
        """Refuse addresses that are none, names that Kafka does not know, and half of what it needs."""
        if not all(is_address(each.strip()) for each in self.bootstrap_servers.split(",")):
            refuse("kafka.bootstrap_servers", self.bootstrap_servers, "host:port, several with commas")
        for name, value, known in (
            ("security_protocol", self.security_protocol, PROTOCOLS),
            ("sasl_mechanism", self.sasl_mechanism, MECHANISMS),
        ):
            if value not in known:
                message = f"kafka's {name} `{value}` is unknown; {nearest(value, known)}"
                raise InputError(message)
        for name in ("sasl_username", "sasl_password"):
            if self.security_protocol.startswith("SASL") and not getattr(self, name):
                message = f"kafka's security_protocol `{self.security_protocol}` needs {name}, which is empty; set `kafka.{name}`"
                raise InputError(message)
        for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile"):
            require_file(f"kafka.{name}", getattr(self, name))

    def client(self) -> dict[str, Any]:
        """Return the arguments of kafka-python's clients."""
        found: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap_servers.split(","),
            "security_protocol": self.security_protocol,
        }
        if self.security_protocol.startswith("SASL"):
            found |= {"sasl_mechanism": self.sasl_mechanism, "sasl_plain_username": self.sasl_username}
            found |= {"sasl_plain_password": self.sasl_password.reveal()}
        if self.security_protocol.endswith("SSL"):
            files = {name: getattr(self, name) for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile")}
            found |= {name: value for name, value in files.items() if value}
            found |= {"ssl_password": self.ssl_password.reveal()} if self.ssl_password else {}
        return found

    def librdkafka(self) -> dict[str, str]:
        """Return the options of librdkafka's clients."""
        found = {"bootstrap.servers": self.bootstrap_servers, "security.protocol": self.security_protocol}
        if self.security_protocol.startswith("SASL"):
            found |= {"sasl.mechanism": self.sasl_mechanism, "sasl.username": self.sasl_username}
            found |= {"sasl.password": self.sasl_password.reveal()}
        if self.security_protocol.endswith("SSL"):
            files = {"ca": self.ssl_cafile, "certificate": self.ssl_certfile, "key": self.ssl_keyfile}
            found |= {f"ssl.{name}.location": path for name, path in files.items() if path}
            found |= {"ssl.key.password": self.ssl_password.reveal()} if self.ssl_password else {}
        return found

    def flink(self) -> dict[str, str]:
        """Return the options of Flink's connector, ``properties.`` before each.

        Raises
        ------
        InputError
            If the file of the key has no certificate.
        """
        found = {"bootstrap.servers": self.bootstrap_servers, "security.protocol": self.security_protocol}
        if self.security_protocol.startswith("SASL"):
            module = "scram.ScramLoginModule" if self.sasl_mechanism.startswith("SCRAM") else "plain.PlainLoginModule"
            # the connector's jar carries Kafka's client under a name of its own
            login = f"org.apache.flink.kafka.shaded.org.apache.kafka.common.security.{module} required"
            who = f'username="{escaped(self.sasl_username)}" password="{escaped(self.sasl_password.reveal())}"'
            found |= {"sasl.mechanism": self.sasl_mechanism, "sasl.jaas.config": f"{login} {who};"}
        if self.security_protocol.endswith("SSL"):
            found |= (
                {"ssl.truststore.type": "PEM", "ssl.truststore.location": self.ssl_cafile} if self.ssl_cafile else {}
            )
            if self.ssl_keyfile:
                if CERTIFICATE not in Path(self.ssl_keyfile).read_text(encoding="utf-8", errors="replace"):
                    message = f"kafka's ssl_keyfile `{self.ssl_keyfile}` has no certificate; the job reads key and certificate from one file: put both in it"
                    raise InputError(message)
                found |= {"ssl.keystore.type": "PEM", "ssl.keystore.location": self.ssl_keyfile}
            found |= {"ssl.key.password": self.ssl_password.reveal()} if self.ssl_password else {}
        return {f"properties.{name}": value for name, value in found.items()}


@dataclass(frozen=True)
class StoreSettings:
    """The online store: ``redis://host:port/0``, ``rediss://`` for TLS, else the path of an SQLite file."""

    url: str = "build/store.sqlite"
    username: str = ""
    password: Secret = NONE
    ssl_cafile: str = ""

    def __post_init__(self) -> None:
        """Refuse a store without a name: SQLite takes that for a file that is gone with the process."""
        if not self.url.strip():
            refuse("store.url", self.url, "the path of an SQLite file, or redis://HOST:PORT/0")
        require_file("store.ssl_cafile", self.ssl_cafile)


@dataclass(frozen=True)
class FlinkSettings:
    """The cluster.

    Parameters
    ----------
    target
        Address of its REST interface, ``host:port``.
    parallelism
        Of the jobs; no more than a topic's partitions are of use.
    checkpoints
        Folder or URI that every TaskManager and the command line can read and write.
    checkpoint_interval
        Flink's notation.
    """

    target: str = "localhost:8081"
    parallelism: int = 2
    checkpoints: str = "build/checkpoints"
    checkpoint_interval: str = "10s"

    def __post_init__(self) -> None:
        """Refuse an address that is none."""
        if not is_address(self.target):
            refuse("flink.target", self.target, "host:port of the cluster's REST interface")


@dataclass(frozen=True)
class KeySettings:
    """One API key of the feature server.

    Parameters
    ----------
    name
        Whose it is, for people.
    sha256
        Of the key, in hex, as `unskew keygen` prints it; the key itself is nowhere.
    sets, events
        Feature sets that it may read, and sources that it may post events of; ``"*"`` is all.
    rate
        Requests a second; 0: no limit.
    """

    name: str
    sha256: str
    sets: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    rate: int = 0

    def __post_init__(self) -> None:
        """Refuse what is no hash."""
        if not re.fullmatch("[0-9a-f]{64}", self.sha256):
            message = f"setting `server.keys` has no sha256 in hex for key `{self.name}`; make one by `unskew keygen`"
            raise InputError(message)


@dataclass(frozen=True)
class ServerSettings:
    """The feature server.

    Parameters
    ----------
    host, port
        Where it listens.
    max_bytes, max_rows
        Of a request.
    max_age
        Duration after which what a row knows is flagged as stale; empty: never.
    timeout
        How long a request may wait for the store or the broker.
    drain
        How long it serves on after SIGTERM, so that balancers see it leave.
    threads
        Reads at a time, each with a connection of its own.
    max_waiting
        Rows, and events, that may wait at a time.
    served_share
        Of the entities whose served rows are logged, ``0.01``; empty: none.
    keys
        Who may ask for what; without any, everybody who reaches it.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    max_bytes: int = 8 * 2**20
    max_rows: int = 10_000
    max_age: str = ""
    timeout: str = "5s"
    drain: str = "5s"
    threads: int = 2
    max_waiting: int = 20_000
    served_share: str = ""
    keys: tuple[KeySettings, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a port and durations that are none, and keys of one name."""
        if self.port > LAST_PORT:
            refuse("server.port", self.port, f"a port, at most {LAST_PORT}")
        for each in (self.max_age or "1s", self.timeout, self.drain):
            parse_duration(each)
        if self.served_share and not SHARE.fullmatch(self.served_share):
            message = f"setting `server.served_share` is `{self.served_share}`; give a number from 0 to 1, such as 0.01"
            raise InputError(message)
        names = [each.name for each in self.keys]
        if len(set(names)) < len(names):
            message = (
                f"setting `server.keys` names `{max(names, key=names.count)}` twice; give each key a name of its own"
            )
            raise InputError(message)


@dataclass(frozen=True)
class Settings:
    """All parts."""

    kafka: KafkaSettings = field(default_factory=KafkaSettings)
    store: StoreSettings = field(default_factory=StoreSettings)
    flink: FlinkSettings = field(default_factory=FlinkSettings)
    server: ServerSettings = field(default_factory=ServerSettings)


Part = TypeVar("Part", KafkaSettings, StoreSettings, FlinkSettings, ServerSettings)


def load_settings(path: Path | None = None, environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings: of the file, of ``unskew.toml`` where none is named and it is there, and of the environment.

    Raises
    ------
    InputError
        If the file cannot be read, or has a table, a name or a value that is not known.
    """
    given = read_file(path)
    known = {each.name for each in fields(Settings)}
    for table in given:
        if table not in known:
            message = f"settings `{path or FILE}` have the unknown table `{table}`; {nearest(table, known)}"
            raise InputError(message)
    return Settings(
        kafka=part(KafkaSettings, "kafka", given, environment),
        store=part(StoreSettings, "store", given, environment),
        flink=part(FlinkSettings, "flink", given, environment),
        server=part(ServerSettings, "server", given, environment),
    )


def read_file(path: Path | None) -> dict[str, Any]:
    """Return the tables of the file; none where there is none and none was named."""
    chosen = Path(FILE) if path is None else path
    if path is None and not chosen.exists():
        return {}
    try:
        return tomllib.loads(chosen.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        message = f"settings `{chosen}` cannot be read: {str(error).splitlines()[0]}; give a TOML file"
        raise InputError(message) from error


def part(kind: type[Part], table: str, given: Mapping[str, Any], environment: Mapping[str, str]) -> Part:
    """Return one table's settings."""
    own = given.get(table, {})
    defaults = {each.name: getattr(kind(), each.name) for each in fields(kind)}
    if not isinstance(own, dict):
        message = f"settings `{table}` are no table; write them as one, [{table}]"
        raise InputError(message)
    for name in own:
        if name not in defaults:
            message = f"settings [{table}] have no `{name}`; {nearest(name, defaults)}"
            raise InputError(message)
    found = dict(own)
    for name in defaults:
        variable = f"{PREFIX}_{table}_{name}".upper()
        if variable in environment:
            found[name] = environment[variable]
    return kind(**{name: typed(f"{table}.{name}", value, defaults[name]) for name, value in found.items()})


def typed(name: str, value: Any, default: Any) -> Any:
    """Return a value of the default's type; a secret is not named in an error."""
    if isinstance(default, Secret):
        return Secret(value) if isinstance(value, str) else refuse(name, "***", "text")
    if isinstance(default, tuple):
        return api_keys(name, value)
    if isinstance(default, int):
        return whole(name, value, 1)
    return value if isinstance(value, str) else refuse(name, value, "text")


def whole(name: str, value: Any, least: int) -> Any:
    """Return a whole number of at least that size; a text may hold it."""
    found = int(value) if isinstance(value, str) and value.isdecimal() else value
    return found if type(found) is int and found >= least else refuse(name, value, f"a whole number from {least} on")


def api_keys(name: str, value: Any) -> tuple[KeySettings, ...]:
    """Return the API keys of a list of tables."""
    tables = value if isinstance(value, list) and all(isinstance(each, dict) for each in value) else None
    if tables is None:
        refuse(name, "***", f"tables, [[{name}]]")
    known = {each.name: each.type for each in fields(KeySettings)}
    for table in tables or []:
        for key, given in table.items():
            if key not in known:
                message = f"settings [[{name}]] have no `{key}`; {nearest(key, known)}"
                raise InputError(message)
            if key in ("sets", "events"):
                texts = isinstance(given, list) and all(isinstance(each, str) for each in given)
                if not texts:
                    refuse(f"{name}.{key}", given, "a list of names")
                table[key] = tuple(given)
            elif key == "rate":
                table[key] = whole(f"{name}.{key}", given, 0)
            elif not isinstance(given, str):
                refuse(f"{name}.{key}", given, "text")
        for key in ("name", "sha256"):
            if key not in table:
                message = f"settings [[{name}]] have a key without `{key}`; add it"
                raise InputError(message)
    return tuple(KeySettings(**table) for table in tables or [])


def is_address(text: str) -> bool:
    """Return whether a text is ``host:port``; an address of IPv6 stands in brackets."""
    found = ADDRESS.fullmatch(text)
    return found is not None and 0 < int(found[2]) <= LAST_PORT


def require_file(name: str, path: str) -> None:
    """Refuse the path of a file that is not there; an empty one names none."""
    if path and not Path(path).is_file():
        refuse(name, path, "the path of a PEM file that is there")


def refuse(name: str, value: object, wanted: str) -> None:
    """Refuse a value; what a list or a table holds is not shown."""
    shown = "***" if isinstance(value, list | dict) else value
    message = f"setting `{name}` is `{shown}`; give {wanted}"
    raise InputError(message)


def escaped(text: str) -> str:
    """Escape a text for a quoted value of JAAS."""
    return text.replace("\\", "\\\\").replace('"', '\\"')
