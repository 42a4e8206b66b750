"""Which model servers there are behind the gateway, and which version each of them serves.

A balancer lets the gateway ask one of them, not a certain one; but each says who it is in every answer. Asked
every second, by a connection of its own, each is heard of sooner or later; one that is not heard of for a
minute is taken for gone.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from time import monotonic

from captionloop.serving.schemas import CaptionResult, ModelDescription, TrialBody

FORGET_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """The last known state of a model server.

    Attributes:
        server: its name, chosen by chance when its process started.
        version: which one it serves.
        captioned: photos that this version captioned there, since it took over.
        failed: photos that it could not caption there.
        refused_version: a version that it should serve and could not load.
        trial: the version that is tried there beside the champion.
        at: when it said so, by the clock of this process.
    """

    server: str
    version: str
    captioned: int
    failed: int
    refused_version: str | None
    trial: TrialBody | None
    at: float

    @property
    def versions(self) -> set[str]:
        """All that can caption there."""
        return {self.version, self.trial.version} if self.trial and self.trial.ready else {self.version}


class ModelServers:
    """All that were heard of lately."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._servers: dict[str, ServerStatus] = {}

    def record_description(self, description: ModelDescription) -> None:
        """Store the description that a server sent."""
        if description.ready and description.server:
            self._servers[description.server] = ServerStatus(
                description.server, description.version, description.captioned, description.failed,
                description.refused_version, description.trial,
                self._clock(),
            )  # fmt: skip

    def record_result(self, result: CaptionResult) -> None:
        """Note that a server captioned a photo; its counts come with its descriptions."""
        known = self._servers.get(result.server)
        if known is not None and (result.tried or known.version == result.model_version):
            self._servers[result.server] = replace(known, at=self._clock())
        elif not result.tried and result.server and result.model_version:
            self._servers[result.server] = ServerStatus(
                result.server, result.model_version, 0, 0, None, None, self._clock()
            )

    def recent(self) -> list[tuple[ServerStatus, float]]:
        """Each server, and how many seconds ago it was heard of; in the order of their names."""
        now = self._clock()
        self._servers = {
            name: seen for name, seen in self._servers.items() if now - seen.at <= FORGET_SECONDS
        }
        return [(seen, now - seen.at) for _, seen in sorted(self._servers.items())]

    def may_serve(self, version: str) -> bool:
        """Whether any of them serves a version; those from before they said who they are may serve any."""
        known = self.recent()
        return not known or any(version in seen.versions for seen, _ in known)
