"""What can be asked over HTTP? Every route under /v1.

Latest values, rank and average come from the board's view, without a thread or a query; only series
and changes ask the store, in the threads of its readers.
"""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from tidemark.board import Board, Latest
from tidemark.board.gains import Direction
from tidemark.population import Population
from tidemark.serve import answers
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
)
from tidemark.serve.compression import compressed
from tidemark.serve.figures import Figures
from tidemark.serve.gains import Gains, GainWindow
from tidemark.serve.live import LiveResponse
from tidemark.serve.problems import Problem
from tidemark.serve.readers import Readers
from tidemark.store import changes as since
from tidemark.store.clickhouse import Store

LIMIT_MAX: Final = 1_000
LIVE_PKS_MAX: Final = 10
"""In one stream: an influencer's page has two of them, and nobody makes a stream the size of the board."""
DEFAULT_RANGE_S: Final = 86_400
TIME_MAX_S: Final = 2**32 - 1

Pk = Annotated[str, Path(description="The influencer's pk.", examples=["1000001"])]
From = Annotated[
    str | None, Query(alias="from", description="RFC 3339 or Unix seconds; default: a day before `to`.")
]
To = Annotated[str | None, Query(description="RFC 3339 or Unix seconds, exclusive; default: now.")]
Step = Annotated[
    Literal["auto", "raw", "1m", "1h", "1d"],
    Query(description="auto: the finest that gives at most about 2,000 points."),
]
Format = Annotated[Literal["json", "csv"], Query(description="The form of the answer.")]
Offset = Annotated[int, Query(ge=0, le=2**28, description="How many places to leave out.")]
Suspicious = Annotated[
    Literal["exclude", "only"] | None,
    Query(description="Leave out who is known to be suspicious, or everybody else; ranks stay as they are."),
]
Limit = Annotated[int, Query(ge=1, le=LIMIT_MAX, description="How many at most.")]


@dataclass(frozen=True, slots=True)
class Sources:
    """Where answers come from."""

    board: Board
    store: Store
    figures: Figures
    gains: Gains


def router(sources: Sources) -> APIRouter:
    """The routes over these sources."""
    routes = APIRouter(prefix="/v1")
    board, store, population = sources.board, sources.store, sources.board.population
    readers = Readers()
    references, _ = answers.schemas()

    def answer(kind: type, *others: str) -> dict[int | str, dict[str, Any]]:
        content = {"application/json": {"schema": references[kind]}} | {other: {} for other in others}
        problem: dict[str, Any] = {"application/problem+json": {}}
        return {
            200: {"content": content},
            404: {"description": "Not known, or not observed yet", "content": problem},
            422: {"description": "A bad pk, time, step or limit", "content": problem},
        }

    @routes.get("/influencers/{pk}", responses=answer(Influencer), response_class=Response)
    async def influencer(pk: Pk) -> Response:
        """The latest values, rank and percentile of one influencer."""
        number = _pk(pk, population)
        return _json(Influencer.of(_observed(board.view.latest(number), number)))

    @routes.get("/influencers/{pk}/series", responses=answer(Points, "text/csv"), response_class=Response)
    async def series(
        request: Request,
        pk: Pk,
        from_: From = None,
        to: To = None,
        step: Step = "auto",
        format: Format = "json",
    ) -> Response:
        """Followers, followings and their ratio over time, in columns ready for a chart."""
        number = _pk(pk, population)
        from_s, to_s = _range(from_, to)

        def read() -> Response:
            found = store.series(number, from_s, to_s, step)
            if not len(found):
                _observed(board.view.latest(number), number)
            return _table(Points.of(number, found), format, f"influencer-{number}")

        return await compressed(request, await readers.run(read))

    @routes.get("/influencers/{pk}/changes", responses=answer(Changes), response_class=Response)
    async def changes(pk: Pk) -> Response:
        """By how much one influencer changed over an hour, a day and a week, up to its latest observation.

        Compared with is the last observation at or before the beginning of the window: at most 10 minutes before
        it for an hour, 2 hours for a day, 12 hours for a week.
        """
        number = _pk(pk, population)
        latest = _observed(board.view.latest(number), number)
        earlier = await readers.run(lambda: since.before(store, number, latest.observed_at))
        found = [
            Change.of(window.name, latest, before)
            for window, before in zip(since.WINDOWS, earlier, strict=True)
        ]
        return _json(Changes(number, answers.rfc3339(latest.observed_at), found))

    @routes.get("/influencers", responses=answer(Found), response_class=Response)
    async def search(
        request: Request,
        search: Annotated[
            str, Query(min_length=1, max_length=64, description="A pk or the beginning of a username.")
        ],
        limit: Limit = 20,
    ) -> Response:
        """Whom a text may mean: by pk or by the beginning of a username."""
        found = board.view.search(search, limit + 1)
        items = [Influencer.of(latest) for latest in found[:limit]]
        return await compressed(request, _json(Found(items, more=len(found) > limit)))

    @routes.get("/leaderboard", responses=answer(Listing), response_class=Response)
    async def leaderboard(
        request: Request,
        limit: Limit = 100,
        offset: Offset = 0,
        around: Annotated[
            str | None, Query(description="A pk that is to be in the middle, instead of `offset`.")
        ] = None,
        suspicious: Suspicious = None,
    ) -> Response:
        """The influencers by followers, ties in the order of their pks, all of one moment.

        `rank` is always that among everybody, also where `suspicious` leaves some out.
        """
        view = board.view
        only = None if suspicious is None else suspicious == "only"
        # In a thread: the first who asks for a part of the leaderboard of a view puts that together.
        listed = view.listed() if only is None else await asyncio.to_thread(view.listed, only)
        if around is None:
            items = view.leaderboard(limit, offset, only)
        else:
            number = _pk(around, population)
            items = view.around(_observed(view.latest(number), number).pk, limit, only) or []
        return await compressed(
            request, _json(Listing(len(listed), [Influencer.of(latest) for latest in items]))
        )

    @routes.get("/leaderboard/gains", responses=answer(Gainers), response_class=Response)
    async def gains(
        request: Request,
        window: Annotated[GainWindow, Query(description="Since when.")] = "24h",
        direction: Annotated[Direction, Query(description="Gains, or losses first.")] = "up",
        limit: Limit = 20,
        offset: Offset = 0,
        suspicious: Suspicious = None,
    ) -> Response:
        """Who won or lost the most followers, ties in the order of their pks, all of one moment."""
        only = None if suspicious is None else suspicious == "only"
        view, baseline, found = await sources.gains.page(window, direction, limit, offset, only)
        items = zip(view.latest_of(found.indices), found.gains.tolist(), strict=True)
        answer = Gainers(
            window,
            direction,
            None if baseline is None else answers.rfc3339(baseline.taken_at),
            answers.rfc3339(view.published_at_ms // 1_000),
            found.total,
            [Gainer.since(latest, gain) for latest, gain in items],
        )
        return await compressed(request, _json(answer))

    @routes.get("/stats", responses=answer(answers.Stats), response_class=Response)
    async def stats() -> Response:
        """The average across all influencers, and how well they are watched."""
        return _json(await sources.figures.stats())

    @routes.get("/stats/series", responses=answer(AveragePoints, "text/csv"), response_class=Response)
    async def stats_series(
        request: Request,
        from_: From = None,
        to: To = None,
        step: Step = "auto",
        format: Format = "json",
    ) -> Response:
        """The average across all influencers over time."""
        from_s, to_s = _range(from_, to)

        def read() -> Response:
            return _table(AveragePoints.of(store.average_series(from_s, to_s, step)), format, "average")

        return await compressed(request, await readers.run(read))

    live: dict[int | str, dict[str, Any]] = {
        200: {"description": "Events, until the client closes", "content": {"text/event-stream": {}}},
        422: {
            "description": "A bad pk, too many, or nothing asked for",
            "content": {"application/problem+json": {}},
        },
        503: {
            "description": "Too many streams; see Retry-After",
            "content": {"application/problem+json": {}},
        },
    }

    @routes.get("/influencers/{pk}/live", responses=live, response_class=Response)
    async def influencer_live(pk: Pk) -> Response:
        """One influencer as server-sent events, newest value wins.

        `event: observation` with what `GET /v1/influencers/{pk}` answers as its data: at once, where there is an
        observation, and again with each newer one. `id` is the moment of the view, in Unix milliseconds. A comment
        `: ping` comes after 15 s of silence. The server ends a stream after an hour at most; `retry` says when to
        come again.
        """
        return LiveResponse((_pk(pk, population),), stats=False)

    @routes.get("/live", responses=live, response_class=Response)
    async def several_live(
        pk: Annotated[
            list[str] | None, Query(max_length=LIVE_PKS_MAX, description="An influencer's pk; repeatable.")
        ] = None,
        stats: Annotated[
            bool, Query(description="Also what `GET /v1/stats` answers, once a second.")
        ] = False,
    ) -> Response:
        """Several influencers and the statistics in one stream, for pages: browsers open few connections to a server.

        As `GET /v1/influencers/{pk}/live`, and with `stats=true` also `event: stats` with what `GET /v1/stats` answers.
        """
        if not pk and not stats:
            raise Problem(422, "Nothing to tell of", "name influencers with pk=..., or ask for stats=true")
        return LiveResponse(tuple(dict.fromkeys(_pk(text, population) for text in pk or ())), stats)

    return routes


def _json(answer: Any) -> Response:
    return Response(answers.as_json(answer), media_type="application/json")


def _table(answer: Points | AveragePoints, format: str, name: str) -> Response:
    if format == "json":
        return _json(answer)
    file = f'attachment; filename="{name}-{answer.step}.csv"'
    return Response(answers.as_csv(answer), media_type="text/csv", headers={"Content-Disposition": file})


def _pk(text: str, population: Population) -> int:
    """A watched pk. Problem 422 for anything else."""
    if re.fullmatch(r"[0-9]{1,10}", text) and int(text) in population:
        return int(text)
    raise Problem(
        422, "Not a watched pk", f"{text[:40]!r} is not among the watched influencers, {population}"
    )


def _observed(latest: Latest | None, pk: int) -> Latest:
    """Problem 404 for who has not been observed."""
    if latest is None:
        raise Problem(
            404, "Not observed yet", f"influencer {pk} is watched, but the API has not told of it yet"
        )
    return latest


def _range(from_: str | None, to: str | None) -> tuple[int, int]:
    """The time asked for, in Unix seconds, from (inclusive) to (exclusive); the store refuses what is empty."""
    to_s = _time(to) if to is not None else int(time.time()) + 1
    from_s = _time(from_) if from_ is not None else max(0, to_s - DEFAULT_RANGE_S)
    if from_s >= to_s:
        raise Problem(
            422,
            "Not a time range",
            f"from {answers.rfc3339(from_s)} is not before to {answers.rfc3339(to_s)}",
        )
    return from_s, to_s


def _time(text: str) -> int:
    """Unix seconds, or RFC 3339; a time without a zone is UTC. Problem 422 for anything else."""
    try:
        if re.fullmatch(r"[0-9]{1,10}(\.[0-9]*)?", text):
            at_s = int(float(text))
        else:
            # A plus sign in a query means a space: mend the zone of those who did not encode it.
            at = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
            at_s = int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        at_s = -1
    if not 0 <= at_s <= TIME_MAX_S:
        raise Problem(
            422, "Not a time", f"{text[:40]!r} is no time: write 2026-01-31T12:00:00Z or Unix seconds"
        )
    return at_s
