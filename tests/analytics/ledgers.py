"""Small ledgers written straight into the schema's tables, and kept as plain rows for a second computation beside the SQL."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, LargeBinary, Table, Text, insert, text, update

from credit_core import settings
from credit_core.analytics import segments, source
from credit_core.analytics.stored import StoredFacts
from credit_core.policy.guardrails import RULES
from credit_core.service import catalog
from credit_core.store import schema
from credit_core.store.columns import Document, Flag, Instant
from credit_core.store.engine import APP_ROLE, open_engine

Row = dict[str, Any]
START = datetime(2025, 3, 1, tzinfo=UTC)
CREDIT = 1_000_000
JUDGED = RULES[4:9]
PLANS = {"free": 20, "basic": 200, "premium": 600}
#: Plans of other policies: credits of a cycle, 0 where there are none.
OTHERS = {"creator_pro": 1500, "creator_free": 0, "prepaid": 0, "daily": 0, "guest": 0}
CATALOG = catalog.read(settings.catalog_folder())
REGIONS = ("eu", "us")
GENRES, MOODS = ("noir", "pop", "folk"), ("calm", "bright")
MODELS = ("dalle-3-hd", "stable-diffusion-xl")


def complete(table: Table, row: Row) -> Row:
    """``row`` with something in every column that may not be empty."""
    blank: Row = {}
    for column in table.columns:
        if column.nullable or column.identity is not None:
            continue
        kind = column.type
        blank[column.name] = (
            b"\x00"
            if isinstance(kind, LargeBinary)
            else "x"
            if isinstance(kind, Text)
            else START
            if isinstance(kind, Instant)
            else {}
            if isinstance(kind, Document)
            else False
            if isinstance(kind, Flag)
            else 0
        )
    return blank | row


@dataclass
class Ledger:
    """A ledger under construction. ``entries`` are its rows, oldest first, as they stand in the database."""

    url: str
    engine: Engine
    entries: list[Row] = field(default_factory=list)
    cycles: list[Row] = field(default_factory=list)
    lots: dict[str, Row] = field(default_factory=dict)
    accounts: dict[str, Row] = field(default_factory=dict)
    _seq: dict[str, int] = field(default_factory=dict)
    _pending: list[Row] = field(default_factory=list)
    _legs: int = 0

    def add(self, table: Table, *rows: Row) -> None:
        """Insert rows of any table."""
        with self.engine.begin() as connection:
            connection.execute(insert(table), [complete(table, row) for row in rows])

    def account(
        self, name: str, plan: str = "basic", region: str = "eu", start: datetime = START, days: int = 30, **more: Any
    ) -> Row:
        """An account called ``name``, its user ``u-name``, its first cycle and a monthly lot ``name-monthly``."""
        quota = (PLANS | OTHERS)[plan] * CREDIT
        row = {
            "account_id": name,
            "kind": "user",
            "plan": plan,
            "region": region,
            "timezone": "UTC",
            "cycle_start_at": start,
            "cycle_end_at": start + timedelta(days=days),
            "quota_uc": quota,
            "mode": "steady",
            "created_at": start,
        } | more
        self.add(schema.accounts, row)
        self.add(
            schema.users,
            {"user_id": f"u-{name}", "account_id": name, "timezone": "UTC", "created_at": start, "session_cells": []},
        )
        self.accounts[name] = row
        self.cycle(name, 0, start, start + timedelta(days=days), quota_uc=quota)
        self.lot(name, "monthly", expires_at=start + timedelta(days=days))
        return row

    def cycle(self, name: str, number: int, start: datetime, end: datetime, **more: Any) -> None:
        """A row of ``cycles``."""
        account = self.accounts[name]
        row = {
            "account_id": name,
            "cycle_no": number,
            "start_at": start,
            "end_at": end,
            "plan": account["plan"],
            "region": account["region"],
            "quota_uc": account["quota_uc"],
            "opening_uc": account["quota_uc"],
            "closed_at": None,
            "kept_uc": None,
            "cap_multiple": None,
        } | more
        self.add(schema.cycles, row)
        self.cycles.append(row)

    def lot(self, name: str, kind: str, **more: Any) -> str:
        """A lot ``name-kind`` of an account; returns its id."""
        lot_id = f"{name}-{kind}"
        if lot_id not in self.lots:
            row = {"lot_id": lot_id, "account_id": name, "kind": kind, "granted_at": START, "expires_at": None} | more
            self.add(schema.lots, row)
            self.lots[lot_id] = row
        return lot_id

    def leg(self, name: str, kind: str, at: datetime, *lines: tuple[str | None, int, int], **facts: Any) -> list[Row]:
        """One leg: (lot_id, d_avail_uc, d_held_uc) per line; facts of the whole leg stand on line 1."""
        self._legs += 1
        account = self.accounts[name]
        every = (
            "user_id",
            "request_id",
            "session_id",
            "plan",
            "region",
            "modality",
            "model",
            "genre",
            "mood",
            "config_version",
            "arm",
            "reason",
        )
        written = []
        for line, (lot_id, d_avail_uc, d_held_uc) in enumerate(lines or ((None, 0, 0),), 1):
            self._seq[name] = self._seq.get(name, 0) + 1
            row: Row = {column.name: None for column in schema.ledger_entries.columns if column.name != "id"}
            row |= (
                {
                    "account_id": name,
                    "user_id": f"u-{name}",
                    "plan": account["plan"],
                    "region": account["region"],
                }
                | {key: value for key, value in facts.items() if line == 1 or key in every}
                | {
                    "seq": self._seq[name],
                    "leg_id": f"leg-{self._legs}",
                    "line": line,
                    "occurred_at": at,
                    "recorded_at": at,
                    "kind": kind,
                    "lot_id": lot_id,
                    "d_avail_uc": d_avail_uc,
                    "d_held_uc": d_held_uc,
                    "prev_hash": b"p",
                    "hash": f"{self.url}-{self._legs}-{line}".encode(),
                }
            )
            self._pending.append(row)
            written.append(row)
        return written

    def grant(self, name: str, at: datetime, credits: int | None = None, kind: str = "monthly") -> None:
        """Credits into a lot; default the account's quota."""
        amount = self.accounts[name]["quota_uc"] if credits is None else credits * CREDIT
        self.leg(name, "grant", at, (self.lot(name, kind), amount, 0))

    def answer(
        self,
        name: str,
        request_id: str,
        at: datetime,
        rule: str = "controller",
        outcome: str | None = "library",
        **facts: Any,
    ) -> list[Row]:
        """The opening leg of a request that reserves nothing."""
        kinds = {
            "session_cap": "defer",
            "rate_limited": "rate_limited",
            "over_limit": "rate_limited",
            "blocked": "rejected",
            "paused": "rejected",
        }
        seen = {
            "rule": rule,
            "outcome": outcome,
            "request_id": request_id,
            "session_id": "s",
            "images": 1,
            "forced": rule != "controller",
            "miss": False,
            "mode": "steady",
            "prior_mode": "steady",
            "modality": "image",
            "config_version": 1,
            "arm": "all",
            "cost_uc": CREDIT,
            "quota_policy": self.policy(name),
        }
        refused = rule == "unaffordable" and outcome is None
        return self.leg(name, "rejected" if refused else kinds.get(rule, "library"), at, **(seen | facts))

    def policy(self, name: str) -> str:
        """Quota policy of an account's plan."""
        return CATALOG.catalog.plan(self.accounts[name]["plan"]).quota_policy

    def reserve(
        self, name: str, request_id: str, at: datetime, *parts: tuple[str, int], rule: str = "controller", **facts: Any
    ) -> list[Row]:
        """The opening leg of a fresh one; ``parts`` are (lot kind, uc), default one credit of the monthly lot."""
        taken = [(self.lot(name, kind), amount) for kind, amount in parts or (("monthly", CREDIT),)]
        seen = {
            "rule": rule,
            "outcome": "fresh",
            "status": "RESERVED",
            "request_id": request_id,
            "session_id": "s",
            "images": 1,
            "forced": rule != "controller",
            "miss": rule == "coverage_miss",
            "mode": "steady",
            "prior_mode": "steady",
            "modality": "image",
            "model": MODELS[1],
            "config_version": 1,
            "arm": "all",
            "cost_uc": sum(amount for _, amount in taken),
            "quota_policy": self.policy(name),
        }
        return self.leg(name, "reserve", at, *((lot, -amount, amount) for lot, amount in taken), **(seen | facts))

    def end(self, reserve: list[Row], kind: str, at: datetime, actual_uc: int | None = None, **facts: Any) -> list[Row]:
        """Settle (``actual_uc`` of it, default all), release or give back as partial."""
        first = reserve[0]
        left = (sum(row["d_held_uc"] for row in reserve) if actual_uc is None else actual_uc) if kind == "settle" else 0
        lines = []
        for row in reserve:
            taken = min(left, row["d_held_uc"])
            left -= taken
            lines.append((row["lot_id"], row["d_held_uc"] - taken, -row["d_held_uc"]))
        copied = (
            "request_id",
            "session_id",
            "plan",
            "region",
            "modality",
            "model",
            "genre",
            "mood",
            "config_version",
            "arm",
            "images",
        )
        return self.leg(first["account_id"], kind, at, *lines, **{key: first[key] for key in copied}, **facts)

    def fresh(
        self,
        name: str,
        request_id: str,
        at: datetime,
        *parts: tuple[str, int],
        took: timedelta = timedelta(seconds=20),
        **facts: Any,
    ) -> None:
        """Reserve and settle."""
        reserved = self.reserve(name, request_id, at, *parts, **facts)
        self.end(reserved, "settle", at + took, cost_usd_micro=80_000, latency_ms=took.total_seconds() * 1_000)

    def write(self) -> Ledger:
        """Write the pending entries in one transaction; ids are given in order."""
        with self.engine.begin() as connection:
            if self._pending:
                connection.execute(insert(schema.ledger_entries), self._pending)
            for row in self._pending:
                connection.execute(
                    update(schema.accounts)
                    .where(schema.accounts.c.account_id == row["account_id"])
                    .values(
                        avail_uc=schema.accounts.c.avail_uc + row["d_avail_uc"],
                        held_uc=schema.accounts.c.held_uc + row["d_held_uc"],
                    )
                )
        for row in self._pending:
            self.entries.append(
                {
                    "id": len(self.entries) + 1,
                    **row,
                    "lot_kind": self.lots[row["lot_id"]]["kind"] if row["lot_id"] else None,
                    "unit_price_usd_micro": self.lots[row["lot_id"]].get("unit_price_usd_micro", 0)
                    if row["lot_id"]
                    else None,
                }
            )
        self._pending.clear()
        return self

    def set_account(self, name: str, **changes: Any) -> None:
        """Change an account's row."""
        with self.engine.begin() as connection:
            connection.execute(update(schema.accounts).where(schema.accounts.c.account_id == name).values(changes))


def make(url: str, reporting_zone: str | None = "UTC") -> Ledger:
    """An empty ledger at ``url``, made by the schema alone."""
    engine = open_engine(url, owner=True)
    schema.metadata.create_all(engine)
    if engine.dialect.name == "postgresql":
        with engine.begin() as connection:
            connection.execute(
                text("ALTER TABLE ledger_entries ADD COLUMN tx xid8 NOT NULL DEFAULT pg_current_xact_id()")
            )
            connection.execute(text("CREATE INDEX ix_ledger_entries_tx_id ON ledger_entries (tx, id)"))
            # The role is the server's: a ledger migrated beside this one may have made it, and the core then takes it.
            if connection.scalar(
                text("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = :role)"), {"role": APP_ROLE}
            ):
                connection.execute(text(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {APP_ROLE}"))
    ledger = Ledger(url, engine)
    ledger.add(schema.catalogs, {"version": 1, "body": CATALOG.body})
    if reporting_zone is not None:
        ledger.add(schema.deployment, {"key": "reporting_zone", "value": reporting_zone})
    return ledger


def busy(ledger: Ledger, seed: int = 7, accounts: int = 8, days: int = 12, requests: int = 220) -> Ledger:
    """Some of everything that a ledger can hold, at random instants."""
    chance = random.Random(seed)
    span = days * 86_400
    names = [f"a{number}" for number in range(accounts)]
    for number, name in enumerate(names):
        ledger.account(name, list(PLANS)[number % 3], REGIONS[number % 2])
        ledger.grant(name, START + timedelta(seconds=chance.random() * 3_600))
        # A price that leaves halves of a micro-dollar to round.
        ledger.lot(name, "bonus", unit_price_usd_micro=136_273)
        ledger.grant(name, START + timedelta(days=1, seconds=number), credits=50 + number, kind="bonus")
        ledger.lot(name, "purchased", unit_price_usd_micro=199_600 + number)
        if number % 2:
            ledger.grant(name, START + timedelta(days=2, seconds=number), credits=25, kind="purchased")
    instants = sorted(chance.random() * span for _ in range(requests))
    for number, offset in enumerate(instants):
        at = START + timedelta(microseconds=round(offset * 1e6))
        _request(ledger, chance, chance.choice(names), f"r-{number}", at)
    for number, name in enumerate(names[:4]):
        at = START + timedelta(days=days - 1, seconds=number)
        ledger.leg(name, "expire", at, (f"{name}-monthly", -(number + 1) * 1_234_567, 0))
        ledger.leg(name, "clamp", at, (f"{name}-bonus", -number * 765_432, 0))
        ledger.leg(
            name,
            "import",
            at,
            (f"{name}-bonus", -(number + 2) * 111_111, 0),
            (f"{name}-monthly", -17, 0),
            request_id=f"imported-{number}",
            model=MODELS[0],
        )
    return ledger.write()


def _request(ledger: Ledger, chance: random.Random, name: str, request_id: str, at: datetime) -> None:
    genre, mood = (chance.choice(GENRES), chance.choice(MOODS)) if chance.random() < 0.9 else (None, None)
    seen = {
        "genre": genre,
        "mood": mood,
        "session_id": f"s{chance.randrange(3)}",
        "mode": chance.choice(("conserve", "steady", "spend")),
        "p": chance.random(),
        "u01": chance.random(),
        "surplus_days": chance.gauss(0, 5),
        "surplus": chance.gauss(0, 40),
        "cycle_days": 30.0,
        "authorize_ms": chance.random() * 9,
        "config_version": 1 if at < START + timedelta(days=6) else 2,
        "arm": chance.choice(("all", "treatment")),
    }
    rule = chance.choice(
        (
            "controller",
            "controller",
            "controller",
            "coverage_miss",
            "session_cap",
            "at_cap",
            "unaffordable",
            "rate_limited",
            "blocked",
        )
    )
    # Drawn from a chance of its own, so that the rest of the ledger stays what it was.
    odd = random.Random(request_id)
    if rule in ("rate_limited", "blocked"):
        rule = "over_limit" if rule == "blocked" and odd.random() < 0.4 else rule
        ledger.answer(name, request_id, at, rule, None, miss=None, forced=None, session_id=seen["session_id"])
        return
    seen["miss"] = genre is not None and (rule == "coverage_miss" or chance.random() < 0.1)
    if rule in ("session_cap", "unaffordable") or (rule == "controller" and chance.random() < 0.5):
        ledger.answer(name, request_id, at, rule, "library", **seen)
        return
    images = chance.randrange(1, 4)
    parts = (
        [("monthly", images * CREDIT)]
        if chance.random() < 0.7
        else [("monthly", 333_333), ("bonus", images * CREDIT - 333_333)]
    )
    reserved = ledger.reserve(
        name, request_id, at, *parts, rule=rule, images=images, model=chance.choice(MODELS),
        anomaly=True if odd.random() < 0.1 else None, **seen,
    )  # fmt: skip
    _ending(ledger, chance, reserved, at + timedelta(seconds=5 + chance.random() * 60))


def _ending(ledger: Ledger, chance: random.Random, reserved: list[Row], at: datetime) -> None:
    way = chance.random()
    name = reserved[0]["account_id"]
    if way < 0.05:
        return
    if way < 0.15:
        ledger.end(reserved, "release", at, reason=chance.choice(("provider_error", "cancelled")), cost_usd_micro=1_000)
    elif way < 0.2:
        ledger.end(reserved, "release", at, reason="swept")
        ledger.leg(
            name,
            "rejected",
            at + timedelta(minutes=1),
            reason="late_settle",
            request_id=reserved[0]["request_id"],
            cost_usd_micro=5_000,
        )
    elif way < 0.25:
        ledger.end(reserved, "partial", at)
    else:
        held = sum(row["d_held_uc"] for row in reserved)
        actual = held if chance.random() < 0.8 else held // 2 + 1
        cost = chance.choice((80_000, 120_000, None))
        settled = ledger.end(
            reserved, "settle", at, actual_uc=actual, cost_usd_micro=cost, latency_ms=chance.lognormvariate(8, 0.6)
        )
        if chance.random() < 0.1:
            back = -(settled[0]["d_avail_uc"] + settled[0]["d_held_uc"])
            kept = (
                "request_id",
                "session_id",
                "plan",
                "region",
                "modality",
                "model",
                "genre",
                "mood",
                "config_version",
                "arm",
            )
            ledger.leg(
                name,
                "refund",
                at + timedelta(hours=2),
                (settled[0]["lot_id"], back, 0),
                **{key: settled[0][key] for key in kept},
            )


#: Accounts of :func:`mixed` beside the titrated ones of :func:`busy`, by plan.
MIXED = ("creator_pro", "creator_free", "prepaid", "daily", "guest")


def mixed(ledger: Ledger, seed: int = 11, requests: int = 160) -> Ledger:
    """:func:`busy`, and accounts of every other policy: what they may do is theirs, and its credits are of other units."""
    chance = random.Random(seed)
    for number, plan in enumerate(MIXED):
        ledger.account(plan, plan, REGIONS[number % 2], kind="guest" if plan == "guest" else "user")
    ledger.grant("creator_pro", START)
    ledger.grant("prepaid", START, credits=50, kind="welcome")
    for number in range(requests):
        at = START + timedelta(microseconds=round(number * 12 * 86_400e6 / requests))
        _other_request(ledger, chance, chance.choice(MIXED), f"o-{number}", at)
    return busy(ledger)


def _other_request(ledger: Ledger, chance: random.Random, name: str, request_id: str, at: datetime) -> None:
    seen = {
        "cycle_days": 30.0,
        "modality": chance.choice(("text", "image", "video")),
        "quota_policy": ledger.policy(name),
    }
    way = chance.random()
    if way < 0.3:
        rule = "unaffordable" if name in ("creator_pro", "creator_free", "prepaid") else "over_limit"
        limit = {"limit_name": "day"} if rule == "over_limit" else {}
        ledger.answer(name, request_id, at, rule, None, **seen, **limit)
        return
    if name in ("daily", "guest", "creator_free"):
        seen |= {"d_count": 1, "limit_name": "day", "model": "stable-diffusion-xl"}
        nothing = (None, 0, 0)
        given = {key: value for key, value in seen.items() if key not in ("d_count", "limit_name")}
        answer = {"rule": "allowed", "outcome": "fresh", "status": "RESERVED", "request_id": request_id, "cost_uc": 0}
        reserved = ledger.leg(name, "reserve", at, nothing, **seen, **answer)
        failed = way > 0.85
        ended = {"reason": "provider_error", "d_count": -1} if failed else {"cost_usd_micro": 80_000, "latency_ms": 4e3}
        kind = "release" if failed else "settle"
        copied = {key: given[key] for key in ("modality",)} | {"request_id": request_id, "model": reserved[0]["model"]}
        ledger.leg(name, kind, at + timedelta(seconds=7), nothing, **copied, **ended)
        return
    lot = "welcome" if name == "prepaid" else "monthly"
    cost = chance.choice((500_000, 2 * CREDIT, 3 * CREDIT))
    ledger.fresh(
        name, request_id, at, (lot, cost), rule="allowed", **seen, d_count=1 if name == "creator_pro" else None
    )


@contextmanager
def in_segments(
    ledger: Ledger, folder: Path, patch: pytest.MonkeyPatch, *, backfill: int, least_closed: int, most_open: int
) -> Iterator[StoredFacts]:
    """The ledger's copy in a folder whose segments close after a few entries."""
    for name, value in {"FEW_ROWS": 10, "CHUNK_ROWS": 40, "_PIECE_ROWS": 20}.items():
        patch.setattr(source, name, value)
    for name, value in {
        "BACKFILL_ROWS": backfill,
        "LEAST_CLOSED_ROWS": least_closed,
        "MOST_OPEN_ROWS": most_open,
    }.items():
        patch.setattr(segments, name, value)
    facts = StoredFacts.at(ledger.url, folder)
    facts.follow()
    yield facts
    facts.close()
