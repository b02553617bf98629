"""The tables on ClickHouse, made from the same relations as the embedded copy: on one server, or sharded over a cluster.

``facts`` is sharded by account and holds a row once: the key of a ReplacingMergeTree is the entry's own instant and id,
so that a batch which is sent again replaces itself. Everything else is small and stands on every server.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Boolean, Column, Date, Double, Integer, SmallInteger, Table, Text

from credit_core.analytics import relations
from credit_core.store import schema

_TYPES = {
    BigInteger: "Int64",
    Boolean: "Bool",
    Date: "Date32",
    Double: "Float64",
    Integer: "Int32",
    SmallInteger: "Int16",
    Text: "String",
}
#: Of a whole leg or request; all other texts of an entry have few values, and are stored as numbers of a dictionary.
_MANY_VALUED = frozenset(
    {"account_id", "leg_id", "user_id", "team_id", "lot_id", "request_id", "parent_request_id", "session_id"}
)
#: How far the copy has come; where it is, the database is a copy of ours.
STATE = relations.copy_state.name
#: Rows that are replaced one by one → what tells them apart.
KEYED = {
    relations.lots.name: ("lot_id",),
    relations.accounts.name: ("account_id",),
    relations.users.name: ("user_id",),
    relations.cycles.name: ("account_id", "cycle_no"),
}
#: Replaced as a whole, in one step.
WHOLE = tuple(
    table.name for table in relations.metadata.sorted_tables if table.name not in (*KEYED, relations.facts.name, STATE)
)
#: So many batches stay readable for statements that began with one of them.
_KEPT_BATCHES = 1_000


class Site(NamedTuple):
    """Where the tables stand. ``cluster`` None: on one server."""

    database: str
    cluster: str | None = None

    @property
    def name(self) -> str:
        """The database's name, quoted."""
        return _name(self.database)

    @property
    def everywhere(self) -> str:
        """What makes a definition hold on every server."""
        return "" if self.cluster is None else f" ON CLUSTER {_name(self.cluster)}"

    @property
    def local_facts(self) -> str:
        """The table that holds a server's own part of ``facts``."""
        return "facts" if self.cluster is None else "facts_local"

    def table(self, name: str) -> str:
        """Qualified name."""
        return f"{_name(self.database)}.{_name(name)}"


def create_statements(site: Site, zone: str) -> list[str]:
    """Every ``CREATE TABLE``, first the one that tells a database of ours; ``zone`` is the reporting zone, already checked."""
    made = [_create(site, STATE, _state_columns(), _state_engine(site))]
    made.append(_create(site, site.local_facts, _facts_columns(zone), _facts_engine(site)))
    if site.cluster is not None:
        where = f"{_text(site.cluster)}, {_text(site.database)}, {_text(site.local_facts)}"
        made.append(
            f"CREATE TABLE IF NOT EXISTS {site.table('facts')}{site.everywhere} AS {site.table(site.local_facts)} "
            f"ENGINE = Distributed({where}, cityHash64(account_id))"
        )
    for name, keys in KEYED.items():
        engine = f"{_family(site, 'ReplacingMergeTree')} ORDER BY ({', '.join(keys)})"
        made.append(_create(site, name, _columns(relations.metadata.tables[name]), engine))
    for name in WHOLE:
        columns = _columns(relations.metadata.tables[name])
        made.append(_create(site, name, columns, f"{_family(site, 'MergeTree')} ORDER BY tuple()"))
        made.append(_create(site, incoming(name), columns, "MergeTree ORDER BY tuple()"))
    return made


def drop_statements(site: Site) -> list[str]:
    """Every ``DROP TABLE``, last the one that tells a database of ours."""
    names = ("facts", site.local_facts, *KEYED, *WHOLE, *map(incoming, WHOLE), STATE)
    return [f"DROP TABLE IF EXISTS {site.table(name)}{site.everywhere} SYNC" for name in dict.fromkeys(names)]


def layout_of(statements: list[str]) -> str:
    """Changes with the tables' definitions: a copy of another layout is made anew."""
    return hashlib.blake2b(";".join(statements).encode(), digest_size=8).hexdigest()


def empty_statement(site: Site, name: str) -> str:
    """What removes every row of a table."""
    return f"TRUNCATE TABLE {site.table(name)}"


def replace_statement(site: Site, name: str) -> str:
    """What puts the rows of :func:`incoming`, which has some, in the place of all rows of a table."""
    return f"ALTER TABLE {site.table(name)} REPLACE PARTITION tuple() FROM {site.table(incoming(name))}"


def forget_statement(site: Site, batch: int) -> str | None:
    """What drops states that no statement can still begin with; nothing for most batches."""
    if batch % _KEPT_BATCHES or batch < 2 * _KEPT_BATCHES:
        return None
    return f"ALTER TABLE {site.table(STATE)} DROP PARTITION {batch // _KEPT_BATCHES - 2}"


def incoming(name: str) -> str:
    """The table that new rows of a table which is replaced as a whole are put into."""
    return f"{name}_incoming"


def visible(site: Site, batch: int) -> str:
    """Setting ``additional_table_filters``: every statement sees the copy as of one batch, whatever is being loaded.

    A filter on a Distributed table goes with the statement to every shard (ClickHouse 22.10 and newer).
    """
    filters = {"facts": f"batch <= {batch}", STATE: f"batch = {batch}"}
    return "{" + ", ".join(f"{_text(f'{site.database}.{name}')}: {_text(kept)}" for name, kept in filters.items()) + "}"


def _create(site: Site, name: str, columns: list[str], engine: str) -> str:
    body = ",\n  ".join(columns)
    return f"CREATE TABLE IF NOT EXISTS {site.table(name)}{site.everywhere} (\n  {body}\n) ENGINE = {engine}"


def _family(site: Site, engine: str, *, sharded: bool = False) -> str:
    """The engine; on a cluster replicated within the shard, or over all servers."""
    if site.cluster is None:
        return engine
    path, replica = (
        ("{shard}/{database}/{table}", "{replica}") if sharded else ("all/{database}/{table}", "{shard}-{replica}")
    )
    return f"Replicated{engine}({_text(f'/clickhouse/tables/{path}')}, {_text(replica)})"


def _facts_engine(site: Site) -> str:
    return (
        f"{_family(site, 'ReplacingMergeTree', sharded=True)} "
        "PARTITION BY toYYYYMM(fromUnixTimestamp64Micro(occurred_at, 'UTC')) ORDER BY (occurred_at, id)"
    )


def _state_engine(site: Site) -> str:
    return f"{_family(site, 'ReplacingMergeTree')} PARTITION BY intDiv(batch, {_KEPT_BATCHES}) ORDER BY batch"


def _facts_columns(zone: str) -> list[str]:
    local = f"toTimeZone(fromUnixTimestamp64Micro(occurred_at, 'UTC'), {_text(zone)})"
    days = {"day": f"toDate32({local})", "hour": f"toHour({local})", "dow": f"toDayOfWeek({local})"}
    columns = [
        f"{_name(column.name)} {_TYPES[type(column.type)]} DEFAULT {days[column.name]}"
        if column.name in days
        else f"{_name(column.name)} {_type(column, dictionary=column.name not in _MANY_VALUED)}"
        for column in relations.facts.columns
    ]
    return [*columns, "batch Int64"]


def _state_columns() -> list[str]:
    """What tells how far the copy has come, and its extent with a batch."""
    extent = ("first_us Nullable(Int64)", "last_us Nullable(Int64)", "entries Int64")
    return ["batch Int64", *_columns(relations.copy_state), *extent]


def _columns(table: Table) -> list[str]:
    return [f"{_name(column.name)} {_type(column)}" for column in table.columns]


def _type(column: Column[Any], *, dictionary: bool = False) -> str:
    kind = _TYPES[type(column.type)]
    if not _always_known(column):
        kind = f"Nullable({kind})"
    return f"LowCardinality({kind})" if dictionary and isinstance(column.type, Text) else kind


def _always_known(column: Column[Any]) -> bool:
    """Whether it is a copy of a ledger's column that may not be empty."""
    name = schema.ledger_entries.name if column.table is relations.facts else column.table.name
    source = schema.metadata.tables.get(name)
    return source is not None and column.name in source.c and not source.c[column.name].nullable


def _name(name: str) -> str:
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def _text(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
