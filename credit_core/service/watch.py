"""Watching staged releases: look at the arms, then roll back, pause or ramp (SPEC 5). Any number of processes may do it.

A look reads without a lock. What it asks for is written in one transaction that first sees that nobody acted since; so
of several watchers that saw the same, one acts, and the others find it done.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from credit_core.analytics.queries import arms
from credit_core.analytics.queries.arms import GUARDED, Window
from credit_core.policy.inference import srm_by_stage
from credit_core.policy.rollout import SRM, UNJUDGED, Event, Reading, Step, Verdict, readings, verdict
from credit_core.service import releases, rollouts
from credit_core.service.deployment import Deployment
from credit_core.service.rollouts import Rollout
from credit_core.store import configs
from credit_core.store import rollouts as rows
from credit_core.store.ledger import Connection
from credit_core.store.rollouts import Look

#: Who acts, in releases and events, where no person did.
WATCHER = "titrate watch"
#: What is always looked at, guarded or not: the page shows it.
ALWAYS = ("fresh_rate", "coverage_miss_rate", "run_out_share", "failure_rate", "behind_share", "cost_per_account")


class Watched(NamedTuple):
    """What a watcher did about one staged release, in words."""

    rollout_id: int
    version: int
    act: str
    words: str


def watch(deployment: Deployment, at: datetime | None = None) -> list[Watched]:
    """Look once at every staged release that is live for a share, and do what each look asks for."""
    now = deployment.instant(at)
    with deployment.ledger.reading() as connection:
        live = [each for each in rollouts.everything(connection) if each.standing.status in ("running", "held")]
    return [_watch(deployment, each, now) for each in live]


def look_at(deployment: Deployment, rollout: Rollout, now: datetime) -> Look:
    """Figures of both arms and who was assigned, by what the ledger holds now."""
    plan, started = rollout.plan, rollout.started_at
    assert started is not None, "only what is live is looked at"
    window = Window(rollout.steps_after[0], plan.version, plan.base_version, started)
    wanted = [*dict.fromkeys([*(rail.metric for rail in plan.guardrails), *ALWAYS])]
    titrated = [name for name, one in deployment.catalog.plans.items() if one.quota_policy == "titrated_monthly"]
    with deployment.ledger.reading() as connection:
        figures = arms.figures(connection, window, wanted, titrated, now)
        return Look(now, figures, arms.assigned(connection, window, rollout.steps_after))


def srm(steps: Sequence[Step], assigned: Sequence[tuple[int, int, int]]) -> float | None:
    """Chance of the arms' sizes, over the steps begun so far (SPEC 7); None before anybody was assigned."""
    stages = []
    for step, counts in zip(steps, assigned, strict=False):
        shares = (step.share, step.share, 1.0 - 2.0 * step.share)
        # At a half nobody is outside, and to everybody there are no arms to compare.
        if step.share < 1.0:
            stages.append((counts[:2], shares[:2]) if shares[2] <= 0.0 else (counts, shares))
    return srm_by_stage(stages)


def told(reading: Reading) -> str:
    """A guardrail's reading in a sentence's part: metric, value, bound, n."""
    rail, metric = reading.guardrail, GUARDED[reading.guardrail.metric]
    ours, theirs = reading.figure
    limit = "at most" if rail.side == "at_most" else "at least"
    many = f"n = {ours.n} accounts"
    if reading.value is None:
        return f"{metric.title}: not known yet ({many})"
    if rail.against == "itself":
        return f"{metric.title} {written(metric.format, reading.value)}, {limit} {written(metric.format, rail.bound)} allowed ({many})"
    return (
        f"{metric.title} {written(metric.format, ours.value)} against {written(metric.format, theirs.value)} of control, "
        f"a difference of {written(metric.format, reading.value, difference=True)}, {limit} "
        f"{written(metric.format, rail.bound, difference=True)} allowed ({many}, {theirs.n} in control)"
    )


def written(kind: str, value: float | None, *, difference: bool = False) -> str:
    """A figure in words: 12.3 %, +2.0 points, $0.0123."""
    if value is None:
        return "unknown"
    if kind == "share":
        written = f"{100 * value:+.1f} points" if difference else f"{100 * value:.1f} %"
    else:
        written = f"{value:+.4f}" if difference else f"{value:.4f}"
        written = f"{written[0]}${written[1:]}" if written[0] in "+-" else f"${written}"
    return written.replace("-", "−")


def _watch(deployment: Deployment, seen: Rollout, now: datetime) -> Watched:
    look = look_at(deployment, seen, now)
    plan = seen.plan
    judged = readings(plan.guardrails, look.figures)
    p = srm(plan.steps, look.assigned)
    asked = verdict(seen.standing, plan.steps, judged, p, now)

    def write(connection: Connection) -> Watched:
        configs.one_at_a_time(connection)
        rows.save_look(connection, plan.rollout_id, look)
        found = rollouts.one(connection, plan.rollout_id)
        if (found.events, found.standing) != (seen.events, seen.standing):
            return Watched(plan.rollout_id, plan.version, "nothing", "Somebody else acted meanwhile.")
        return _act(connection, found, asked, p, now)

    return deployment.ledger.write(write)


def _act(connection: Connection, found: Rollout, asked: Verdict, p: float | None, now: datetime) -> Watched:
    plan, state = found.plan, found.standing
    if asked.act == "roll_back":
        reason = "Guardrail breached: " + "; ".join(map(told, asked.breached))
        releases.put_back(connection, plan.base_version, WATCHER, reason, now)
        return Watched(plan.rollout_id, plan.version, "roll_back", reason)
    if asked.act == "hold":
        reason = _paused(asked, p)
        rollouts.add(connection, found, Event("held", now, WATCHER, reason, signals=asked.signals))
        return Watched(plan.rollout_id, plan.version, "hold", reason)
    if asked.act == "ramp" and state.step is not None:
        share = f"{plan.steps[state.step + 1].share:.0%}"
        reason = f"Scheduled step to {share} of accounts" if share != "100%" else "Scheduled step to everybody"
        rollouts.begin_step(connection, found, state.step + 1, WATCHER, reason, now)
        return Watched(plan.rollout_id, plan.version, "ramp", reason)
    words = "On hold." if state.status == "held" else "Within its bounds."
    return Watched(plan.rollout_id, plan.version, "nothing", words)


def _paused(asked: Verdict, p: float | None) -> str:
    if UNJUDGED in asked.signals:
        return "Before everybody gets it: too few accounts to judge " + "; ".join(map(told, asked.breached))
    said = [told(reading) for reading in asked.breached]
    if SRM in asked.signals and p is not None:
        said.append(
            f"the arms are not of the sizes that were drawn (χ² test, p = {p:.2g}): find out why before reading results"
        )
    return "Paused: " + "; ".join(said)
