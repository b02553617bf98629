"""Lots, holds and what comes due within one replayed account: the ledger's own rules over arrays, for the kernel.

Scalars and arrays alone, so that it compiles; the closing is :func:`credit_core.policy.cycles.split` itself.
"""

from __future__ import annotations

from credit_core.lab.tables import NEVER, Governing, Records, Work
from credit_core.policy import cycles
from credit_core.units import portion

#: A request's hold: none, open, charged, given back.
NONE, OPEN, CHARGED, RETURNED = range(4)
#: What waits to come due; at one instant in this order.
SWEEP, LOGGED_END, SETTLE, CLAIM = range(4)


def sooner(lots: Records, one: int, other: int) -> bool:
    """Whether ``one`` is spent before ``other``: by end, then kind, then age (SPEC 2)."""
    a, b = lots[one], lots[other]
    return bool(
        a.expires < b.expires or (a.expires == b.expires and (a.rank < b.rank or (a.rank == b.rank and a.tie < b.tie)))
    )


def put(lots: Records, w: Work, lot: int, amount: int) -> None:
    """Add ``amount`` to a lot."""
    s, row = w.state[0], lots[lot]
    row.avail += amount
    s.avail += amount
    if row.paced:
        s.paced += amount
    if not row.active:
        row.made = row.active = True
        w.active[s.active] = lot
        s.active += 1


def forget_empty(lots: Records, w: Work) -> None:
    """Look no longer at lots that hold nothing."""
    s, kept = w.state[0], 0
    for place in range(s.active):
        lot = w.active[place]
        if lots[lot].avail > 0:
            w.active[kept] = lot
            kept += 1
        else:
            lots[lot].active = False
    s.active = kept


def take(lots: Records, w: Work, amount: int, paced_only: bool, remembered: int) -> None:
    """Take ``amount``, which is there, in spending order; the parts are remembered for request ``remembered`` (−1: none)."""
    s = w.state[0]
    if remembered >= 0:
        asked = w.asked[remembered]
        asked.part_from, asked.parts = s.pool, 0
    missing = amount
    while missing > 0:
        best = -1
        for place in range(s.active):
            lot = w.active[place]
            row = lots[lot]
            if row.avail > 0 and (row.paced or not paced_only) and (best < 0 or sooner(lots, lot, best)):
                best = lot
        if best < 0:
            return
        row = lots[best]
        taken = min(row.avail, missing)
        row.avail -= taken
        s.avail -= taken
        if row.paced:
            s.paced -= taken
        missing -= taken
        if remembered >= 0:
            row.held += taken
            part = w.parts[s.pool]
            part.lot, part.uc = best, taken
            s.pool += 1
            w.asked[remembered].parts += 1


def end_hold(lots: Records, w: Work, g: Governing, o: Records, request: int, actual: int, at: int) -> int:
    """Charge ``actual`` of a request's hold and give the rest back to its lots; returns what was charged."""
    asked, missing = w.asked[request], actual
    for place in range(asked.part_from, asked.part_from + asked.parts):
        part = w.parts[place]
        taken = min(part.uc, missing)
        missing -= taken
        lots[part.lot].held -= part.uc
        if part.uc > taken:
            put(lots, w, part.lot, part.uc - taken)
        part.uc = taken
    asked.hold = CHARGED if actual > 0 else RETURNED
    return_to_closed(lots, w, g, o, asked.part_from, asked.parts, at)
    return actual - missing


def refund(lots: Records, w: Work, g: Governing, o: Records, request: int, amount: int, at: int) -> int:
    """Give back ``amount`` of what a request was charged, the last taken first; returns what there was to give back."""
    asked = w.asked[request]
    if asked.hold != CHARGED:
        return 0
    earlier, given = asked.refunded, 0
    for place in range(asked.part_from + asked.parts - 1, asked.part_from - 1, -1):
        part = w.parts[place]
        done = min(part.uc, earlier)
        earlier -= done
        back = min(part.uc - done, amount - given)
        if back > 0:
            put(lots, w, part.lot, back)
            given += back
    asked.refunded += given
    return_to_closed(lots, w, g, o, asked.part_from, asked.parts, at)
    return given


def return_to_closed(lots: Records, w: Work, g: Governing, o: Records, first: int, count: int, at: int) -> None:
    """Credits that came back to closed lots become rollover of the running cycle within c·Q; the excess goes (SPEC 2.1)."""
    s = w.state[0]
    moment, returned, held_back = max(at, s.start), 0, s.paced
    for place in range(first, first + count):
        row = lots[w.parts[place].lot]
        if row.expires <= moment and row.avail > 0:
            returned += row.avail
            if row.paced:
                held_back -= row.avail
    if returned == 0:
        return
    terms = g.rollover[s.config * g.plans + s.plan]
    room = max(0, min(returned, portion(s.quota, terms.cap, terms.cap_of) - held_back))
    for place in range(first, first + count):
        row = lots[w.parts[place].lot]
        if row.expires <= moment and row.avail > 0:
            s.avail -= row.avail
            if row.paced:
                s.paced -= row.avail
            row.avail = 0
    if room > 0:
        if not lots[s.carry].made:
            lots[s.carry].expires = s.end
        put(lots, w, s.carry, room)
    o.expired_uc += returned - room


def expires_alone(lots: Records, w: Work, lot: int) -> bool:
    """True for a lot with an end of its own; those that end with the cycle are the closing's."""
    row = lots[lot]
    return row.avail > 0 and row.expires < NEVER and not (row.paced and row.expires >= w.state[0].end)


def next_expiry(lots: Records, w: Work) -> int:
    """When the next lot expires by itself."""
    s, soonest = w.state[0], NEVER
    if s.own_ends and not s.paused:
        for place in range(s.active):
            lot = w.active[place]
            if expires_alone(lots, w, lot):
                soonest = min(soonest, lots[lot].expires)
    return soonest


def expire(lots: Records, w: Work, at: int) -> int:
    """Empty the lots that have expired by themselves; returns what they held."""
    s, gone = w.state[0], 0
    for place in range(s.active):
        lot = w.active[place]
        row = lots[lot]
        if expires_alone(lots, w, lot) and row.expires <= at:
            gone += row.avail
            s.avail -= row.avail
            if row.paced:
                s.paced -= row.avail
            row.avail = 0
    return gone


def move_ends(lots: Records, w: Work, end: int, shift: int) -> None:
    """A pause is over: lots that end with the cycle end at ``end``, others as much later as the pause took.

    As live, others that hold nothing at that moment keep their end.
    """
    s = w.state[0]
    for lot in range(len(lots)):
        row = lots[lot]
        if row.paced and row.expires == s.end:
            row.expires = end
        elif not row.paced and (row.avail or row.held) and s.paused_at < row.expires < NEVER:
            row.expires += shift


def close(lots: Records, w: Work, g: Governing, config: int, burst: bool, quota: int, carry: int) -> cycles.Closing:
    """Close the running cycle: what is not carried over goes, the rest moves to the lot ``carry`` of the next one."""
    s = w.state[0]
    terms = g.rollover[config * g.plans + s.plan]
    whole = terms.cap_of if burst and g.rules[config].burst else 0
    closing = cycles.split(s.paced, s.quota, portion(s.quota, terms.cap + whole, terms.cap_of), terms.share, terms.of)
    take(lots, w, s.paced, True, -1)
    if closing.carried_uc > 0:
        put(lots, w, carry, closing.carried_uc)
    forget_empty(lots, w)
    s.quota, s.demand, s.largest = quota, 0, 0
    return closing


def wait(w: Work, due: int, event: int, act: int) -> None:
    """Remember what comes due: a binary heap by instant, then :data:`SWEEP` … :data:`CLAIM`."""
    s = w.state[0]
    place = s.waiting
    s.waiting += 1
    while place > 0:
        above = (place - 1) // 2
        if not _before(due, act, w.waiting[above]):
            break
        _move(w, above, place)
        place = above
    _set(w, place, due, event, act)


def drop_first(w: Work) -> None:
    """Forget what came due first."""
    s = w.state[0]
    s.waiting -= 1
    last = w.waiting[s.waiting]
    due, event, act = last.due, last.event, last.act
    place, below = 0, 1
    while below < s.waiting:
        if below + 1 < s.waiting and _before(w.waiting[below + 1].due, w.waiting[below + 1].act, w.waiting[below]):
            below += 1
        if not _before(w.waiting[below].due, w.waiting[below].act, last):
            break
        _move(w, below, place)
        place, below = below, 2 * below + 1
    _set(w, place, due, event, act)


def _before(due: int, act: int, other: Records) -> bool:
    return bool(due < other.due or (due == other.due and act < other.act))


def _move(w: Work, source: int, target: int) -> None:
    row = w.waiting[source]
    _set(w, target, row.due, row.event, row.act)


def _set(w: Work, place: int, due: int, event: int, act: int) -> None:
    row = w.waiting[place]
    row.due, row.event, row.act = due, event, act
