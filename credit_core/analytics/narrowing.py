"""Questions that look at few entries, and quantiles: asked of the entries that are kept apart for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import blake2s
from typing import Any

from credit_core.analytics import quantiles
from credit_core.analytics.asked import Cut, RolledUp
from credit_core.analytics.dialect import sql_of
from credit_core.analytics.parsed import Node, conjuncts, nodes, normal, reads_only
from credit_core.analytics.quantiles import RANKED, Ranked
from credit_core.analytics.stepping import Bound, Ranking
from credit_core.analytics.subsets import SUBSETS, Subset


class Narrower:
    """Rewrites ``SELECT`` over ``facts`` that no roll-up answers.

    ``expression`` and ``relation`` parse SQL of one and of rows in the place of ``facts``; ``written`` is the SQL of a ``SELECT``.
    """

    def __init__(
        self, expression: Callable[[str], Node], relation: Callable[[str], Node], written: Callable[[Node], str]
    ) -> None:
        """Reads the conditions of what is kept apart once."""
        self._expression, self._relation, self._written = expression, relation, written
        self._subsets = [(one, self._conditions(one)) for one in SUBSETS]

    def __call__(
        self,
        select: Node,
        values: Mapping[str, Any],
        there: RolledUp,
        rolled_up: Callable[[Node], bool],
        cuts: dict[str, Cut],
    ) -> bool:
        """Ask the few entries that are kept apart, where the others do not meet the question's own conditions.

        ``rolled_up`` has a ``SELECT`` come from roll-ups, where it can. What has to be made first is put among ``cuts``.
        """
        asked = {normal(one, values) for one in conjuncts(select["where_clause"])}
        for subset, conditions in self._subsets:
            if subset.name in there.subsets and conditions <= asked and reads_only(select, subset.columns):
                ranked = next((one for one in RANKED if one.subset == subset.name), None)
                made = None if ranked is None else self._by_rank(select, values, ranked, subset, there, rolled_up)
                if made is None:
                    select["from_table"] = self._relation(f"SELECT * FROM {subset.table}")
                else:
                    cuts[made.name] = made
                return True
        return False

    def _by_rank(
        self,
        select: Node,
        values: Mapping[str, Any],
        ranked: Ranked,
        subset: Subset,
        there: RolledUp,
        rolled_up: Callable[[Node], bool],
    ) -> Cut | None:
        plan = quantiles.plan_of(select, values, ranked)
        if plan is None:
            return None
        counted = quantiles.counted(select, plan, self._expression(sql_of(ranked.step)), self._expression("count(*)"))
        if not rolled_up(counted):
            return None
        kept = f"steps_{subset.name}"
        rows = f"SELECT * FROM {kept}" + (f" UNION ALL {subset.made_from('facts_new')}" if there.fresh else "")
        entries = quantiles.entries(select, plan, ranked, self._relation(rows))
        ranking = Ranking(
            self._bound(counted, values, lambda counts: quantiles.sql_of_wanted(counts, plan)),
            self._bound(entries, values, lambda own: quantiles.sql_of_ranks(own, plan)),
            kept,
            f"closed_{subset.table}",
            there.closed,
        )
        name = f"ranks_{blake2s(repr(ranking).encode(), digest_size=12).hexdigest()}"
        quantiles.over_ranks(select, values, plan, ranked, self._relation(f"SELECT * FROM {name}"))
        return Cut(name, "", None, None, ranking)

    def _bound(self, select: Node, values: Mapping[str, Any], made: Callable[[str], str]) -> Bound:
        used = sorted({one["identifier"] for one in nodes(select, "PARAMETER")})
        return Bound(made(self._written(select)), tuple((name, values[name]) for name in used))

    def _conditions(self, subset: Subset) -> frozenset[str]:
        return frozenset(normal(self._expression(sql_of(one)), {}) for one in subset.conditions)
