"""A version that is tried beside the champion, and which people it answers.

As a *shadow* it captions a share of the photos once more, and nobody sees its captions. As a *canary* it
answers a share of the people. At most one version is tried at a time. An alias of the registered model,
`shadow` or `canary`, says which; a tag of the version says by which plan. `promotion.py` changes them.

Nothing heavy is imported here: the gateway chooses people with it.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

if TYPE_CHECKING:
    from captionloop.registry.model_version import ModelVersion

Role = Literal["shadow", "canary"]
ROLES: tuple[Role, ...] = ("shadow", "canary")
_BITS = 64


class Plan(BaseModel):
    """How a version is tried. Fixed at the beginning: who looks again and again must not plan anew.

    Attributes:
        role: shadow or canary.
        share: of the photos (shadow) or of the people (canary).
        champion: the version it is tried beside.
        began: when.
        most: photos (shadow) or ratings (canary) after which it ends.
        days: after which it ends.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    role: Role
    share: float = Field(gt=0, le=1)
    champion: int
    began: AwareDatetime
    most: int = Field(gt=0)
    days: float = Field(gt=0)

    def is_over(self, now: datetime) -> bool:
        """Whether its days are."""
        return now >= self.began + timedelta(days=self.days)

    def same_as(self, other: "Plan") -> bool:
        """Whether the other one differs in nothing but its beginning."""
        return self.model_copy(update={"began": other.began}) == other


@dataclass(frozen=True)
class Trial:
    """A version that is tried, and by which plan."""

    version: "ModelVersion"
    plan: Plan
    is_void: bool
    """The champion is another one by now: there is nothing to compare with."""

    def answers(self, rater: str) -> bool:
        """Whether this is a canary, and somebody is among the people that it answers."""
        version = self.version
        return self.plan.role == "canary" and is_chosen(
            rater, version.name, str(version.version), self.plan.share
        )


def current(versions: Sequence["ModelVersion"]) -> Trial | None:
    """The version that is tried at present, as aliases and tags say; None where there is none."""
    champion = next((version.version for version in versions if version.is_champion), None)
    for version in versions:
        for role in ROLES:
            plan = read_plan(version.trial) if role in version.aliases else None
            if plan is not None and plan.role == role:
                return Trial(version, plan, plan.champion != champion)
    return None


def read_plan(tag: str) -> Plan | None:
    """What a version's tag says; None where that is nothing, or no plan."""
    try:
        return Plan.model_validate_json(tag) if tag else None
    except ValidationError:
        return None


def is_chosen(rater: str, name: str, version: str, share: float) -> bool:
    """Whether somebody is among the share of people that this version answers as a canary.

    By a hash, so that every gateway says the same of them each time. Another version gets other people; with
    a larger share it is all that it was and some more.
    """
    digest = hashlib.sha256(f"{name}\n{version}\n{rater}".encode()).digest()
    return int.from_bytes(digest[: _BITS // 8], "big") < int(share * 2**_BITS)


def ratings_needed(share: float, of_half: int = 400) -> int:
    """Ratings that tell as much at this share as `of_half` at one half: 625 at 0.2, 1112 at 0.1."""
    return math.ceil(of_half / (4 * share * (1 - share)) - 1e-9)
