"""Titrate's credit core: an append-only credit ledger, a pacing controller, and the reserve → settle / release saga.

::

    from credit_core import CreditCore, Request

    core = CreditCore.open("sqlite:///data/ledger.db")
    core.add_user("ada", "basic")
    decision = core.authorize(Request("ada", "r-1", "session-1"))
    if decision.fresh:
        core.settle("ada", "r-1", latency_ms=2_300)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_MODULES = {
    "AppliedPayment": "service.premium",
    "Asked": "policy.standing",
    "CreditCore": "service.core",
    "CreditError": "errors",
    "Decision": "policy.decision",
    "LimitOverride": "service.premium",
    "Request": "policy.decision",
    "Spend": "service.offline",
    "View": "policy.customer",
}


def __getattr__(name: str) -> Any:
    """Import where a name is first asked for: a process that fills segments needs none of them, and starts in half the time."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
