"""What /openapi.json says, beside what is answered."""

from __future__ import annotations

from typing import Any, cast

import pytest

from tidemark.board import Board
from tidemark.population import Population
from tidemark.serve import schema
from tidemark.serve.app import create
from tidemark.serve.routes import Sources

PROBLEM = "application/problem+json"


@pytest.fixture(scope="module")
def openapi() -> dict[str, Any]:
    nothing = cast(Any, None)  # none of the routes is called
    return create(Sources(Board(Population(0, 9)), nothing, nothing, nothing)).openapi()


def test_the_words_below_a_field_are_its_description() -> None:
    described = schema.components()
    rank = "1 + how many influencers have strictly more followers."
    for name in ("Influencer", "Gainer"):
        assert described[name]["properties"]["rank"] == {"type": "integer", "description": rank}
    assert described["Gainer"]["properties"]["followerGain"]["description"].endswith("negative: lost.")
    assert described["Classification"]["properties"]["share"]["description"]
    assert described["ProblemDetails"]["properties"]["detail"]["description"]
    assert described["Influencer"]["properties"]["observedAt"] == {"type": "string", "format": "date-time"}


def test_all_that_is_referred_to_is_there(openapi: dict[str, Any]) -> None:
    there = {f"#/components/schemas/{name}" for name in openapi["components"]["schemas"]}

    def references(node: Any) -> set[str]:
        if isinstance(node, dict):
            own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
            return own.union(*map(references, node.values()))
        return set().union(*map(references, node)) if isinstance(node, list) else set()

    assert references(openapi) == there


@pytest.mark.parametrize(
    ("path", "refusals"),
    [
        ("/v1/influencers/{pk}", {"404", "422"}),
        ("/v1/influencers/{pk}/series", {"404", "422", "503"}),
        ("/v1/influencers/{pk}/changes", {"404", "422", "503"}),
        ("/v1/influencers", {"422"}),
        ("/v1/leaderboard", {"404", "422"}),
        ("/v1/leaderboard/gains", {"422", "503"}),
        ("/v1/stats", set()),
        ("/v1/stats/series", {"422", "503"}),
        ("/v1/influencers/{pk}/live", {"422", "503"}),
        ("/v1/live", {"422", "503"}),
    ],
)
def test_each_route_tells_how_it_refuses(openapi: dict[str, Any], path: str, refusals: set[str]) -> None:
    told = openapi["paths"][path]["get"]["responses"]
    assert set(told) == {"200", *refusals}
    for status in refusals:
        assert told[status]["content"][PROBLEM]["schema"]["$ref"].endswith("/ProblemDetails")


def test_the_routes_that_are_told_of(openapi: dict[str, Any]) -> None:
    others = {"/healthz", "/readyz", "/metrics"}
    assert {path for path in openapi["paths"] if not path.startswith("/v1/")} == others
