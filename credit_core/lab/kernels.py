"""The closed loop of one account after the other: every event in the order it was recorded, every decision taken anew.

Plain functions over scalars and arrays, which :mod:`credit_core.lab.compiling` makes machine code of; interpreted they do
the same. A decision is :func:`credit_core.policy.decision.evaluate` itself, which runs live too.
"""

from __future__ import annotations

from credit_core import units
from credit_core.lab import holding, tables
from credit_core.lab.tables import NEVER, Governing, Records, Work
from credit_core.policy import controller, decision, guardrails, limits, surplus

#: How surely a surplus of days is "ahead" for the target on idle library answers (SPEC 6).
AHEAD_DAYS = 3.0
_NO_ANSWER, _FRESH, _LIBRARY = 0, 1, 2


def replay(
    first: int, last: int, event_from: Records, lot_from: Records, events: Records, lots: Records,
    g: Governing, w: Work, out: Records, days: Records, told: Records, telling: bool,
) -> None:  # fmt: skip
    """Replay accounts ``first`` up to ``last``. ``event_from`` and ``lot_from`` bound each one's rows.

    Adds to ``out`` [account]; ``days`` [account, day] tells of each day's end; with ``telling`` every decision goes to
    ``told`` [event].
    """
    for account in range(first, last):
        begin, end = event_from[account], event_from[account + 1]
        own = lots[lot_from[account] : lot_from[account + 1]]
        _reset(own, w, end - begin)
        mine, o = events[begin:end], out[account]
        for i in range(end - begin):
            e = mine[i]
            if w.state[0].pool + w.state[0].active + 2 >= len(w.parts):
                w = _grown(w)
            _advance(mine, own, g, w, o, days[account], e.at, e.kind == tables.CLOSE)
            if e.kind == tables.OPEN:
                _request(i, mine, own, g, w, o)
                if telling:
                    _tell(told, begin + i, w)
            elif e.kind == tables.CHILD:
                if w.asked[e.ref].deferred:
                    w.asked[e.ref].deferred = False
                    _claim(i, i, e.at, e.cycle_days, e.days_left, mine, own, g, w, o)
                    if telling:
                        _tell(told, begin + i, w)
            elif e.kind == tables.END:
                if w.asked[e.ref].hold == holding.OPEN and w.asked[e.ref].by_log:
                    _end(e.ref, e.amount_uc if e.end_kind == tables.SETTLED else 0, e.at, own, g, w, o)
            else:
                _happen(e, own, g, w, o)
        _advance(mine, own, g, w, o, days[account], g.end_us, False)
        _finish(w, g, o)


def _reset(lots: Records, w: Work, events: int) -> None:
    s = w.state[0]
    s.avail = s.paced = s.quota = s.start = s.demand = s.largest = s.plan = s.config = s.active = s.pool = s.waiting = (
        s.day
    ) = 0
    s.end, s.dry_from, s.dry_days = NEVER, NEVER, 0.0
    s.mode, s.carry, s.monthly = controller.STEADY, -1, -1
    s.paused = s.begun = s.own_ends = False
    s.cycle_fresh = s.cycle_budget = 0
    for i in range(events):
        asked = w.asked[i]
        asked.hold, asked.answer, asked.refunded = holding.NONE, _NO_ANSWER, 0
        asked.by_log = asked.deferred = False
    for number in range(len(w.users)):
        user = w.users[number]
        user.last = user.bucket_at = NEVER
        user.bucket = 0.0
        user.images = user.fresh = user.fresh_uc = user.opening_uc = user.celled = 0
    for lot in range(len(lots)):
        row = lots[lot]
        row.avail, row.held, row.expires = 0, 0, row.first_end
        row.made = row.active = False
        if row.expires < NEVER and not row.paced:
            s.own_ends = True


def _grown(w: Work) -> Work:
    """Room for more parts of holds."""
    parts = w.parts.repeat(2)
    parts[: len(w.parts)] = w.parts
    return Work(w.state, w.last, w.active, parts, w.asked, w.waiting, w.users)


def _advance(
    events: Records, lots: Records, g: Governing, w: Work, o: Records, days: Records, until: int, closing: bool
) -> None:
    """Do everything of our own that comes due by ``until``; of a closing, ends at its very instant come after it."""
    s = w.state[0]
    while True:
        day = g.day_ends[s.day] if s.day < len(g.day_ends) else NEVER
        due = w.waiting[0].due if s.waiting > 0 else NEVER
        gone = holding.next_expiry(lots, w) if s.own_ends else NEVER
        if min(day, due, gone) > until:
            return
        # A day's end is told before anything that happens at that instant.
        if day <= due and day <= gone:
            row = days[s.day]
            row.surplus = _surplus_days(w, day)
            row.spent_uc = o.settled_uc + o.imported_uc - o.refunded_uc
            s.day += 1
        elif gone <= due:
            o.expired_uc += holding.expire(lots, w, gone)
        elif closing and due >= until:
            return
        else:
            i, act = w.waiting[0].event, w.waiting[0].act
            holding.drop_first(w)
            e = events[i]
            if act == holding.CLAIM:
                if w.asked[i].deferred and not s.paused:
                    w.asked[i].deferred = False
                    left = min(max((s.end - due) / 1e6 / units.DAY_S, 0.0), (s.end - s.start) / 1e6 / units.DAY_S)
                    _claim(i, i, due, (s.end - s.start) / 1e6 / units.DAY_S, left, events, lots, g, w, o)
            elif w.asked[i].hold == holding.OPEN:
                charged = e.amount_uc
                if act == holding.SWEEP:
                    charged = 0
                elif act == holding.LOGGED_END:
                    charged = min(e.end_uc, e.amount_uc) if e.end_kind == tables.SETTLED else 0
                _end(i, charged, due, lots, g, w, o)


def _surplus_days(w: Work, at: int) -> float:
    """Surplus of the account in days at a day's end; nan where it has no cycle then, or is paused."""
    s = w.state[0]
    if not s.begun or s.paused or s.start >= at or s.end < at or s.quota <= 0:
        return float("nan")
    length, left = (s.end - s.start) / 1e6 / units.DAY_S, (s.end - at) / 1e6 / units.DAY_S
    quota = units.uc_to_credits(s.quota)
    ahead = surplus.surplus(units.uc_to_credits(s.paced), quota, length, left)
    return surplus.surplus_days(ahead, quota, length)


def _end(request: int, charged: int, at: int, lots: Records, g: Governing, w: Work, o: Records) -> None:
    spent = holding.end_hold(lots, w, g, o, request, charged, at)
    if at >= g.start_us:
        o.settled_uc += spent


def _happen(e: Records, lots: Records, g: Governing, w: Work, o: Records) -> None:
    """What comes from outside: cycles, grants, corrections, changes of plan, pauses."""
    s = w.state[0]
    if e.kind == tables.BEGIN or e.kind == tables.CLOSE:
        _cycle(e, lots, g, w, o)
    elif e.kind == tables.GRANT:
        holding.put(lots, w, e.lot, e.amount_uc)
        s.cycle_budget += e.amount_uc
        _granted(e.at, g, w, o)
    elif e.kind == tables.REFUND:
        given = holding.refund(lots, w, g, o, e.ref, e.amount_uc, e.at)
        if e.at >= g.start_us:
            o.refunded_uc += given
    elif e.kind == tables.PLAN:
        s.plan, s.config = e.plan, _config(e, g)
        falls = e.quota_uc <= s.quota
        s.quota = e.quota_uc
        terms = g.rollover[s.config * g.plans + s.plan]
        over = s.paced - units.portion(s.quota, terms.cap, terms.cap_of)
        if falls and over > 0:
            holding.take(lots, w, over, True, -1)
            if e.at >= g.start_us:
                o.expired_uc += over
    elif e.kind == tables.ADJUST:
        if e.amount_uc > 0:
            holding.put(lots, w, e.lot, e.amount_uc)
        else:
            holding.take(lots, w, min(-e.amount_uc, s.avail), False, -1)
    elif e.kind == tables.IMPORT:
        if e.lot >= 0:
            row = lots[e.lot]
            taken = min(row.avail, e.amount_uc)
            row.avail -= taken
            s.avail -= taken
        else:
            taken = min(e.amount_uc, s.avail)
            holding.take(lots, w, taken, False, -1)
        s.demand += e.images * units.MICRO
        if e.at >= g.start_us:
            o.imported_uc += taken
    elif e.kind == tables.PAUSE:
        s.paused, s.paused_at = True, max(e.at, s.start)
    elif e.kind == tables.RESUME:
        holding.move_ends(lots, w, e.end_us, e.at - s.paused_at)
        s.paused, s.end = False, e.end_us


def _config(e: Records, g: Governing) -> int:
    """Which configuration governs an event."""
    return e.config if g.candidate < 0 or e.at < g.start_us else g.candidate


def _cycle(e: Records, lots: Records, g: Governing, w: Work, o: Records) -> None:
    s = w.state[0]
    within = e.at >= g.start_us
    s.config = _config(e, g)
    if e.kind == tables.CLOSE:
        quota, demand, unspent = s.quota, s.demand, s.paced
        closing = holding.close(lots, w, g, s.config, e.burst, e.quota_uc, e.carry)
        if within:
            terms = g.rollover[s.config * g.plans + s.plan]
            o.closings += 1
            o.at_caps += 1.0 if closing.kept_uc >= units.portion(quota, terms.cap - terms.cap_of, terms.cap_of) else 0.0
            o.unspent_uc += unspent
            o.expired_uc += closing.expired_uc
            o.cycle_fresh_uc += s.cycle_fresh
            o.cycle_budget_uc += min(s.cycle_budget, demand)
    s.begun, s.plan, s.quota, s.start, s.end, s.carry = True, e.plan, e.quota_uc, e.begin_us, e.end_us, e.carry
    holding.put(lots, w, e.lot, e.amount_uc)
    s.cycle_fresh, s.cycle_budget = 0, s.paced
    _granted(e.at, g, w, o)


def _granted(at: int, g: Governing, w: Work, o: Records) -> None:
    """A run-out lasts from its first unaffordable decision until the next grant."""
    s = w.state[0]
    if s.dry_from < NEVER:
        span = max(at - s.dry_from, 0) / 1e6 / units.DAY_S
        o.dry_days += span
        o.dry_share += span / s.dry_days
        s.dry_from = NEVER


def _finish(w: Work, g: Governing, o: Records) -> None:
    s = w.state[0]
    _granted(g.end_us, g, w, o)
    o.running_fresh_uc += s.cycle_fresh
    o.running_budget_uc += min(s.cycle_budget, s.demand)


def _request(i: int, events: Records, lots: Records, g: Governing, w: Work, o: Records) -> None:
    """Decide one request, as ``service.generate.authorize_in`` does."""
    e, s = events[i], w.state[0]
    u = w.users[e.user]
    config = _config(e, g)
    s.config = config
    rules = g.rules[config]
    if u.last == NEVER or (e.at - u.last) / 1e6 >= rules.idle_s:
        u.images = u.fresh = u.fresh_uc = u.celled = 0
        u.opening_uc = s.avail
    wait = _wait_s(u, e.at, rules)
    cell_new = g.cells and e.cell >= 0 and not _in_session(u, e.cell)
    law = g.laws[config * g.plans + e.plan]
    v = decision.evaluate(law, _inputs(e, config, law, wait, cell_new, False, e.cycle_days, e.days_left, g, w), e.u01)
    rule, fresh, mode, p = v.rule, v.fresh, v.mode, v.p
    if g.candidate >= 0 and e.at < g.start_us:
        # What came before the window is history: it is taken as it was logged.
        rule, mode, p, fresh = e.rule, e.mode, e.p, e.fresh and e.amount_uc <= s.avail
        o.broken += 1.0 if fresh != e.fresh else 0.0
    within = e.at >= g.start_us
    if within:
        o.requests += 1
    if rule <= guardrails.PAUSED:
        w.asked[i].answer = _NO_ANSWER
        _remember(w, rule, s.mode, False, 0.0)
        if within:
            o.refused += 1
        return
    u.last = e.at if u.last == NEVER else max(e.at, u.last)
    u.images += e.images
    if g.cells and e.cell >= 0:
        _mark(u, e.cell)
    s.mode = mode
    s.demand += e.amount_uc
    s.largest = max(s.largest, e.amount_uc)
    w.asked[i].answer = _FRESH if fresh else _LIBRARY
    _remember(w, rule, mode, fresh, p)
    if within:
        _count(i, events, rule, fresh, p, v.miss, v.surplus_days, w, o)
    if rule == guardrails.UNAFFORDABLE and within and s.dry_from == NEVER:
        s.dry_from, s.dry_days = e.at, e.cycle_days
        o.run_outs += 1
    if fresh:
        u.fresh += 1
        u.fresh_uc += e.amount_uc
        _reserve(i, i, e.at, p, config, events, lots, g, w, o)
    elif rule == guardrails.SESSION_CAP:
        w.asked[i].deferred = True
        if e.rule != guardrails.SESSION_CAP and g.child_us > 0:
            holding.wait(w, e.at + g.child_us, i, holding.CLAIM)


def _inputs(
    e: Records, config: int, law: Records, wait: float, cell_new: bool, deferred: bool, cycle_days: float, days_left: float,
    g: Governing, w: Work,
) -> decision.Inputs:  # fmt: skip
    s, u = w.state[0], w.users[e.user]
    rate = -1.0
    if e.prior >= 0.0:
        rate = controller.demand_rate(e.prior, law.tau0_days, units.uc_to_credits(s.demand), cycle_days - days_left)
    return decision.Inputs(
        e.blocked, wait > 0.0, s.paused, units.uc_to_credits(s.avail), units.uc_to_credits(s.paced), units.uc_to_credits(e.quota_uc),
        cycle_days, days_left, rate, float(u.images) if e.consent else 0.0, u.fresh,
        units.uc_to_credits(u.fresh_uc), units.uc_to_credits(u.opening_uc), s.mode,
        g.segments[config, e.segment], e.conserving, e.coverage, e.health, e.under, units.uc_to_credits(e.amount_uc), cell_new, e.arm_p,
        deferred, units.uc_to_credits(s.largest),
    )  # fmt: skip


def _wait_s(u: Records, at: int, rules: Records) -> float:
    """Seconds until the limits let a user pass; 0 pours into their bucket."""
    if not rules.limits:
        return 0.0
    elapsed = 0.0 if u.bucket_at == NEVER else (at - u.bucket_at) / 1e6
    bucket = limits.leak(u.bucket, elapsed, rules.capacity, rules.leak)
    u.bucket = bucket.level
    u.bucket_at = at if u.bucket_at == NEVER else max(at, u.bucket_at)
    return bucket.retry_after_s


def _in_session(u: Records, cell: int) -> bool:
    # Written out: Numba knows no generators within any().
    for place in range(min(u.celled, tables.SESSION_CELLS)):  # noqa: SIM110
        if u.cells[place] == cell:
            return True
    return False


def _mark(u: Records, cell: int) -> None:
    """Remember a session's newest cells."""
    if not _in_session(u, cell):
        u.cells[u.celled % tables.SESSION_CELLS] = cell
        u.celled += 1


def _count(
    i: int, events: Records, rule: int, fresh: bool, p: float, miss: bool, days: float, w: Work, o: Records
) -> None:
    e = events[i]
    drawn = rule == guardrails.CONTROLLER
    chance = p if drawn else 1.0 if fresh else 0.0
    o.decisions += 1
    o.demand_uc += e.amount_uc
    o.expected_uc += chance * e.amount_uc
    o.misses += 1.0 if miss else 0.0
    o.fresh += 1.0 if fresh else 0.0
    if drawn:
        o.chosen += 1
        o.chosen_expected += chance
        o.chosen_fresh += 1.0 if fresh else 0.0
        if days > AHEAD_DAYS:
            o.ahead += 1
            o.ahead_library += 0.0 if fresh else 1.0
    elif rule == guardrails.UNAFFORDABLE:
        o.unaffordable += 1
    elif rule == guardrails.COVERAGE_MISS:
        o.coverage_miss += 1
    elif rule == guardrails.SESSION_CAP:
        o.session_cap += 1
    else:
        o.at_cap += 1
    before = e.before
    while before >= 0 and w.asked[before].answer == _NO_ANSWER:
        before = events[before].before
    if before >= 0:
        o.neighbours += 1
        o.flips += 1.0 if w.asked[before].answer != w.asked[i].answer else 0.0


def _reserve(
    request: int, facts: int, at: int, p: float, config: int, events: Records, lots: Records, g: Governing, w: Work, o: Records
) -> None:  # fmt: skip
    """Hold the cost of ``request``; ``facts`` is the event that says what was asked for. And when it will end."""
    e, s, rules = events[facts], w.state[0], g.rules[config]
    holding.take(lots, w, e.amount_uc, False, request)
    w.asked[request].hold = holding.OPEN
    s.cycle_fresh += e.amount_uc
    model = e.asked if e.asked >= 0 else rules.premium if p > rules.threshold else rules.economy
    if at >= g.start_us:
        o.fresh_uc += e.amount_uc
        if e.asked < 0:
            o.routed += 1
            o.premium += 1.0 if p > rules.threshold else 0.0
        usd = e.end_usd if e.fresh and e.model == model and e.end_usd >= 0.0 else g.models[model].usd_micro * e.images
        if usd >= 0.0:
            o.usd_micro += usd
        else:
            o.unpriced += 1
    lifetime = rules.ttl_us
    if e.fresh and e.at == at and g.rules[e.config].ttl_us == lifetime:
        w.asked[request].by_log = True
    elif e.fresh and e.at == at and e.end_kind == tables.NO_END:
        holding.wait(w, at + lifetime, request, holding.SWEEP)
    else:
        logged = e.fresh and e.at == at
        lasts = e.end_at - at if logged else g.models[model].latency_us
        if lasts >= lifetime:
            holding.wait(w, at + lifetime, request, holding.SWEEP)
        else:
            holding.wait(w, at + lasts, request, holding.LOGGED_END if logged else holding.SETTLE)


def _claim(
    request: int, facts: int, at: int, cycle_days: float, days_left: float,
    events: Records, lots: Records, g: Governing, w: Work, o: Records,
) -> None:  # fmt: skip
    """The fresh half of a deferred request: rules 1 to 4 again, then fresh; no session counters are touched."""
    e, s = events[facts], w.state[0]
    config = _config(e, g)
    rules = g.rules[config]
    law = g.laws[config * g.plans + e.plan]
    user = w.users[e.user]
    wait = _wait_s(user, at, rules)
    cell_new = g.cells and e.cell >= 0 and not _in_session(user, e.cell)
    v = decision.evaluate(law, _inputs(e, config, law, wait, cell_new, True, cycle_days, days_left, g, w), e.u01)
    _remember(w, v.rule, v.mode, v.fresh, v.p)
    if v.rule > guardrails.PAUSED and v.fresh and e.amount_uc <= s.avail:
        _reserve(request, facts, at, v.p, config, events, lots, g, w, o)


def _remember(w: Work, rule: int, mode: int, fresh: bool, p: float) -> None:
    row = w.last[0]
    row.rule, row.mode, row.fresh, row.asked, row.p = rule, mode, fresh, True, p


def _tell(told: Records, place: int, w: Work) -> None:
    row, last = told[place], w.last[0]
    row.rule, row.mode, row.fresh, row.asked, row.p = last.rule, last.mode, last.fresh, last.asked, last.p
