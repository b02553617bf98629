"""What one generation of a titrated plan asks of the database: the other policies must not slow it down."""

from __future__ import annotations

from itertools import groupby

from sqlalchemy import event

from credit_core import CreditCore
from tests.service.scenes import FRESH_FOR_ALL, NOW, StoppedClock, ask, forget, make_live


def test_a_titrated_authorize_and_settle_take_these_statements_and_no_more(
    sqlite_ledger: str, clock: StoppedClock
) -> None:
    said: list[str] = []
    with CreditCore.open(sqlite_ledger, clock=clock) as core:
        make_live(core, FRESH_FOR_ALL | {"limits.enabled": True})
        core.add_user("ada", "premium", at=NOW)
        ask(core, "warm")
        engine = core.deployment.ledger.engine
        event.listen(engine, "connect", lambda connection, _: connection.set_trace_callback(said.append))
        engine.dispose()
        forget(core)
        ask(core, "r-1")
        authorize, said[:] = told(said), []
        forget(core)
        core.settle("ada", "r-1", at=NOW)
        settle, said[:] = told(said), []
        ask(core, "r-2")
        authorize_known, said[:] = told(said), []
        core.settle("ada", "r-2", at=NOW)
        settle_known = told(said)
    # One select looks at all of it, the entries first in its text.
    assert authorize == [
        "BEGIN", "SELECT ledger_entries", "INSERT ledger_entries", "UPDATE accounts",
        "UPDATE users", "UPDATE lots", "INSERT holds", "COMMIT",
    ]  # fmt: skip
    assert settle == [
        "BEGIN", "SELECT accounts", "SELECT lots", "SELECT ledger_entries", "INSERT ledger_entries",
        "UPDATE accounts", "UPDATE lots", "DELETE holds", "COMMIT",
    ]  # fmt: skip
    assert authorize_known == [
        "BEGIN", "UPDATE accounts", "INSERT ledger_entries", "UPDATE users", "UPDATE lots", "INSERT holds", "COMMIT",
    ]  # fmt: skip
    assert settle_known == [
        "BEGIN", "UPDATE accounts", "INSERT ledger_entries", "UPDATE lots", "DELETE holds", "COMMIT",
    ]  # fmt: skip


def told(statements: list[str]) -> list[str]:
    """Verb and table of each statement, those that set a connection up left out."""
    # A statement that fires triggers is traced once more for each of them.
    once = [statement for statement, _ in groupby(statements) if not statement.startswith("PRAGMA")]
    words = [statement.split() for statement in once]
    return [" ".join(word[:1] + [w for w in word if w in TABLES][:1]) for word in words]


TABLES = {"users", "ledger_entries", "lots", "accounts", "holds", "config_releases", "library_days"}
