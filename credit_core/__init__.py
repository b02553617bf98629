"""Titrate's credit core: an append-only credit ledger, a pacing controller, and the reserve → settle / release saga.

::

    from credit_core import CreditCore, Request

    core = CreditCore.open("sqlite:///data/ledger.db")
    core.add_user("ada", "basic")
    decision = core.authorize(Request("ada", "r-1", "session-1"))
    if decision.fresh:
        core.settle("ada", "r-1", latency_ms=2_300)
"""

from credit_core.errors import CreditError
from credit_core.policy.customer import View
from credit_core.policy.decision import Decision, Request
from credit_core.policy.standing import Asked
from credit_core.service.core import CreditCore
from credit_core.service.offline import Spend
from credit_core.service.premium import AppliedPayment, LimitOverride

__all__ = [
    "AppliedPayment",
    "Asked",
    "CreditCore",
    "CreditError",
    "Decision",
    "LimitOverride",
    "Request",
    "Spend",
    "View",
]
