"""`CreditCore`: the names of SPEC 8 on one object. Each method is one use case; see the module it calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from credit_core import settings, units
from credit_core.analytics import screening
from credit_core.policy.config import Config
from credit_core.policy.customer import ONE_IMAGE, View
from credit_core.policy.decision import Decision, Request
from credit_core.policy.standing import Asked
from credit_core.service import (
    accounts,
    configure,
    corrections,
    customers,
    cycles,
    deferred,
    ends,
    generate,
    hygiene,
    lifecycle,
    lookup,
    offline,
    premium,
    sweep,
    teams,
)
from credit_core.service import catalog as catalogue
from credit_core.service.corrections import Refunded
from credit_core.service.cycles import Reconciled
from credit_core.service.deployment import Deployment
from credit_core.service.ends import Ended
from credit_core.service.library import Library
from credit_core.service.lookup import Balance, Explanation, Profile
from credit_core.service.offline import Spend, Synced
from credit_core.service.premium import AppliedPayment, LimitOverride
from credit_core.service.sweep import Swept
from credit_core.service.teams import Team
from credit_core.store import configs, migrate, reads
from credit_core.store import verify as invariants
from credit_core.store.ledger import Ledger
from credit_core.store.verify import Check, Head, Violation


class CreditCore:
    """The credit core on one ledger database. Safe to share between threads; one per process."""

    #: What :meth:`verify` checks: number → what holds.
    INVARIANTS = invariants.TITLES

    def __init__(self, deployment: Deployment) -> None:
        """Use :meth:`open`."""
        self.deployment = deployment
        self.library = Library(deployment)

    @classmethod
    def open(
        cls,
        url: str,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        reporting_zone: str | None = None,
        catalog: Path | None = None,
        draw_salt: bytes | None = None,
    ) -> CreditCore:
        """Open the ledger at ``url``, creating or migrating its schema.

        ``url``: ``sqlite:///…`` or ``postgresql://…``. ``clock`` gives the wall clock (aware). ``reporting_zone`` is for a new
        ledger. ``catalog``: folder of TOML files; default ``data/catalog``. ``draw_salt`` makes the draws of a new ledger
        repeatable elsewhere; the default is secret. Raises :class:`SchemaTooNew`,
        :class:`LedgerUnavailable`, :class:`InvalidConfig`.
        """
        migrate.upgrade(url)
        ledger = Ledger(url, clock)
        try:
            return cls._opened(ledger, reporting_zone, catalog, draw_salt)
        except BaseException:
            ledger.close()
            raise

    @classmethod
    def _opened(
        cls, ledger: Ledger, reporting_zone: str | None, catalog: Path | None, draw_salt: bytes | None
    ) -> CreditCore:
        ledger.prepare(reporting_zone, draw_salt)
        body, parsed = catalogue.read(catalog or settings.catalog_folder())
        ledger.write(lambda connection: configs.add_catalog(connection, body, ledger.clock()))
        deployment = Deployment(ledger, parsed)
        configure.ensure_first_version(deployment, ledger.clock())
        return cls(deployment)

    def close(self) -> None:
        """Give back all connections."""
        self.deployment.ledger.close()

    def __enter__(self) -> CreditCore:
        """For ``with CreditCore.open(url) as core``."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    # Users and credits -------------------------------------------------------------------------------------------

    def add_user(
        self,
        user_id: str,
        plan: str,
        timezone: str = "UTC",
        region: str | None = None,
        team_id: str | None = None,
        segment: str | None = None,
        guest_session: str | None = None,
        at: datetime | None = None,
    ) -> Balance:
        """Sign a user up; see :func:`credit_core.service.accounts.add_user`, and with a team :func:`.teams.add_member`."""
        if team_id is not None:
            return teams.add_member(
                self.deployment, _team(team_id), _user(user_id), plan, timezone, region, segment, at
            )
        return accounts.add_user(self.deployment, _user(user_id), plan, timezone, region, segment, guest_session, at)

    def add_team(
        self,
        team_id: str,
        plan: str,
        mode: str,
        timezone: str = "UTC",
        at: datetime | None = None,
        *,
        region: str | None = None,
    ) -> Team:
        """Set a team up, ``pooled`` or ``apportioned``; see :func:`credit_core.service.teams.add_team`."""
        return teams.add_team(self.deployment, _team(team_id), plan, mode, timezone, region, at)

    def add_members(self, team_id: str, weights: Mapping[str, int], at: datetime | None = None) -> Team:
        """Sign several members up at once; see :func:`credit_core.service.teams.add_members`."""
        return teams.add_members(self.deployment, _team(team_id), weights, at)

    def set_weight(self, user_id: str, weight: int, at: datetime | None = None) -> Team:
        """Change a member's share from the next cycle on; see :func:`credit_core.service.teams.set_weight`."""
        return teams.set_weight(self.deployment, _user(user_id), weight, at)

    def leave_team(self, user_id: str, plan: str, at: datetime | None = None) -> Balance:
        """Take a member out of their team; see :func:`credit_core.service.teams.leave_team`."""
        return teams.leave_team(self.deployment, _user(user_id), plan, at)

    def change_team_plan(self, team_id: str, plan: str, at: datetime | None = None) -> Team:
        """Move a team to another plan; see :func:`credit_core.service.teams.change_team_plan`."""
        return teams.change_team_plan(self.deployment, _team(team_id), plan, at)

    def pause_team(self, team_id: str, at: datetime | None = None) -> Team:
        """Freeze a pool's cycle; see :func:`credit_core.service.teams.pause_team`."""
        return teams.pause_team(self.deployment, _team(team_id), at)

    def resume_team(self, team_id: str, at: datetime | None = None) -> Team:
        """End a pool's pause; see :func:`credit_core.service.teams.resume_team`."""
        return teams.resume_team(self.deployment, _team(team_id), at)

    def team(self, team_id: str) -> Team:
        """A team and its members; see :func:`credit_core.service.teams.team`."""
        return teams.team(self.deployment, _team(team_id))

    def grant(
        self,
        user_id: str,
        amount_uc: int,
        lot_kind: str,
        key: str,
        expires_at: datetime | None = None,
        unit_price_usd_micro: int = 0,
        at: datetime | None = None,
    ) -> Balance:
        """Grant credits; see :func:`credit_core.service.accounts.grant`."""
        return accounts.grant(
            self.deployment, _user(user_id), amount_uc, lot_kind, key, expires_at, unit_price_usd_micro, at
        )

    def adjust(
        self, user_id: str, amount_uc: int, key: str, actor: str, reason: str, at: datetime | None = None
    ) -> Balance:
        """Add or take credits by hand; see :func:`credit_core.service.corrections.adjust`."""
        return corrections.adjust(self.deployment, _user(user_id), amount_uc, key, actor, reason, at)

    def refund(
        self,
        user_id: str,
        request_id: str,
        amount_uc: int,
        key: str,
        actor: str,
        reason: str,
        at: datetime | None = None,
    ) -> Refunded:
        """Give back part of a charge; see :func:`credit_core.service.corrections.refund`."""
        return corrections.refund(
            self.deployment, _user(user_id), _request(request_id), amount_uc, key, actor, reason, at
        )

    def purchase(self, user_id: str, pack: str, key: str, at: datetime | None = None) -> Balance:
        """Grant a pack that was paid for; see :func:`credit_core.service.corrections.purchase`."""
        return corrections.purchase(self.deployment, _user(user_id), pack, key, at)

    def payment_webhook(
        self,
        provider: str,
        payload: bytes,
        headers: Mapping[str, str],
        secret: str | None,
        at: datetime | None = None,
    ) -> AppliedPayment:
        """Take a payment provider's signed webhook; see :func:`credit_core.service.premium.payment_webhook`."""
        return premium.payment_webhook(self.deployment, provider, payload, headers, secret, at)

    def purchase_callback(self, user_id: str, at: datetime | None = None) -> LimitOverride:
        """Lift a buyer's limits for a while; see :func:`credit_core.service.premium.purchase_callback`."""
        return premium.purchase_callback(self.deployment, _user(user_id), at)

    def change_plan(self, user_id: str, plan: str, at: datetime | None = None) -> Balance:
        """Move a user to another plan; see :func:`credit_core.service.lifecycle.change_plan`."""
        return lifecycle.change_plan(self.deployment, _user(user_id), plan, at)

    def pause(self, user_id: str, at: datetime | None = None) -> Balance:
        """Freeze a user's cycle; see :func:`credit_core.service.lifecycle.pause`."""
        return lifecycle.pause(self.deployment, _user(user_id), at)

    def resume(self, user_id: str, at: datetime | None = None) -> Balance:
        """End a pause; see :func:`credit_core.service.lifecycle.resume`."""
        return lifecycle.resume(self.deployment, _user(user_id), at)

    def balance(self, user_id: str) -> Balance:
        """What the user has; see :func:`credit_core.service.lookup.balance`."""
        return lookup.balance(self.deployment, _user(user_id))

    def profile(self, user_id: str, at: datetime | None = None) -> Profile:
        """A user's terms, cycle and pace; see :func:`credit_core.service.lookup.profile`."""
        return lookup.profile(self.deployment, _user(user_id), at)

    def customer_view(
        self,
        user_id: str,
        at: datetime | None = None,
        *,
        asked: Asked = ONE_IMAGE,
        run_out_chance: float | None = None,
    ) -> View:
        """What the user would see; see :func:`credit_core.service.customers.customer_view`."""
        return customers.customer_view(self.deployment, _user(user_id), at, asked, run_out_chance)

    def history(self, user_id: str, after_seq: int = 0, limit: int = 100) -> list[dict[str, Any]]:
        """A page of the user's entries; see :func:`credit_core.service.lookup.history`."""
        return lookup.history(self.deployment, _user(user_id), after_seq, limit)

    def explain(self, user_id: str, request_id: str) -> Explanation:
        """A decision recomputed; see :func:`credit_core.service.lookup.explain`."""
        return lookup.explain(self.deployment, _user(user_id), _request(request_id))

    # One generation ----------------------------------------------------------------------------------------------

    def authorize(self, request: Request, at: datetime | None = None) -> Decision:
        """Decide and reserve; see :func:`credit_core.service.generate.authorize`."""
        return generate.authorize(self.deployment, request, at)

    def settle(
        self,
        user_id: str,
        request_id: str,
        actual_uc: int | None = None,
        cost_usd_micro: int | None = None,
        latency_ms: float | None = None,
        at: datetime | None = None,
    ) -> Ended:
        """Charge a reserve; see :func:`credit_core.service.ends.settle`. ``cost_usd_micro`` defaults to the catalogue's."""
        return ends.settle(
            self.deployment, _user(user_id), _request(request_id), actual_uc, cost_usd_micro, latency_ms, at
        )

    def release(
        self,
        user_id: str,
        request_id: str,
        reason: str,
        at: datetime | None = None,
        *,
        cost_usd_micro: int | None = None,
    ) -> Ended:
        """Give a reserve back; see :func:`credit_core.service.ends.release`."""
        return ends.release(self.deployment, _user(user_id), _request(request_id), reason, cost_usd_micro, at)

    def partial(
        self, user_id: str, request_id: str, at: datetime | None = None, *, cost_usd_micro: int | None = None
    ) -> Ended:
        """Give a half-finished one back; see :func:`credit_core.service.ends.partial`."""
        return ends.partial(self.deployment, _user(user_id), _request(request_id), cost_usd_micro, at)

    def claim_deferred(self, limit: int = 100, at: datetime | None = None) -> list[Decision]:
        """Reserve for deferred requests and return them; see :func:`credit_core.service.deferred.claim`."""
        return deferred.claim(self.deployment, limit, at)

    def sync(self, user_id: str, spends: Iterable[Spend], at: datetime | None = None) -> Synced:
        """Take spends made offline; see :func:`credit_core.service.offline.sync`."""
        return offline.sync(self.deployment, _user(user_id), spends, at)

    def reward(self, user_id: str, request_id: str, value: float, at: datetime | None = None) -> None:
        """Log how well a served request did; see :func:`credit_core.service.lookup.reward`."""
        lookup.reward(self.deployment, _user(user_id), _request(request_id), value, at)

    def clear_challenge(self, user_id: str) -> None:
        """Let a challenged user on; see :func:`credit_core.service.hygiene.clear_challenge`."""
        hygiene.clear_challenge(self.deployment, _user(user_id))

    def erase(self, user_id: str) -> int:
        """Forget a user's addresses; see :func:`credit_core.service.hygiene.erase`."""
        return hygiene.erase(self.deployment, _user(user_id))

    # Upkeep ------------------------------------------------------------------------------------------------------

    def reconcile(self, at: datetime | None = None) -> Reconciled:
        """Write all closings and expiries due; see :func:`credit_core.service.cycles.reconcile`."""
        return cycles.reconcile(self.deployment, self.deployment.instant(at))

    def sweep(self, at: datetime | None = None) -> Swept:
        """Release holds past their lifetime, drop deferred requests past their end; see :func:`credit_core.service.sweep.sweep`."""
        return sweep.sweep(self.deployment, self.deployment.instant(at))

    def verify(
        self,
        heads: Iterable[Head] = (),
        progress: Callable[[int, str], None] = lambda _number, _title: None,
        record_as: str | None = None,
    ) -> list[Violation]:
        """Check the thirteen invariants; empty means that nothing is wrong. ``record_as`` keeps the result under that actor."""
        started = time.perf_counter()
        ledger = self.deployment.ledger
        with ledger.reading() as connection:
            entries = reads.count_entries(connection)
            salt = ledger.salts["details"]
            suspects = screening.suspected(ledger.url, connection, salt, entries, progress)
            found = invariants.verify(connection, salt, heads, progress, suspects)
        if record_as is not None:
            check = Check(
                checked_at=ledger.clock(),
                entries=entries,
                duration_ms=(time.perf_counter() - started) * 1_000,
                violations={str(violation.invariant): violation.rows for violation in found},
                actor=units.checked_id(record_as, "actor"),
            )
            ledger.write(lambda connection: invariants.record(connection, check))
        return found

    def users(self) -> int:
        """Number of users who signed up; guests are not among them."""
        with self.deployment.ledger.reading() as connection:
            return reads.count_users(connection)

    def weakly_guarded(self) -> bool:
        """True where the database's own role could drop the append-only triggers: see docs/ledger.md, Roles."""
        with self.deployment.ledger.reading() as connection:
            return invariants.guarded_by_triggers_alone(connection)

    def heads(self) -> list[Head]:
        """The newest entry of every account's chain, to be kept elsewhere."""
        with self.deployment.ledger.reading() as connection:
            return invariants.heads(connection)

    # Configuration -----------------------------------------------------------------------------------------------

    def config(self) -> Config:
        """The configuration that is live for everybody outside a treatment arm."""
        with self.deployment.ledger.reading() as connection:
            live = self.deployment.live
            live.refresh(connection, now=True)
            found = live.load(connection, live.rollout.version)
        assert found is not None, "a release names an existing version"
        return found

    def propose(self, changes: Mapping[str, Any], author: str, note: str) -> int:
        """Write a new version; see :func:`credit_core.service.configure.propose`."""
        return configure.propose(self.deployment, changes, author, note)

    def release_version(
        self, version: int, share: float = 1.0, *, author: str, reason: str = "", expected_live: int | None = None
    ) -> int:
        """Make a version live; see :func:`credit_core.service.configure.release_version`."""
        return configure.release_version(
            self.deployment, version, share, author=author, reason=reason, expected_live=expected_live
        )

    def roll_back(self, author: str, reason: str) -> int:
        """Release what was live before; see :func:`credit_core.service.configure.roll_back`."""
        return configure.roll_back(self.deployment, author, reason)


def _user(user_id: str) -> str:
    return units.checked_user(user_id)


def _team(team_id: str) -> str:
    return units.checked_id(team_id, "team_id")


def _request(request_id: str) -> str:
    return units.checked_id(request_id, "request_id")
