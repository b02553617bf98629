"""Every error the credit core raises on purpose. Each message ends with what the reader should do next.

::

    CreditError
    ├── InvalidRequest            the call's own arguments are wrong; nothing was written
    │   ├── InvalidAmount
    │   ├── InvalidInstant
    │   └── InvalidSignature      a webhook that does not prove who sent it
    ├── NotFound                  a user, team, request or version that is not there
    ├── Conflict                  the call contradicts what is already recorded
    │   ├── Repeated              the call came again, and asks for something else than the first one
    │   │   ├── RequestMismatch   a request id used before with other content
    │   │   └── EndedBefore       another end of a reserve that has one
    │   ├── AlreadyEnded          nothing is held that could end; EndedBefore is one, too
    │   └── StaleParent           the live configuration changed since the operator looked
    ├── InsufficientCredits       the balance does not cover the call
    ├── InvalidConfig             a configuration or catalogue that does not validate; carries every fault
    ├── InvalidImport             a file that cannot be read as the format it was said to be
    ├── NotAllowed                the actor's role does not permit the call
    ├── WaitingForApproval        asked for, and not live before another person approves it
    ├── Stopped                   long work that its caller called off
    └── LedgerError               the database
        ├── SchemaTooNew          written by a newer release of Titrate
        ├── ReadOnlyLedger        a write through a read-only connection
        └── LedgerUnavailable     could not be reached, or stayed busy through all retries
"""

from __future__ import annotations

from collections.abc import Sequence


class CreditError(Exception):
    """Base of every error that the credit core raises on purpose."""


class InvalidRequest(CreditError, ValueError):
    """The call's own arguments are wrong; nothing was written."""


class InvalidAmount(InvalidRequest):
    """An amount that is not a whole, finite number of micro-units in range."""


class InvalidInstant(InvalidRequest):
    """A naive datetime where an instant is needed."""


class InvalidSignature(InvalidRequest):
    """A webhook whose signature does not prove who sent it, or when; nothing was written."""


class NotFound(CreditError, LookupError):
    """A user, team, request or version that is not there."""


class Conflict(CreditError):
    """The call contradicts what is already recorded; nothing was written."""


class Repeated(Conflict):
    """The call came again under the same key, and asks for something else than the first one."""


class RequestMismatch(Repeated):
    """(user_id, request_id) was used before with other content."""


class AlreadyEnded(Conflict):
    """Nothing is held that could end: the hold was swept, or the request was answered without one."""


class EndedBefore(AlreadyEnded, Repeated):
    """The reserve was ended before, in another way."""


class StaleParent(Conflict):
    """The live configuration is not the one the change was made against."""


class InsufficientCredits(CreditError):
    """The balance does not cover the call; nothing was written."""


class InvalidConfig(CreditError, ValueError):
    """A configuration or catalogue that does not validate. ``faults`` lists all of them, in the order of the schema."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(self.faults))


class InvalidImport(CreditError, ValueError):
    """A file that cannot be read as the format it was said to be."""


class NotAllowed(CreditError, PermissionError):
    """The actor's role does not permit the call."""


class WaitingForApproval(CreditError):
    """A release that is not live before another person approves it; the request was written."""

    def __init__(self, version: int, rollout_id: int) -> None:
        self.version, self.rollout_id = version, rollout_id
        super().__init__(
            f"Version {version} waits for approval by another person; it is not live. They approve it on the releases page, "
            f"or with: python -m credit_core config approve {rollout_id}"
        )


class Stopped(CreditError):
    """Long work that its caller called off before the end."""


class LedgerError(CreditError):
    """The database refused or could not be used."""


class SchemaTooNew(LedgerError):
    """The database was written by a newer release of Titrate."""


class ReadOnlyLedger(LedgerError):
    """A write was tried through a read-only connection."""


class LedgerUnavailable(LedgerError):
    """The database could not be reached, or stayed busy through all retries."""
