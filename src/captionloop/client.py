"""A small client for the service's REST API.

    with CaptionClient("http://127.0.0.1:3000", key="clk_...") as service:
        made = service.caption(Path("dog.jpg"))
        service.rate(made.caption_id, stars=4, correction="a brown dog leaps through deep snow")

Without a key it is one anonymous person for as long as it is open: the service's cookie is kept.
"""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from captionloop.errors import CaptionloopError, without_passwords
from captionloop.serving.gateway.model_client import RetryBudget
from captionloop.serving.schemas import (
    CaptionBody,
    CaptionsPage,
    CaptionWithRating,
    ModelBody,
    ProblemBody,
    RatingBody,
    StatisticsBody,
    UnkeptCaption,
)

Body = TypeVar("Body", bound=BaseModel)
LONGEST_WAIT_SECONDS = 60.0
"""Told to come later than that, the caller is told so instead."""


class ServiceError(CaptionloopError):
    """The service refused a request, or does not answer. `problem` is its own account, where it gave one."""

    def __init__(self, message: str, problem: ProblemBody | None = None) -> None:
        super().__init__(message)
        self.problem = problem


class CaptionClient:
    """A connection to the service.

    Args:
        url: where it is, `http://127.0.0.1:3000`.
        key: an API key; without one, an anonymous person.
        attempts: how often a request is made that is told to come again later (409, 429, 503), at most. All
            requests share a budget for that (`RetryBudget`): a full service is not asked thrice as much.
        transport: for tests.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        attempts: int = 3,
        timeout: float = 60.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(
            base_url=url.rstrip("/"), headers=headers, timeout=timeout, transport=transport
        )
        self._address = without_passwords(url.rstrip("/"))
        self._attempts = attempts
        self._budget = RetryBudget()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connection."""
        self._http.close()

    def caption(self, photo: bytes | Path, *, idempotency_key: str | None = None) -> CaptionBody:
        """Caption a photo, which is kept with its caption.

        With an `idempotency_key`, made up once for each photo, it can be called again if no answer came: it
        makes no second caption.

        Raises:
            ServiceError: it was refused, or the service is away, or keeps nothing.
        """
        response = self._post_photo(photo, {"Idempotency-Key": idempotency_key} if idempotency_key else {})
        if response.status_code == HTTPStatus.OK:
            raise ServiceError(
                f"{self._address} keeps nothing (CAPTIONLOOP_KEEP=false), so this caption cannot be rated: "
                "ask by look()"
            )
        return self._parsed(CaptionBody, response)

    def look(self, photo: bytes | Path, *, version: str | None = None) -> UnkeptCaption:
        """Caption a photo of which nothing is to be kept: the caption cannot be rated.

        With a `version`, by that version of the model or not at all; it then counts as no use of the service.

        Raises:
            ServiceError: it was refused, or the service is away, or no model server serves the version.
        """
        parameters = {"keep": "false"} if version is None else {"keep": "false", "version": version}
        return self._parsed(UnkeptCaption, self._post_photo(photo, {}, **parameters))

    def rate(
        self, caption_id: str, stars: int, *, correction: str | None = None, comment: str | None = None
    ) -> RatingBody:
        """Rate a caption, in place of an earlier rating. Raises `ServiceError`."""
        rating = {"stars": stars, "correction": correction, "comment": comment}
        return self._read(RatingBody, "PUT", f"/v1/captions/{caption_id}/rating", json=rating)

    def read(self, caption_id: str) -> CaptionWithRating:
        """One's own caption, with one's own rating. Raises `ServiceError`."""
        return self._read(CaptionWithRating, "GET", f"/v1/captions/{caption_id}")

    def mine(self) -> Iterator[CaptionWithRating]:
        """One's own captions, with one's own ratings, the newest first. Raises `ServiceError`."""
        page = self._read(CaptionsPage, "GET", "/v1/captions")
        yield from page.captions
        while page.next is not None:
            page = self._read(CaptionsPage, "GET", "/v1/captions", params={"before": page.next})
            yield from page.captions

    def erase_me(self) -> None:
        """Erase all of one's own captions, photos and ratings. Raises `ServiceError`."""
        self._request("DELETE", "/v1/me")

    def erase(self, caption_id: str) -> None:
        """Erase one's own caption, its ratings and its photo. Raises `ServiceError`."""
        self._request("DELETE", f"/v1/captions/{caption_id}")

    def withdraw_rating(self, caption_id: str) -> None:
        """Take one's own rating of a caption back. Raises `ServiceError`."""
        self._request("DELETE", f"/v1/captions/{caption_id}/rating")

    def model(self) -> ModelBody:
        """What is being served. Raises `ServiceError`."""
        return self._read(ModelBody, "GET", "/v1/model")

    def statistics(self, days: int = 30) -> StatisticsBody:
        """Ratings over time and by model version. Raises `ServiceError`."""
        return self._read(StatisticsBody, "GET", "/v1/statistics", params={"days": days})

    def metrics(self) -> str:
        """The service's Prometheus metrics, as text. Raises `ServiceError`."""
        return self._request("GET", "/metrics").text

    def _read(self, kind: type[Body], method: str, path: str, **request: Any) -> Body:
        return self._parsed(kind, self._request(method, path, **request))

    def _post_photo(self, photo: bytes | Path, extra: dict[str, str], **parameters: str) -> httpx.Response:
        data = photo.read_bytes() if isinstance(photo, Path) else photo
        headers = {"Content-Type": "application/octet-stream", **extra}
        return self._request("POST", "/v1/captions", content=data, headers=headers, params=parameters)

    def _parsed(self, kind: type[Body], response: httpx.Response) -> Body:
        try:
            return kind.model_validate_json(response.content)
        except ValidationError as error:
            raise ServiceError(
                f"{self._address} does not answer like a captioning service: check its address"
            ) from error

    def _request(self, method: str, path: str, **request: Any) -> httpx.Response:
        self._budget.earn()
        for attempt in range(1, self._attempts + 1):
            try:
                response = self._http.request(method, path, **request)
            except httpx.HTTPError as error:
                raise ServiceError(
                    f"no captioning service answers at {self._address} ({error}); check its address"
                ) from error
            if response.status_code not in {409, 429, 503} or attempt == self._attempts:
                break
            seconds = _seconds_to_wait(response)
            if seconds > LONGEST_WAIT_SECONDS or not self._budget.spend():
                break
            time.sleep(seconds)
        if response.is_error:
            raise _service_error(response)
        return response


def _seconds_to_wait(response: httpx.Response) -> float:
    """As long as the service says, in seconds or as a date; one is not sooner back than asked."""
    retry_after = response.headers.get("Retry-After", "1").strip()
    if retry_after.isdecimal():
        return float(retry_after)
    try:
        moment = parsedate_to_datetime(retry_after)
    except ValueError:
        return 1.0
    return max(0.0, (moment - datetime.now(UTC)).total_seconds()) if moment.tzinfo else 1.0


def _service_error(response: httpx.Response) -> ServiceError:
    try:
        problem = ProblemBody.model_validate_json(response.content)
    except ValidationError:
        return ServiceError(
            f"{without_passwords(str(response.url))} answered {response.status_code}; check its address"
        )
    return ServiceError(f"{problem.title}: {problem.detail} (request {problem.request_id})", problem)
