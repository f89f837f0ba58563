"""Who asks, and what they may see."""

from __future__ import annotations

from dataclasses import dataclass

from app.errors import ScopeMissing
from app.keys import Scope


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: a key by its id, or, with None, whoever reaches a service without keys."""

    key_id: str | None
    scopes: frozenset[Scope]

    @property
    def sees_all(self) -> bool:
        """Whether everything is theirs."""
        return Scope.ADMIN in self.scopes

    def owns(self, owner: str | None) -> bool:
        """Tell whether what belongs to `owner` is theirs; what is nobody's is the admins'."""
        return self.sees_all or (owner is not None and owner == self.key_id)

    def may_use(self, owner: str | None) -> bool:
        """Tell whether they may use a model of `owner`; what is nobody's is everybody's."""
        return owner is None or self.owns(owner)

    def check_scopes(self, needed: list[Scope]) -> None:
        """Raise ScopeMissing unless they have every scope of `needed`."""
        if missing := [scope for scope in needed if scope not in self.scopes]:
            raise ScopeMissing(f"the key lacks the scope {', '.join(missing)}", missing)


# The command line, and everybody where no keys are asked for.
OPERATOR = Caller(None, frozenset(Scope))
