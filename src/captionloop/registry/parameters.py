"""What can be set about registration: `conf/*/parameters_registration.yml`."""

from pydantic import BaseModel, ConfigDict, Field

from captionloop.registry.gate import GateParameters


class RegistrationParameters(BaseModel):
    """All of `params:registration`.

    Attributes:
        model: which of the trained captioners is the candidate.
        timed_photos: captioned by candidate and champion in turn, to compare their speed.
        gate: how the gate decides.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = "show_attend_tell"
    timed_photos: int = Field(default=20, ge=1)
    gate: GateParameters = GateParameters()
