"""The HTTP API over a real store and board, without sockets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import httpx
import numpy as np
import pytest
from fastapi import FastAPI

from tidemark.board import Board
from tidemark.messages import Batch, string_array
from tidemark.population import Population
from tidemark.serve import compression
from tidemark.serve.app import create
from tidemark.serve.figures import Figures
from tidemark.serve.gains import Gains
from tidemark.serve.role import Server, listen
from tidemark.serve.routes import Sources
from tidemark.store.clickhouse import Store
from tidemark.store.sink import Sink

POPULATION = Population(1_000, 1_009)
NOW_S = int(time.time()) // 60 * 60 - 600
FOLLOWERS = np.array([100, 300, 300, 200, 5, 5, 5, 5, 0], np.uint32)
"""Of the pks 1000 to 1008; 1009 was never observed."""
FOLLOWINGS = np.array([10, 0, 3, 7, 1, 1, 1, 1, 2], np.uint32)


def batch(at_s: int, more: int = 0) -> Batch:
    pk = np.arange(1_000, 1_009, dtype=np.uint32)
    return Batch(
        tick_id=f"1000-1009@{at_s}",
        pk=pk,
        observed_at_ms=np.full(9, at_s * 1_000 + 250, np.int64),
        follower_count=FOLLOWERS + np.uint32(more),
        following_count=FOLLOWINGS,
        username=string_array([f"influencer-{number}" for number in pk]),
    )


Address = tuple[str, int]
DEADLINE_S = 60


TAKEN = [batch(NOW_S - 60 * minute, more=minute) for minute in (2, 1, 0)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Nobody here writes to it."""
    store = Store.open(f"chdb://{tmp_path_factory.mktemp('routes')}/store")
    for taken in TAKEN:
        at = (taken.observed_at_ms // 1_000).astype(np.uint32)
        store.insert_observations(taken.pk, at, taken.follower_count, taken.following_count)
    store.insert_average(NOW_S, 9, float(FOLLOWERS.mean()))
    yield store
    store.close()


@pytest.fixture
def app(store: Store) -> FastAPI:
    board = Board(POPULATION)
    for taken in TAKEN:
        board.apply(taken)
    board.publish(NOW_S * 1_000)
    board.names.reindex()
    figures = Figures(board, Sink(store, board, POPULATION.first), 60_000)
    return create(Sources(board, store, figures, Gains(board, store, 60)))


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


@pytest.fixture
async def served(app: FastAPI) -> AsyncIterator[Address]:
    """Where it listens, by the server that `tidemark serve` uses."""
    with listen("127.0.0.1", 0) as listener:
        server = Server(app)
        running = asyncio.ensure_future(server.serve(sockets=[listener]))
        yield listener.getsockname()
        server.should_exit = True
        await running


async def test_latest_values_with_rank(client: httpx.AsyncClient) -> None:
    found = (await client.get("/v1/influencers/1002")).json()
    assert found == {
        "pk": 1002,
        "username": "influencer-1002",
        "followerCount": 300,
        "followingCount": 3,
        "followerRatio": 100.0,
        "rank": 1,
        "percentile": 100.0,
        "suspicious": None,
        "suspiciousCheckedAt": None,
        "observedAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(NOW_S)),
    }
    nobody_followed = (await client.get("/v1/influencers/1001")).json()
    assert (nobody_followed["rank"], nobody_followed["followerRatio"]) == (1, None)
    ranks = [(await client.get(f"/v1/influencers/{pk}")).json()["rank"] for pk in range(1_000, 1_009)]
    assert ranks == [4, 1, 1, 3, 5, 5, 5, 5, 9]


@pytest.mark.parametrize(
    ("path", "status", "title"),
    [
        ("/v1/influencers/1009", 404, "Not observed yet"),
        ("/v1/influencers/1009/series", 404, "Not observed yet"),
        ("/v1/influencers/1010", 422, "Not a watched pk"),
        ("/v1/influencers/999", 422, "Not a watched pk"),
        ("/v1/influencers/-1", 422, "Not a watched pk"),
        ("/v1/influencers/1e3", 422, "Not a watched pk"),
        ("/v1/influencers/99999999999999999999", 422, "Not a watched pk"),
        ("/v1/influencers/1000/series?step=2m", 422, "Bad request"),
        ("/v1/influencers/1000/series?from=yesterday", 422, "Not a time"),
        ("/v1/influencers/1000/series?from=5000000000", 422, "Not a time"),
        ("/v1/influencers/1000/series?from=10&to=10", 422, "Not a time range"),
        ("/v1/leaderboard?limit=1001", 422, "Bad request"),
        ("/v1/leaderboard?limit=0", 422, "Bad request"),
        ("/v1/leaderboard/gains?window=7d", 422, "Bad request"),
        ("/v1/leaderboard/gains?direction=sideways", 422, "Bad request"),
        ("/v1/leaderboard/gains?offset=-1", 422, "Bad request"),
        ("/v1/influencers/1009/changes", 404, "Not observed yet"),
        ("/v1/influencers/1010/changes", 422, "Not a watched pk"),
        ("/v1/leaderboard?around=7", 422, "Not a watched pk"),
        ("/v1/leaderboard?around=1009", 404, "Not observed yet"),
        ("/v1/influencers?search=", 422, "Bad request"),
        ("/v1/nothing", 404, "Not Found"),
    ],
)
async def test_what_cannot_be_answered_is_a_problem(
    client: httpx.AsyncClient, path: str, status: int, title: str
) -> None:
    answer = await client.get(path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["status"], problem["title"]) == (status, title)
    assert problem["detail"]


@pytest.mark.parametrize("step", ["auto", "raw", "1m"])
async def test_series_in_columns(client: httpx.AsyncClient, step: str) -> None:
    found = (await client.get(f"/v1/influencers/1003/series?step={step}&from={NOW_S - 600}")).json()
    assert found["time"] == [NOW_S - 120, NOW_S - 60, NOW_S]
    assert found["followerCount"] == [202, 201, 200]
    assert found["followingCount"] == [7, 7, 7]
    assert found["followerRatio"] == [202 / 7, 201 / 7, 200 / 7]
    assert ("followerCountMin" in found) == (step == "1m")


async def test_series_takes_times_in_several_forms(client: httpx.AsyncClient) -> None:
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(NOW_S - 60))
    lower = text.lower() + "z"
    for start in (str(NOW_S - 60), text + "Z", lower, text, text + "%2B00:00", text + "+00:00"):
        found = (await client.get(f"/v1/influencers/1000/series?step=raw&from={start}")).json()
        assert found["time"] == [NOW_S - 60, NOW_S], start
        assert found["from"] == text + "Z"


async def test_fractions_of_seconds_bound_a_series_too(client: httpx.AsyncClient) -> None:
    for start, end, times in (
        (f"{NOW_S - 61}.5", f"{NOW_S}.5", [NOW_S - 60, NOW_S]),
        (f"{NOW_S - 60}.001", f"{NOW_S}.000", []),
    ):
        found = (await client.get(f"/v1/influencers/1000/series?step=raw&from={start}&to={end}")).json()
        assert found["time"] == times, (start, end)


async def test_series_of_an_empty_range_is_empty_for_who_is_known(client: httpx.AsyncClient) -> None:
    found = (await client.get("/v1/influencers/1000/series?from=1000&to=2000")).json()
    assert found["time"] == found["followerRatio"] == []


async def test_series_as_csv(client: httpx.AsyncClient) -> None:
    answer = await client.get(f"/v1/influencers/1001/series?step=raw&format=csv&from={NOW_S}")
    assert answer.headers["content-type"].startswith("text/csv")
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(NOW_S))
    assert answer.text == f"time,followerCount,followingCount,followerRatio\n{at},300,0,\n"


@pytest.mark.parametrize(
    "path",
    ["/", "/healthz", "/metrics", "/v1/stats", "/v1/influencers/1002", "/v1/leaderboard", "/docs"],
)
async def test_head_is_get_without_a_body(served: Address, path: str) -> None:
    reader, writer = await asyncio.open_connection(*served)
    async with asyncio.timeout(DEADLINE_S):
        for method in ("HEAD", "HEAD", "GET"):  # on one connection: a body would be taken for the next answer
            writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"\r\ncontent-length: 0" not in head
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/v1/stats", "GET, HEAD"),
        ("DELETE", "/healthz", "GET, HEAD"),
        ("HEAD", "/v1/live", "GET"),
        ("POST", "/v1/live", "GET"),
    ],
)
async def test_a_method_that_is_not_allowed(
    client: httpx.AsyncClient, method: str, path: str, allow: str
) -> None:
    answer = await client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allow)
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "path", ["/v1/leaderboard", "/v1/leaderboard/gains", "/v1/influencers?search=influencer"]
)
async def test_lists_are_compressed_when_they_are_long(
    client: httpx.AsyncClient, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = await client.get(path, headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    monkeypatch.setattr(compression, "LEAST_BYTES", 1)
    packed = await client.get(path, headers={"accept-encoding": "gzip"})
    assert (packed.headers["content-encoding"], packed.headers["vary"]) == ("gzip", "Accept-Encoding")
    assert packed.json() == plain.json()


async def test_leaderboard(client: httpx.AsyncClient) -> None:
    whole = (await client.get("/v1/leaderboard")).json()
    assert whole["total"] == 9
    assert [item["pk"] for item in whole["items"]] == [1001, 1002, 1003, 1000, 1004, 1005, 1006, 1007, 1008]
    page = (await client.get("/v1/leaderboard?limit=2&offset=3")).json()
    assert page["items"] == whole["items"][3:5]
    around = (await client.get("/v1/leaderboard?around=1000&limit=3")).json()
    assert [item["pk"] for item in around["items"]] == [1003, 1000, 1004]
    assert (await client.get("/v1/leaderboard?offset=100")).json() == {"total": 9, "items": []}


async def test_search(client: httpx.AsyncClient) -> None:
    found = (await client.get("/v1/influencers?search=INFLUENCER-1&limit=3")).json()
    assert [item["pk"] for item in found["items"]] == [1000, 1001, 1002]
    assert [item["pk"] for item in (await client.get("/v1/influencers?search=1004")).json()["items"]] == [
        1004
    ]
    assert (await client.get("/v1/influencers?search=nobody")).json() == {"items": [], "more": False}


async def test_stats(client: httpx.AsyncClient) -> None:
    found = (await client.get("/v1/stats")).json()
    assert found["influencers"] == 10
    assert found["averageFollowerCount"] == FOLLOWERS.mean()
    assert found["coverage"] == 0.9
    assert found["freshnessSeconds"] == {"p50": 0.0, "p99": 0.0, "max": 0.0}
    assert found["suspicious"] == {"suspicious": 0, "notSuspicious": 0, "unknown": 10}


async def test_average_over_time(client: httpx.AsyncClient) -> None:
    found = (await client.get(f"/v1/stats/series?from={NOW_S - 60}&step=1m")).json()
    assert (found["time"], found["averageFollowerCount"]) == ([NOW_S], [pytest.approx(FOLLOWERS.mean())])
    assert found["influencers"] == [9]


async def test_health_readiness_metrics_and_documentation(client: httpx.AsyncClient) -> None:
    assert (await client.get("/healthz")).status_code == 200
    away = await client.get("/readyz")
    assert (away.status_code, away.json()["title"]) == (503, "The log is away")
    assert "tidemark_stored_total" in (await client.get("/metrics")).text
    schema = (await client.get("/openapi.json")).json()
    assert schema["components"]["schemas"]["Influencer"]["properties"]["followerRatio"]
    answers = schema["paths"]["/v1/influencers/{pk}"]["get"]["responses"]
    assert answers["200"]["content"]["application/json"]["schema"]["$ref"].endswith("/Influencer")
    assert (await client.get("/docs")).status_code == 200
