"""What does /openapi.json say of the answers?

All of it comes from the definitions that the answers are encoded from: the types by msgspec, the words from the
docstrings below the fields.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final

import msgspec

from tidemark.serve import answers, problems

EVENTS: Final = "text/event-stream"
WHY: Final = {
    404: "Not observed yet",
    422: "Not a watched pk, no time, or a parameter out of its range",
    503: "Too much is asked for at once, or the store does not answer: see Retry-After",
}
"""What a status means that an answer is a problem with."""

ANSWERS: Final[tuple[type[msgspec.Struct], ...]] = (
    answers.Influencer,
    answers.Found,
    answers.Listing,
    answers.Gainers,
    answers.Changes,
    answers.Points,
    answers.AveragePoints,
    answers.Stats,
    problems.ProblemDetails,
)

Responses = dict[int | str, dict[str, Any]]


def table(kind: type[msgspec.Struct], *refusals: int) -> Responses:
    """A route that answers with columns, as JSON or CSV; by which statuses it may refuse."""
    return _responses({"application/json": {"schema": _reference(kind)}, "text/csv": {}}, refusals)


def json(kind: type[msgspec.Struct], *refusals: int) -> Responses:
    """A route that answers with this; by which statuses it may refuse."""
    return _responses({"application/json": {"schema": _reference(kind)}}, refusals)


def events(*refusals: int) -> Responses:
    """A route that answers with a stream of events; by which statuses it may refuse."""
    return _responses({EVENTS: {}}, refusals)


def components() -> dict[str, Any]:
    """The schema of each answer and of what it is made of, by name."""
    _, found = msgspec.json.schema_components(ANSWERS, ref_template="#/components/schemas/{name}")
    for name, described in found.items():
        kind = getattr(answers, name, None) or getattr(problems, name)
        words = dict(_said(kind))
        for field in msgspec.structs.fields(kind):
            if field.name in words:
                described["properties"][field.encode_name]["description"] = words[field.name]
    return found


def _responses(content: dict[str, Any], refusals: tuple[int, ...]) -> Responses:
    problem = {problems.MEDIA_TYPE: {"schema": _reference(problems.ProblemDetails)}}
    described: Responses = {200: {"description": "The answer", "content": content}}
    for status in refusals:
        described[status] = {"description": WHY[status], "content": problem}
    return described


def _reference(kind: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}


def _said(kind: type) -> Iterator[tuple[str, str]]:
    """The docstring below each field, those of its bases too. They are not there at run time, only in the source."""
    for base in reversed(kind.__mro__):
        if inspect.getmodule(base) not in (answers, problems):
            continue
        (definition,) = ast.parse(inspect.getsource(base)).body
        assert isinstance(definition, ast.ClassDef)
        for field, below in pairwise(definition.body):
            match field, below:
                case ast.AnnAssign(ast.Name(name)), ast.Expr(ast.Constant(str(words))):
                    yield name, inspect.cleandoc(words).replace("\n", " ")
