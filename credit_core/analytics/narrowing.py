"""Questions that look at few entries, and quantiles: asked of the entries that are kept apart for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from credit_core.analytics import quantiles
from credit_core.analytics.dialect import sql_of
from credit_core.analytics.parsed import Node, conjuncts, normal, reads_only
from credit_core.analytics.quantiles import RANKED, Ranked
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
        self, select: Node, values: Mapping[str, Any], there: frozenset[str], rolled_up: Callable[[Node], bool]
    ) -> bool:
        """Ask the few entries that are kept apart, where the others do not meet the question's own conditions.

        ``there``: the names of those that are. ``rolled_up`` has a ``SELECT`` come from roll-ups, where it can.
        """
        asked = {normal(one, values) for one in conjuncts(select["where_clause"])}
        for subset, conditions in self._subsets:
            if subset.name in there and conditions <= asked and reads_only(select, subset.columns):
                relation = self._relation(f"SELECT * FROM {subset.table}")
                ranked = next((one for one in RANKED if one.subset == subset.name), None)
                if ranked is None or not self._by_rank(select, values, ranked, relation, rolled_up):
                    select["from_table"] = relation
                return True
        return False

    def _by_rank(
        self,
        select: Node,
        values: Mapping[str, Any],
        ranked: Ranked,
        relation: Node,
        rolled_up: Callable[[Node], bool],
    ) -> bool:
        plan = quantiles.plan_of(select, values, ranked)
        if plan is None:
            return False
        step = self._expression(sql_of(ranked.step))
        counted = quantiles.counted(select, plan, step, self._expression("count(*)"))
        if not rolled_up(counted):
            return False
        entries = quantiles.entries(select, plan, ranked, relation)
        ranks = quantiles.sql_of_ranks(self._written(counted), self._written(entries), plan)
        quantiles.over_ranks(select, values, plan, ranked, self._relation(ranks))
        return True

    def _conditions(self, subset: Subset) -> frozenset[str]:
        return frozenset(normal(self._expression(sql_of(one)), {}) for one in subset.conditions)
