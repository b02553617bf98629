"""Configuration: versions are proposed, released and rolled back while requests are under way."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import rule

from credit_core.errors import Conflict
from tests.invariants.machine.base import Machine, chances, picks, shares, terms
from tests.invariants.model import Terms


class Configuration(Machine):
    """What operators do."""

    @rule(new=st.none() | terms, chance=chances, share=shares, pick=picks)
    def release_version(self, new: Terms | None, chance: float, share: float, pick: int) -> None:
        """A new version, or one there was."""
        version = 1 + pick % len(self.terms) if new is None else self.proposed(new, chance, share)
        if version == self.released[-1]:
            self.refused(Conflict, lambda: self.core.release_version(version, author="olga"))
        else:
            self.core.release_version(version, author="olga", expected_live=self.released[-1])
            self.released.append(version)
        assert self.core.config().saga.hold_ttl_s == self.live.hold_ttl_s

    @rule()
    def roll_back(self) -> None:
        if len(self.released) == 1:
            self.refused(Conflict, lambda: self.core.roll_back("olga", "worse"))
        else:
            self.released.pop()
            assert self.core.roll_back("olga", "worse") == self.released[-1]
        assert self.core.config().saga.hold_ttl_s == self.live.hold_ttl_s
