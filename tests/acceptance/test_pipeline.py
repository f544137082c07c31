"""From the API to the reader: every number is checked against what the API gave out."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import pytest

from tests.acceptance.conftest import Api, Tidemark, running

pytestmark = pytest.mark.timeout(600)
"""For what takes a minute on an idle machine."""

FIRST, LAST = 1_000_000, 1_000_599
WATCH = ("--influencers", f"{FIRST}-{LAST}")
NOWHERE = ("--api", "http://127.0.0.1:9")
"""An API that is down: what was observed stays as it is."""
PKS = range(FIRST, LAST + 1)


def is_subsequence(part: Iterable[Any], whole: Iterable[Any]) -> bool:
    rest = iter(whole)
    return all(item in rest for item in part)


def next_observation(live: IO[bytes]) -> tuple[int, int]:
    """Followers and followings of the next event of a live stream."""
    while (line := live.readline()) != b"event: observation\n":
        assert line, "the stream ended"
    live.readline()
    found = json.loads(live.readline().removeprefix(b"data: "))
    return found["followerCount"], found["followingCount"]


Histories = dict[int, dict[str, Any]]
"""Everybody's raw series, by pk."""


def histories(tidemark: Tidemark) -> Histories:
    """All that is stored, when all of the log is."""
    tidemark.until(lambda: tidemark.get("/v1/stats")["lagBatches"] == 0, "all of the log")
    return {pk: tidemark.get(f"/v1/influencers/{pk}/series?step=raw") for pk in PKS}


def check_everything(tidemark: Tidemark, api: Api, stored: Histories) -> None:
    """Each number that a reader can see, while nothing changes."""
    given = api.record.given
    latest = {}
    for pk, series in stored.items():
        time, followers, followings = series["time"], series["followerCount"], series["followingCount"]
        assert time == sorted(set(time)), f"{pk} has an observation twice"
        # An answer may be missing (asked twice in a second, or lost with a poller that was killed), but none
        # is invented, none changed and none out of order.
        assert is_subsequence(zip(followers, followings, strict=True), given[pk])
        assert series["followerRatio"] == [
            a / b if b else None for a, b in zip(followers, followings, strict=True)
        ]
        latest[pk] = (followers[-1], followings[-1], time[-1])
        if pk % 100 == 0:
            check_steps(tidemark, pk, series)
    counts = sorted(count for count, _, _ in latest.values())
    for pk, (followers_last, followings_last, _) in latest.items():
        found = tidemark.get(f"/v1/influencers/{pk}")
        assert (found["followerCount"], found["followingCount"]) == (followers_last, followings_last)
        assert found["username"] == f"influencer-{pk}"
        assert found["followerRatio"] == (followers_last / followings_last if followings_last else None)
        assert found["rank"] == 1 + sum(count > followers_last for count in counts)
    stats = tidemark.get("/v1/stats")
    assert stats["averageFollowerCount"] == pytest.approx(sum(counts) / len(counts), rel=1e-12)
    assert stats["influencers"] == stats["observed"] == len(PKS)
    board = tidemark.get("/v1/leaderboard?limit=500")["items"]
    expected = sorted(latest, key=lambda pk: (-latest[pk][0], pk))[:500]
    assert [item["pk"] for item in board] == expected
    assert stats["observationsTotal"] == sum(len(series["time"]) for series in stored.values())


def check_steps(tidemark: Tidemark, pk: int, raw: dict[str, Any]) -> None:
    """Minutes, hours and days against the raw rows."""
    for step, seconds in (("1m", 60), ("1h", 3_600), ("1d", 86_400)):
        rolled = tidemark.get(f"/v1/influencers/{pk}/series?step={step}")
        periods: dict[int, list[tuple[int, int]]] = {}
        for at, followers, followings in zip(
            raw["time"], raw["followerCount"], raw["followingCount"], strict=True
        ):
            periods.setdefault(at // seconds * seconds, []).append((followers, followings))
        assert rolled["time"] == list(periods)
        assert rolled["observations"] == [len(rows) for rows in periods.values()]
        assert rolled["followerCount"] == [rows[-1][0] for rows in periods.values()]
        assert rolled["followingCount"] == [rows[-1][1] for rows in periods.values()]
        assert rolled["followerCountMin"] == [min(a for a, _ in rows) for rows in periods.values()]
        assert rolled["followingCountMax"] == [max(b for _, b in rows) for rows in periods.values()]
        assert rolled["followerCountAverage"] == pytest.approx(
            [sum(a for a, _ in rows) / len(rows) for rows in periods.values()]
        )


Row = tuple[int, int, int]
"""When it was observed, in Unix seconds; followers, followings."""


def logged(tidemark: Tidemark) -> dict[int, list[Row]]:
    """Every observation that was acknowledged to a poller, by pk, in the order of the log."""
    rows: dict[int, list[Row]] = {pk: [] for pk in PKS}
    for batch in tidemark.log():
        columns = (batch.observed_at_ms // 1_000, batch.follower_count, batch.following_count)
        for pk, *row in zip(batch.pk.tolist(), *(column.tolist() for column in columns), strict=True):
            rows[pk].append((row[0], row[1], row[2]))
    return rows


def check_the_log_is_stored(stored: Histories, rows: dict[int, list[Row]]) -> None:
    """All of it, and nothing else; of several in a second one, as a busy machine may make them."""
    for pk, series in stored.items():
        assert series["time"] == sorted({at for at, _, _ in rows[pk]}), pk
        columns = zip(series["time"], series["followerCount"], series["followingCount"], strict=True)
        assert set(columns) <= set(rows[pk]), pk


def test_every_number_is_what_the_api_gave_out(api: Api, tmp_path: Path) -> None:
    data = tmp_path / "data"
    # Who classifies asks for details, which nobody stores; an answer that is late would be asked for once more.
    flags = ("--classify-concurrency", "0", "--request-deadline", "60")
    with running(data, *WATCH, *flags, "--api", api.url, "--interval", "3") as tidemark:
        tidemark.until(lambda: tidemark.get("/v1/stats")["observationsTotal"] >= 3 * len(PKS), "three rounds")
        tidemark.until(lambda: tidemark.get("/v1/stats")["coverage"] == 1.0, "full coverage")
        with urllib.request.urlopen(f"{tidemark.url}/v1/influencers/{FIRST}/live", timeout=30) as live:
            shown = [next_observation(live) for _ in range(3)]
            assert is_subsequence(shown, api.record.given[FIRST])
            assert tidemark.stop() == 0, tidemark.said()
            assert live.read()[-1:] in (b"", b"\n"), "a stop ends the stream after a whole event"
    answered = {pk: len(answers) for pk, answers in api.record.given.items()}
    with running(data, *WATCH, *NOWHERE) as tidemark:
        rows, stored = logged(tidemark), histories(tidemark)
        for pk in PKS:
            assert Counter(row[1:] for row in rows[pk]) == Counter(api.record.given[pk]), pk
        check_the_log_is_stored(stored, rows)
        check_everything(tidemark, api, stored)
        for pk in PKS:
            at = [at for at, _, _ in rows[pk]]
            if len(set(at)) == len(at):
                latest = tidemark.get(f"/v1/influencers/{pk}")
                assert (latest["followerCount"], latest["followingCount"]) == api.record.given[pk][-1]
        assert tidemark.stop() == 0
    # An orderly stop loses nothing: the last answer of each is the latest value, and none was asked for since.
    assert answered == {pk: len(answers) for pk, answers in api.record.given.items()}


def shown_before_it_is_stored(tidemark: Tidemark) -> bool:
    """Whether the board has an observation that the store has not: it would be lost, were it acknowledged."""
    stored: int = tidemark.get(f"/v1/influencers/{FIRST}/series?step=raw")["time"][-1]
    shown = tidemark.get(f"/v1/influencers/{FIRST}")["observedAt"]
    return datetime.fromisoformat(shown).timestamp() > stored


def test_any_process_may_be_killed(api: Api, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running(data, *WATCH, "--api", api.url, "--interval", "2", "--pollers", "2") as tidemark:
        for role in ("serve", "poll", "schedule", "nats"):
            rows = 0

            def grown() -> bool:
                return bool(tidemark.get("/v1/stats")["observationsTotal"] > rows + len(PKS))  # noqa: B023

            tidemark.until(grown, f"observations before {role} is killed")
            rows = tidemark.get("/v1/stats")["observationsTotal"]
            shown = tidemark.get(f"/v1/influencers/{FIRST}/series?step=raw")["time"]
            if role == "serve":
                tidemark.until(lambda: shown_before_it_is_stored(tidemark), "what waits to be stored")
            tidemark.kill(role)
            tidemark.until(grown, f"observations after {role} was killed")
            assert tidemark.get(f"/v1/influencers/{FIRST}/series?step=raw")["time"][: len(shown)] == shown
        assert tidemark.stop() == 0, tidemark.said()
    with running(data, *WATCH, *NOWHERE) as tidemark:
        stored = histories(tidemark)
        check_the_log_is_stored(stored, logged(tidemark))
        check_everything(tidemark, api, stored)


def test_a_backup_and_the_log_are_the_whole_store(api: Api, tmp_path: Path) -> None:
    data = tmp_path / "data"
    flags = (*WATCH, "--api", api.url, "--interval", "2")
    with running(data, *flags) as tidemark:
        tidemark.until(lambda: tidemark.get("/v1/stats")["observationsTotal"] >= 2 * len(PKS), "two rounds")
        assert tidemark.stop() == 0, tidemark.said()
    shutil.copytree(data / "store", tmp_path / "backup", symlinks=True)
    with running(data, *flags) as tidemark:
        tidemark.until(lambda: tidemark.get("/v1/stats")["observationsTotal"] >= 5 * len(PKS), "three more")
        assert tidemark.stop() == 0, tidemark.said()
    with running(data, *WATCH, *NOWHERE) as tidemark:
        rows = tidemark.get("/v1/stats")["observationsTotal"]
        shown = [tidemark.get(f"/v1/influencers/{pk}/series?step=raw") for pk in PKS[::100]]
        assert tidemark.stop() == 0
    shutil.rmtree(data / "store")
    shutil.move(tmp_path / "backup", data / "store")
    replay = [sys.executable, "-m", "tidemark", "replay", "--data", str(data)]
    said = subprocess.run(replay, capture_output=True, text=True, check=True).stdout
    assert str(data / "store") in said
    with running(data, *WATCH, *NOWHERE) as tidemark:
        tidemark.until(lambda: bool(tidemark.get("/v1/stats")["observationsTotal"] == rows), "all of it")
        stored = histories(tidemark)
        check_the_log_is_stored(stored, logged(tidemark))
        restored = [stored[pk] for pk in PKS[::100]]
        assert [one["time"] for one in restored] == [one["time"] for one in shown]
        assert [one["followerCount"] for one in restored] == [one["followerCount"] for one in shown]
        assert tidemark.stop() == 0


def test_an_api_that_is_down_at_the_start_is_found_when_it_comes(tmp_path: Path) -> None:
    api = Api(FIRST, LAST)
    url = api.url
    api.stop()
    with running(tmp_path / "data", *WATCH, "--api", url, "--interval", "1") as tidemark:
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{tidemark.url}/v1/influencers/{FIRST}", timeout=30)
        assert refused.value.code == 404
        assert json.load(refused.value)["title"] == "Not observed yet"
        assert tidemark.get("/v1/stats")["coverage"] == 0.0
        back = Api(FIRST, LAST, port=int(url.rpartition(":")[2]))
        try:
            tidemark.until(lambda: tidemark.get("/v1/stats")["coverage"] == 1.0, "coverage")
        finally:
            back.stop()
        assert tidemark.stop() == 0
