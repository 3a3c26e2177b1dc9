"""Which policies govern a DVIPA: the own ones, else those of the former distributor (P6)."""

from __future__ import annotations

from collections.abc import Iterator

from dvipad.address import Address
from dvipad.config.model import Policy
from dvipad.core.context import Context
from dvipad.core.policy import concerns, is_open, is_timed

Rules = tuple[Policy, ...]


class Policies:
    """Policies of this node, and those that it inherits with a DVIPA.

    They travel as the whole list in which they stand: the policies of a DVIPA are those of it that
    concern it.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._inherited: dict[Address, Rules] = {}

    def own(self, dvipa: Address) -> Rules:
        """The own list, if something in it is about `dvipa`."""
        own = self._context.policies
        return own if any(concerns(policy, dvipa) for policy in own) else ()

    def effective(self, dvipa: Address) -> Rules:
        """The list that governs `dvipa`."""
        return self.own(dvipa) or self._inherited.get(dvipa, ())

    def open(self, dvipa: Address) -> Rules:
        """The policies for `dvipa` that apply at this minute, in their order."""
        minute = self._context.minute
        return tuple(
            policy
            for policy in self.effective(dvipa)
            if concerns(policy, dvipa) and is_open(policy, minute)
        )

    def heard(self, dvipa: Address, rules: Rules) -> bool:
        """The distributor of `dvipa` does it by `rules`; returns whether that is news."""
        news = rules != self._inherited.get(dvipa, ())
        if rules:
            self._inherited[dvipa] = rules
        else:
            self._inherited.pop(dvipa, None)
        return news

    def changed(self, policies: Rules) -> None:
        """The own policies are these from now on; what they leave is not inherited instead."""
        before = [dvipa for dvipa in self._inherited if self.own(dvipa)]
        self._context.policies = policies
        for dvipa in before:
            if not self.own(dvipa):
                del self._inherited[dvipa]

    def minute_came(self, minute: int) -> None:
        """It is this minute of the week."""
        self._context.minute = minute
        lists = (self._context.policies, *self._inherited.values())
        if any(is_timed(policy) for rules in lists for policy in rules):
            self._context.touched.everything()

    def all(self) -> Iterator[tuple[str, Policy]]:
        """Every policy that this node knows: "own" or the DVIPA that it came with, and itself."""
        yield from (("own", policy) for policy in self._context.policies)
        told: set[Policy] = set()
        for dvipa, rules in self._inherited.items():
            for policy in rules:
                if policy not in told and not self.own(dvipa):
                    told.add(policy)
                    yield str(dvipa), policy
