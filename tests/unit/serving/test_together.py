"""What is found out once for all who ask meanwhile."""

import asyncio

import pytest

from captionloop.serving.gateway.storage import SharedCall


def test_it_is_found_out_once_for_all_who_ask_meanwhile_and_anew_afterwards() -> None:
    begun: list[asyncio.Event] = []

    async def find() -> int:
        begun.append(asyncio.Event())
        await begun[-1].wait()
        return len(begun)

    async def ask() -> None:
        together = SharedCall(find)
        asked = [asyncio.create_task(together.get()) for _ in range(50)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        asked[0].cancel()  # the first of them hangs up, and takes the answer from nobody else
        await asyncio.sleep(0)
        begun[0].set()
        assert await asyncio.gather(*asked[1:]) == [1] * 49
        later = asyncio.create_task(together.get())
        while len(begun) < 2:
            await asyncio.sleep(0)
        begun[1].set()
        assert await later == 2

    asyncio.run(ask())


def test_a_failure_is_told_to_all_and_the_next_ones_ask_again() -> None:
    failing = [True]

    async def find() -> str:
        await asyncio.sleep(0)
        if failing.pop() if failing else False:
            raise OSError("away")
        return "there"

    async def ask() -> None:
        together = SharedCall(find)
        results = await asyncio.gather(together.get(), together.get(), return_exceptions=True)
        assert [type(each) for each in results] == [OSError, OSError]
        assert await together.get() == "there"

    asyncio.run(ask())


@pytest.mark.integration
def test_health_and_metrics_are_found_out_together(client, monkeypatch: pytest.MonkeyPatch) -> None:
    services = client.app.state.services
    assert isinstance(services.database_trouble, SharedCall) and isinstance(services.metrics, SharedCall)
    assert (
        client.get("/readyz").status_code == 200 and b"captionloop_requests" in client.get("/metrics").content
    )
