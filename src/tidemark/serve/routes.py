"""What can be asked over HTTP? Every route under /v1.

Latest values, rank and average come from the board's view, without a thread or a query; only series
and changes ask the store, in the threads of its readers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute

from tidemark.board import Board, Latest
from tidemark.board.gains import Direction
from tidemark.serve import answers, schema
from tidemark.serve.answers import (
    AveragePoints,
    Change,
    Changes,
    Found,
    Gainer,
    Gainers,
    Influencer,
    Listing,
    Points,
    Stats,
)
from tidemark.serve.asked import (
    Around,
    Format,
    From,
    Limit,
    LivePks,
    Offset,
    Pk,
    Search,
    Suspicious,
    To,
    WantedStep,
    WithStats,
    time_range,
    watched,
)
from tidemark.serve.compression import compressed
from tidemark.serve.figures import Figures
from tidemark.serve.gains import Gains, GainWindow
from tidemark.serve.live import LiveResponse
from tidemark.serve.problems import Problem
from tidemark.serve.readers import Readers
from tidemark.store import changes as since
from tidemark.store.clickhouse import Store
from tidemark.times import rfc3339


@dataclass(frozen=True, slots=True)
class Sources:
    """Where answers come from."""

    board: Board
    store: Store
    figures: Figures
    gains: Gains
    readers: Readers = field(default_factory=Readers)


class PathRoute(APIRoute):
    """A route that is given the texts of its path, as they are, and nothing else.

    FastAPI's way to an answer, which finds and validates parameters of every kind, takes as long again as all the
    rest of it; latest values are what is asked for most.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The endpoint itself."""
        endpoint = self.endpoint

        async def handle(request: Request) -> Response:
            response: Response = await endpoint(**request.path_params)
            return response

        return handle


def router(sources: Sources) -> APIRouter:
    """The routes over these sources."""
    routes = APIRouter(prefix="/v1", default_response_class=Response)
    for add in (_influencers, _leaderboards, _statistics, _streams):
        add(routes, sources)
    return routes


def _influencers(routes: APIRouter, sources: Sources) -> None:
    board, store, population = sources.board, sources.store, sources.board.population

    async def influencer(pk: Pk) -> Response:
        """The latest values, rank and percentile of one influencer."""
        number = watched(pk, population)
        return _json(Influencer.of(_observed(board.view.latest(number), number)))

    routes.add_api_route(
        "/influencers/{pk}",
        influencer,
        responses=schema.json(Influencer, 404, 422),
        route_class_override=PathRoute,
    )

    @routes.get("/influencers/{pk}/series", responses=schema.table(Points, 404, 422, 503))
    async def series(
        request: Request,
        pk: Pk,
        from_: From = None,
        to: To = None,
        step: WantedStep = "auto",
        format: Format = "json",
    ) -> Response:
        """Followers, followings and their ratio over time, in columns ready for a chart."""
        number = watched(pk, population)
        from_s, to_s = time_range(from_, to)

        def read() -> Response:
            found = store.series(number, from_s, to_s, step)
            if not len(found):
                _observed(board.view.latest(number), number)
            return _table(Points.of(number, found), format, f"influencer-{number}")

        return await compressed(request, await sources.readers.run(read))

    @routes.get("/influencers/{pk}/changes", responses=schema.json(Changes, 404, 422, 503))
    async def changes(pk: Pk) -> Response:
        """By how much one influencer changed over an hour, a day and a week, up to its latest observation.

        Compared with is the observation nearest to the beginning of the window or, where there is none, the last
        before: at most 10 minutes before it for an hour, 2 hours for a day, 12 hours for a week.
        """
        number = watched(pk, population)
        latest = _observed(board.view.latest(number), number)
        interval_s = sources.figures.interval_ms / 1_000
        earlier = await sources.readers.run(
            lambda: since.before(store, number, latest.observed_at, interval_s)
        )
        found = [
            Change.of(window.name, latest, before)
            for window, before in zip(since.WINDOWS, earlier, strict=True)
        ]
        return _json(Changes(number, rfc3339(latest.observed_at), found))

    @routes.get("/influencers", responses=schema.json(Found, 422))
    async def search(request: Request, search: Search, limit: Limit = 20) -> Response:
        """Whom a text may mean: by pk or by the beginning of a username."""
        found = board.view.search(search, limit + 1)
        items = [Influencer.of(latest) for latest in found[:limit]]
        return await compressed(request, _json(Found(items, more=len(found) > limit)))


def _leaderboards(routes: APIRouter, sources: Sources) -> None:
    board, population = sources.board, sources.board.population

    @routes.get("/leaderboard", responses=schema.json(Listing, 404, 422))
    async def leaderboard(
        request: Request,
        limit: Limit = 100,
        offset: Offset = 0,
        around: Around = None,
        suspicious: Suspicious = None,
    ) -> Response:
        """The influencers by followers, ties in the order of their pks, all of one moment.

        `rank` is always that among everybody, also where `suspicious` leaves some out.
        """
        view, only = board.view, _only(suspicious)
        # In a thread: the first who asks for a part of the leaderboard of a view puts that together.
        listed = view.listed() if only is None else await asyncio.to_thread(view.listed, only)
        if around is None:
            items = view.leaderboard(limit, offset, only)
        else:
            number = watched(around, population)
            items = view.around(_observed(view.latest(number), number).pk, limit, only) or []
        return await compressed(
            request, _json(Listing(len(listed), [Influencer.of(latest) for latest in items]))
        )

    @routes.get("/leaderboard/gains", responses=schema.json(Gainers, 422, 503))
    async def gains(
        request: Request,
        window: Annotated[GainWindow, Query(description="Since when.")] = "24h",
        direction: Annotated[Direction, Query(description="Gains, or losses first.")] = "up",
        limit: Limit = 20,
        offset: Offset = 0,
        suspicious: Suspicious = None,
    ) -> Response:
        """Who won or lost the most followers, ties in the order of their pks, all of one moment."""
        view, baseline, found = await sources.gains.page(window, direction, limit, offset, _only(suspicious))
        items = zip(view.latest_of(found.indices), found.gains.tolist(), strict=True)
        answer = Gainers(
            window,
            direction,
            None if baseline is None else rfc3339(baseline.taken_at),
            rfc3339(view.as_of_s),
            found.total,
            [Gainer.since(latest, gain) for latest, gain in items],
        )
        return await compressed(request, _json(answer))


def _statistics(routes: APIRouter, sources: Sources) -> None:
    @routes.get("/stats", responses=schema.json(Stats))
    async def stats() -> Response:
        """The average across all influencers, and how well they are watched."""
        return _json(await sources.figures.stats())

    @routes.get("/stats/series", responses=schema.table(AveragePoints, 422, 503))
    async def stats_series(
        request: Request,
        from_: From = None,
        to: To = None,
        step: WantedStep = "auto",
        format: Format = "json",
    ) -> Response:
        """The average across all influencers over time."""
        from_s, to_s = time_range(from_, to)

        def read() -> Response:
            found = sources.store.average_series(from_s, to_s, step)
            return _table(AveragePoints.of(found), format, "average")

        return await compressed(request, await sources.readers.run(read))


def _streams(routes: APIRouter, sources: Sources) -> None:
    population = sources.board.population

    @routes.get("/influencers/{pk}/live", responses=schema.events(422, 503))
    async def influencer_live(pk: Pk) -> Response:
        """One influencer as server-sent events, newest value wins.

        `event: observation` with what `GET /v1/influencers/{pk}` answers as its data: at once, where there is an
        observation, and again with each newer one. `id` is the moment of the view, in Unix milliseconds. A comment
        `: ping` comes after 15 s of silence. The server ends a stream after an hour at most; `retry` says when to
        come again.
        """
        return LiveResponse((watched(pk, population),), stats=False)

    @routes.get("/live", responses=schema.events(422, 503))
    async def several_live(pk: LivePks = None, stats: WithStats = False) -> Response:
        """Several influencers and the statistics in one stream, for pages: browsers open few connections to a server.

        As `GET /v1/influencers/{pk}/live`, and with `stats=true` also `event: stats` with what `GET /v1/stats` answers.
        """
        if not pk and not stats:
            raise Problem(422, "Nothing to tell of", "name influencers with pk=..., or ask for stats=true")
        return LiveResponse(tuple(dict.fromkeys(watched(text, population) for text in pk or ())), stats)


def _json(answer: Any) -> Response:
    return Response(answers.as_json(answer), media_type="application/json")


def _table(answer: Points | AveragePoints, format: str, name: str) -> Response:
    if format == "json":
        return _json(answer)
    file = f'attachment; filename="{name}-{answer.step}.csv"'
    return Response(answers.as_csv(answer), media_type="text/csv", headers={"Content-Disposition": file})


def _only(suspicious: Suspicious) -> bool | None:
    """Whether the suspicious are all that is listed (True) or are left out (False); None: neither."""
    return None if suspicious is None else suspicious == "only"


def _observed(latest: Latest | None, pk: int) -> Latest:
    """Problem 404 for who has not been observed."""
    if latest is None:
        raise Problem(
            404, "Not observed yet", f"influencer {pk} is watched, but the API has not told of it yet"
        )
    return latest
