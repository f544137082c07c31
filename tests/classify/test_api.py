"""Why an API gave no verdict, in words for the log."""

from __future__ import annotations

import pytest

from tests.poll.scripted import CLOSE, GARBAGE, SILENCE, Act, ScriptedApi, status
from tidemark.classify.api import Api, Refused

PK = 1_000_000


async def refusal(url: str, deadline_s: float = 20) -> Refused:
    api = Api(url, deadline_s, deadline_s)
    try:
        with pytest.raises(Refused) as refused:
            await api.details(PK)
        return refused.value
    finally:
        await api.close()


@pytest.mark.parametrize(
    ("act", "reason", "why"),
    [
        (status(503), "status_5xx", "status 503"),
        (status(404), "unknown", "unknown"),
        (CLOSE, "connection", "it closed the connection"),
        (GARBAGE, "framing", "it does not speak HTTP/1.1"),
    ],
)
async def test_an_answer_that_is_none(act: Act, reason: str, why: str) -> None:
    async with ScriptedApi() as api:
        api.script = lambda pk, time: act
        refused = await refusal(api.url)
        assert (refused.reason, refused.why) == (reason, why)
        assert str(refused) == f"the API gave no verdict: {why}"


async def test_no_answer() -> None:
    async with ScriptedApi() as api:
        api.script = lambda pk, time: SILENCE
        refused = await refusal(api.url, 0.1)
        assert (refused.reason, refused.why) == ("timeout", "no answer within the deadline")


async def test_nobody_there() -> None:
    async with ScriptedApi() as api:
        url = api.url
    refused = await refusal(url)
    place = url.removeprefix("http://")
    assert (refused.reason, refused.why) == (
        "connection",
        f"cannot connect to {place}: Connection refused",
    )
    refused = await refusal("http://no-such-host.invalid:80")
    assert refused.reason == "connection"
    assert refused.why.startswith("cannot look up no-such-host.invalid: ")
