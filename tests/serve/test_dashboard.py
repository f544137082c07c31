"""What is sent for the pages, without a browser."""

from __future__ import annotations

import gzip
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from tidemark.serve.dashboard import FOLDER, VENDOR, Dashboard, install

VENDORED = dict.fromkeys(VENDOR, b"\nexport { uPlot as default };\n")
"""These tests need no npm."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "dashboard"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("vendor"))
    (folder / "vendor").mkdir()
    for name, body in VENDORED.items():
        (folder / name).write_bytes(body)
    return folder


def visitor(folder: Path) -> httpx.AsyncClient:
    app = FastAPI(docs_url=None)
    install(app, Dashboard.load(folder))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


@pytest.fixture
async def client(folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with visitor(folder) as client:
        yield client


async def test_both_pages_are_one_document(client: httpx.AsyncClient) -> None:
    page = await client.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    for path in ("/influencers/1000001", "/influencers/nobody?range=7d", "/influencers/%F0%9F%8C%8A"):
        assert (await client.get(path)).content == page.content


async def test_a_path_that_is_none_is_a_page_for_who_reads_pages(client: httpx.AsyncClient) -> None:
    browser = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    page = await client.get("/influencer/1000001", headers=browser)
    assert (page.status_code, page.content) == (404, (await client.get("/")).content)
    for path, headers in (("/influencer/1000001", {}), ("/v1/nothing", browser)):
        program = await client.get(path, headers=headers)
        assert (program.status_code, program.json()["title"]) == (404, "Not Found")
        assert path in program.json()["detail"]


@pytest.mark.parametrize("path", ["/", "/docs"])
async def test_nothing_inline_and_nothing_from_elsewhere(client: httpx.AsyncClient, path: str) -> None:
    page = await client.get(path)
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["referrer-policy"] == "same-origin"
    assert not re.search(r"<style|\son\w+=|\sstyle=|<script(?![^>]*\ssrc=)", page.text)
    assert not re.search(r"(src|href)=\"(https?:)?//", page.text)


async def test_everything_that_is_named_is_there_and_kept_for_ever(client: httpx.AsyncClient) -> None:
    named = r'(?:src|href)="(/static/[^"]+)"'
    for name in re.findall(named, (await client.get("/docs")).text):
        assert (await client.get(name)).status_code == 200, name
    names = re.findall(named, (await client.get("/")).text)
    assert len(names) > 10
    imports = 0
    for name in names:
        answer = await client.get(name)
        assert answer.status_code == 200, name
        assert "immutable" in answer.headers["cache-control"]
        for imported in re.findall(r'from "\./([^"]+)"', answer.text):
            imports += 1
            assert f"{name.rpartition('/')[0]}/{imported}" in names, "each module is named ahead"
    assert imports > 10


async def test_what_is_known_already_is_not_sent_again(client: httpx.AsyncClient) -> None:
    first = await client.get("/")
    assert first.headers["cache-control"] == "no-cache"
    again = await client.get("/", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    for known in ("*", '"another",' + first.headers["etag"], f'"another" , W/{first.headers["etag"]}'):
        assert (await client.get("/", headers={"If-None-Match": known})).status_code == 304, known
    assert (await client.get("/", headers={"If-None-Match": '"another"'})).status_code == 200


async def test_compressed_for_who_can_read_it(client: httpx.AsyncClient) -> None:
    plain = await client.get("/", headers={"Accept-Encoding": "gzip;q=0"})
    assert "content-encoding" not in plain.headers
    async with client.stream("GET", "/", headers={"Accept-Encoding": "gzip"}) as answer:
        assert answer.headers["content-encoding"] == "gzip"
        raw = b"".join([part async for part in answer.aiter_raw()])
    assert gzip.decompress(raw) == plain.content


async def test_another_version_is_not_mixed_in(client: httpx.AsyncClient, folder: Path) -> None:
    before = Dashboard.load(folder)
    (folder / "main.js").write_text("// another\n")
    assert Dashboard.load(folder).version != before.version
    for path in ("/static/0123456789ab/main.js", f"/static/{before.version}/nothing.js"):
        gone = await client.get(path)
        assert (gone.status_code, gone.json()["title"]) == (404, "Not found")
        assert gone.headers["cache-control"] == "no-store"


async def test_without_the_chart_library_the_page_says_what_to_do(folder: Path) -> None:
    shutil.rmtree(folder / "vendor")
    async with visitor(folder) as client:
        for path in ("/", "/docs"):
            page = await client.get(path)
            assert page.status_code == 503
            assert "make setup" in page.text
