"""The hash chain: no entry can be changed, none taken away unseen where the heads are kept elsewhere (SPEC 2)."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, text

from credit_core import CreditCore
from credit_core.store import chain
from credit_core.store.schema import ledger_entries
from credit_core.store.verify import Head
from tests.invariants.forging import forging
from tests.invariants.screened import on_sqlite, suspects_of
from tests.service.scenes import CREDIT, FRESH_FOR_ALL, NOW, SALTS, ask, entries, make_live


@pytest.fixture
def lived(core: CreditCore) -> Iterator[CreditCore]:
    """Ada with eight entries, some with a cell, a model, a reason and details."""
    make_live(core, FRESH_FOR_ALL)
    core.add_user("ada", "basic", "Asia/Kathmandu", region="eu", segment="high_engagement", at=NOW)
    core.grant("ada", 5 * CREDIT, "bonus", "gift", at=NOW)
    core.library.put("jazz", "calm", 13, at=NOW - timedelta(days=40))
    ask(core, "r-1", genre="jazz", mood="calm", model="dalle-3-hd", text="a blue door")
    core.settle("ada", "r-1", actual_uc=700_000, latency_ms=1_234.5, at=NOW)
    ask(core, "r-2", images=2)
    core.release("ada", "r-2", "provider_error", at=NOW)
    ask(core, "r-3")
    assert core.verify() == []
    return core


def broken(core: CreditCore, heads: list[Head] | None = None) -> list[str]:
    """Evidence of invariant 8, which must be the only one that is broken."""
    found = core.verify(heads or [])
    assert {violation.invariant for violation in found} <= {8}
    lines = [line for violation in found for line in violation.evidence]
    if heads is None and on_sqlite(core):
        suspects = suspects_of(core, rows=2)
        assert suspects == (frozenset(), tuple(sorted({line.rsplit(": ", 1)[0] for line in lines})))
    return lines


def written_by_hand(row: dict[str, Any], previous: bytes, salt: bytes) -> bytes:
    """The hash of an entry, by the words of credit_core.store.chain alone."""
    data = b""
    for column in ledger_entries.columns:
        if column.name in ("id", "details", "prev_hash", "hash"):
            continue
        value = row[column.name]
        if value is None:
            data += b"\xff\xff\xff\xff"
            continue
        if column.type.python_type is float:
            part = struct.pack(">d", float(value))
        elif isinstance(value, datetime):
            part = str(round((value - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))).encode()
        elif isinstance(value, bytes):
            part = value
        else:
            part = str(int(value) if isinstance(value, bool) else value).encode()
        data += len(part).to_bytes(4, "big") + part
    if row["details"] is None:
        data += b"\xff\xff\xff\xff"
    else:
        canonical = json.dumps(row["details"], sort_keys=True, separators=(",", ":"))
        data += hashlib.sha256(salt + canonical.encode()).digest()
    return hashlib.sha256(data + previous).digest()


def test_an_entrys_hash_is_what_the_documentation_says(lived: CreditCore) -> None:
    salt = bytes.fromhex(SALTS["salt_details"])
    previous = bytes(32)
    for row in entries(lived):
        assert bytes(row["prev_hash"]) == previous
        previous = written_by_hand(row, previous, salt)
        assert bytes(row["hash"]) == previous
    assert lived.heads() == [Head("user:ada", 7, previous.hex())]


def test_what_is_longer_than_a_byte_can_count_is_hashed_by_the_same_words(lived: CreditCore) -> None:
    ask(lived, "r-4")
    lived.release("ada", "r-4", "é" * 200, at=NOW)
    row = entries(lived)[-1]
    assert bytes(row["hash"]) == written_by_hand(row, bytes(row["prev_hash"]), bytes.fromhex(SALTS["salt_details"]))
    assert lived.verify() == []


def test_every_column_but_the_row_id_and_the_transaction_is_hashed(lived: CreditCore) -> None:
    assert set(chain.HASHED) == {column.name for column in ledger_entries.columns} - {
        "id",
        "details",
        "prev_hash",
        "hash",
    }


CHANGES = {
    "model": "'other'", "reason": "'because'", "session_id": "'s-9'", "genre": "'rock'", "arm": "'treatment'",
    "u01": "0.5", "p": "0.123456789", "latency_ms": "1234.5000000000002", "cost_usd_micro": "1", "retry_after_s": "0.0",
    "occurred_at": "occurred_at + 1", "images": "9", "actor": "'eve'", "plan": "'premium'", "region": "'us'", "team_id": "''",
}  # fmt: skip


@pytest.mark.parametrize("column", CHANGES)
def test_a_changed_column_is_found(lived: CreditCore, column: str) -> None:
    with forging(lived) as forger:
        forger.run(f"UPDATE ledger_entries SET {column} = {CHANGES[column]} WHERE seq = 4")
    assert broken(lived) == ["user:ada: entry 4 does not match its hash"]


def test_changed_details_are_found(lived: CreditCore) -> None:
    assert entries(lived)[2]["details"] == {"asked_model": "dalle-3-hd"}
    with forging(lived) as forger:
        forger.change(entries(lived)[2], details={"asked_model": "another"})
    assert broken(lived) == ["user:ada: entry 3 does not match its hash"]


def test_a_value_moved_to_the_next_column_is_found(lived: CreditCore) -> None:
    with forging(lived) as forger:
        forger.run("UPDATE ledger_entries SET genre = mood, mood = genre WHERE seq = 3")
    assert broken(lived) == ["user:ada: entry 3 does not match its hash"]


def test_an_entry_hashed_anew_breaks_the_next_one(lived: CreditCore) -> None:
    row = entries(lived)[3]
    with forging(lived) as forger:
        forged = row | {"model": "other"}
        own = chain.entry_hash(forged, bytes(row["prev_hash"]), bytes.fromhex(SALTS["salt_details"]))
        forger.change(row, model="other", hash=own)
    assert broken(lived) == ["user:ada: entry 5 does not match its hash"]


def test_a_newest_entry_hashed_anew_is_not_the_accounts_head(lived: CreditCore) -> None:
    row = entries(lived)[-1]
    with forging(lived) as forger:
        forged = row | {"session_id": "s-9"}
        own = chain.entry_hash(forged, bytes(row["prev_hash"]), bytes.fromhex(SALTS["salt_details"]))
        forger.change(row, session_id="s-9", hash=own)
    assert broken(lived) == ["user:ada: the chain does not end at the account's head"]


def test_without_the_key_of_the_deployment_details_cannot_be_guessed(lived: CreditCore) -> None:
    row = entries(lived)[2]
    assert written_by_hand(row, bytes(row["prev_hash"]), b"") != bytes(row["hash"])


# ------------------------------------------------------------------------------------------------- heads kept elsewhere


def cut_off(core: CreditCore, count: int) -> None:
    """Take the newest answers from the library away, and mend all that would tell."""
    with forging(core) as forger:
        forger.run(f"DELETE FROM ledger_entries WHERE seq > (SELECT max(seq) FROM ledger_entries) - {count}")
        forger.rehash()


def answered(core: CreditCore, *request_ids: str) -> None:
    for request_id in request_ids:
        assert ask(core, request_id, images=1_000).status == "LIBRARY"


def test_a_tail_cut_off_cleanly_is_seen_by_the_heads_alone(lived: CreditCore) -> None:
    answered(lived, "r-4", "r-5")
    kept = lived.heads()
    cut_off(lived, 2)
    assert lived.verify() == []
    assert broken(lived, kept) == ["user:ada: entry 9, kept elsewhere as head, is gone"]


def test_a_tail_cut_off_and_written_anew_is_seen_by_the_heads(lived: CreditCore) -> None:
    answered(lived, "r-4")
    kept = lived.heads()
    cut_off(lived, 1)
    answered(lived, "r-6")
    assert lived.verify() == []
    assert broken(lived, kept) == ["user:ada: entry 8 differs from the head kept elsewhere"]


def test_a_history_rewritten_from_the_start_is_seen_by_the_heads(lived: CreditCore) -> None:
    kept = lived.heads()
    with forging(lived) as forger:
        forger.run("UPDATE ledger_entries SET session_id = 's-9' WHERE seq = 3")
        forger.rehash()
    assert lived.verify() == []
    assert broken(lived, kept) == ["user:ada: entry 7 differs from the head kept elsewhere"]


def test_an_account_that_is_gone_altogether_is_seen_by_the_heads(lived: CreditCore) -> None:
    lived.add_user("bob", "free", at=NOW)
    kept = lived.heads()
    with forging(lived) as forger:
        for table in ("ledger_entries", "cycles", "lots", "users", "accounts"):
            forger.run("DELETE FROM {table} WHERE account_id = 'user:bob'", table=table)
    assert lived.verify() == []
    assert broken(lived, kept) == ["user:bob: entry 1, kept elsewhere as head, is gone"]


def test_older_heads_stay_true_while_the_ledger_grows(lived: CreditCore) -> None:
    kept = lived.heads()
    answered(lived, "r-4", "r-5")
    lived.add_user("bob", "free", at=NOW)
    assert lived.verify(kept) == []
    assert [head.account_id for head in lived.heads()] == ["user:ada", "user:bob"]


def test_a_chain_whose_account_is_gone_does_not_end_anywhere(lived: CreditCore) -> None:
    with forging(lived) as forger:
        forger.connection.execute(text("DELETE FROM accounts"))
        assert forger.connection.execute(select(ledger_entries.c.id)).all()
    assert "user:ada: the chain does not end at the account's head" in [
        line for violation in lived.verify() if violation.invariant == 8 for line in violation.evidence
    ]
