"""A state machine over the whole ledger: whatever is called in whatever order, every invariant holds after every step.

Time goes forward, by minutes or by weeks; single events come late by up to a day. Beside the ledger runs a model of its
balances (:mod:`tests.invariants.model`), and both must agree to the micro-credit. Two cores act by turns. The rules are in
:mod:`tests.invariants.machine`, a file per subject.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from credit_core import CreditCore
from credit_core.service.core import Library
from credit_core.store import memory
from tests.invariants import machine
from tests.invariants.machine.configuration import Configuration
from tests.invariants.machine.counting import Counting
from tests.invariants.machine.deferred import Deferred
from tests.invariants.machine.looking import Looking
from tests.invariants.machine.passing import Passing
from tests.invariants.machine.paying import Paying
from tests.invariants.machine.standing import Standing
from tests.invariants.machine.together import Together
from tests.invariants.machine.upkeep import Upkeep

#: Public calls that no rule drives yet.
NOT_DRIVEN: set[str] = set()


class LedgerMachine(Passing, Deferred, Counting, Paying, Together, Standing, Upkeep, Configuration, Looking):
    """Calls of the core, each beside what the model says of it."""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever finds that an account has moved trusts their memory again with the next leg; most images are packed."""
    monkeypatch.setattr(memory, "PATIENCE", 0)
    monkeypatch.setattr(memory, "AT_HAND", 1)
    monkeypatch.setattr(memory, "MOST_DOUBT", float("inf"))


def run(new_ledger: Callable[[], str], quick_examples: int) -> None:
    """The profile's number of examples and steps; the quick profile runs ``quick_examples`` of 30 steps."""

    class Bound(LedgerMachine):
        pass

    Bound.new_ledger = staticmethod(new_ledger)
    quick = settings.get_current_profile_name() == "quick"
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Bound,
        settings=settings(max_examples=quick_examples, stateful_step_count=30, phases=[Phase.explicit, Phase.generate])
        if quick
        else settings(),
    )


def test_every_invariant_holds_after_every_step_on_sqlite(sqlite_template: Path, tmp_path: Path) -> None:
    numbers = count()

    def new_ledger() -> str:
        path = tmp_path / f"ledger-{next(numbers)}.db"
        shutil.copy(sqlite_template, path)
        return f"sqlite:///{path}"

    run(new_ledger, 32)


@pytest.mark.postgres
def test_every_invariant_holds_after_every_step_on_postgresql(emptied_postgres: Callable[[], str]) -> None:
    run(emptied_postgres, 8)


def test_every_public_call_is_driven() -> None:
    written = "".join(path.read_text() for path in Path(machine.__path__[0]).glob("*.py"))
    public = {f"core.{name}" for name in vars(CreditCore) if not name.startswith("_") and name.islower()}
    public |= {f"library.{name}" for name in vars(Library) if not name.startswith("_")}
    undriven = {name for name in public if not re.search(rf"\.{re.escape(name)}\b", written)}
    assert undriven - {"core.open", "core.close", "core.deployment"} == NOT_DRIVEN
