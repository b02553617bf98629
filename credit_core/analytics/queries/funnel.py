"""The way from guest to repeat buyer: who came in the period and how far they got, and what welcome credits did."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd
from sqlalchemy import and_, func, or_, select

from credit_core.analytics import measures, relations
from credit_core.analytics.filters import Filters
from credit_core.analytics.sync import Facts
from credit_core.units import to_us

STEPS = ("guests", "signed_up", "welcome_spent", "first_pack", "repeat")


class Welcome(NamedTuple):
    """Welcome credits granted in the period, and what those users spent of welcome credits up to its end."""

    users: int
    spenders: int
    granted_uc: int
    spent_uc: int

    @property
    def spent_share(self) -> float:
        """Spent ÷ granted; 0 of nothing."""
        return self.spent_uc / self.granted_uc if self.granted_uc else 0.0


def welcome(facts: Facts, filters: Filters) -> Welcome:
    """What became of the welcome credits granted in the period."""
    f = relations.facts.c
    end = f.occurred_at < to_us(filters.period.end)
    gift = (f.lot_kind == "welcome") & end & relations.in_dimensions(relations.facts, filters)
    granted = measures.total(measures.moved_uc("grant", 1))(f)
    per_user = (
        select(
            f.account_id,
            granted.label("granted_uc"),
            measures.total(measures.spent_uc)(f).label("spent_uc"),
            func.min(f.occurred_at).filter(f.kind == "grant").label("granted_at"),
        )
        .where(gift)
        .group_by(f.account_id)
        .subquery("per_user")
    )
    u = per_user.c
    spent = measures.total(lambda _: u.spent_uc)(u)
    statement = select(
        func.count(), func.count().filter(u.spent_uc > 0), measures.total(lambda _: u.granted_uc)(u), spent
    ).where(u.granted_at >= to_us(filters.period.start))
    return Welcome(*(int(number) for number in facts.rows(statement)[0]))


def funnel(facts: Facts, filters: Filters) -> pd.DataFrame:
    """Those who came in the period, and how far they got by its end: step (of :data:`STEPS`), users, before.

    Guests are all guests, whichever plans are kept: they have none yet.

    ``before`` are the users of the step before; those who signed up were not all guests (:func:`from_guests`).
    """
    came = _comers(facts, filters)
    guests, signed = came[came["guest"]], came[~came["guest"]]
    counts = [len(guests), len(signed), *(int(signed[name].sum()) for name in STEPS[2:])]
    before = [None, None, *counts[1:-1]]
    return pd.DataFrame({"step": STEPS, "users": counts, "before": pd.array(before, dtype="Int64")})


def from_guests(facts: Facts, filters: Filters) -> int:
    """How many of those who signed up in the period had been guests before."""
    came = _comers(facts, filters)
    return int(came.loc[~came["guest"], "linked"].sum())


def cohorts(facts: Facts, filters: Filters) -> pd.DataFrame:
    """By week of sign-up (its Monday): week, signed_up, from_guests, welcome_spent, first_pack, repeat."""
    came = _comers(facts, filters)
    signed = came[~came["guest"]]
    days = signed["created_at"].dt.tz_localize(None).dt.normalize()
    weeks = days - pd.to_timedelta(days.dt.day_of_week, unit="D")
    grouped = signed.assign(week=weeks, signed_up=1).groupby("week", as_index=False)
    frame = grouped[["signed_up", "linked", *STEPS[2:]]].sum().rename(columns={"linked": "from_guests"})
    return frame.astype(dict.fromkeys(frame.columns[1:], "int64"))


def _comers(facts: Facts, filters: Filters) -> pd.DataFrame:
    """Users who came in the period: created_at, guest, linked (had been a guest), welcome_spent, first_pack, repeat."""
    f, u, a = relations.facts.c, relations.users.c, relations.accounts.c
    start, end = to_us(filters.period.start), to_us(filters.period.end)
    did = (
        select(
            f.user_id,
            func.sum(measures.spent_uc(f)).filter(f.lot_kind == "welcome").label("spent_uc"),
            func.count().filter(measures.sold(f)).label("packs"),
        )
        .where(f.occurred_at < end, f.user_id.in_(select(u.user_id).where(u.created_at >= start, u.created_at < end)))
        .group_by(f.user_id)
        .subquery("did")
    )
    # Guests have no plan yet, and the one they are kept under counts in a unit of its own.
    anyone = filters.narrowed(plans=(), policies=(), unit=None, within=None)
    kept = or_(
        relations.of_accounts(relations.accounts, filters),
        and_(a.kind == "guest", relations.of_accounts(relations.accounts, anyone)),
    )
    statement = (
        select(u.created_at, a.kind, u.guest_session, did.c.spent_uc, did.c.packs)
        .select_from(
            relations.users.join(relations.accounts, a.account_id == u.account_id).outerjoin(
                did, did.c.user_id == u.user_id
            )
        )
        .where(u.created_at >= start, u.created_at < end, kept)
        .order_by(u.created_at, u.user_id)
    )
    found = facts.frame(statement)
    bought = found["packs"].fillna(0)
    return found.assign(
        guest=found["kind"] == "guest",
        linked=found["guest_session"].notna(),
        welcome_spent=found["spent_uc"].fillna(0) > 0,
        first_pack=bought > 0,
        repeat=bought > 1,
    )
