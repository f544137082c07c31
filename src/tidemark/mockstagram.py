"""What does the Mockstagram API say, and is it sound? From the bytes of a body to an answer, or to a reason for
refusing it. (pure)

The API is somebody else's and not trusted: nothing it says goes any further unless it is of the documented
form and about the influencer that was asked for.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from tidemark.messages import COUNT_MAX, USERNAME_MAX_CHARACTERS

INFLUENCERS: Final = "/api/v1/influencers/"
"""GET this and a pk."""
IS_SUSPICIOUS: Final = "/api/v1/influencers/is_suspicious"
"""POST an influencer's details."""

_Count = Annotated[int, msgspec.Meta(ge=0, le=COUNT_MAX)]


class Answer(msgspec.Struct, gc=False):
    """The details of an influencer, as the API documents them. Fields it adds later are ignored."""

    pk: _Count
    username: Annotated[str, msgspec.Meta(min_length=1, max_length=USERNAME_MAX_CHARACTERS)]
    followerCount: _Count  # noqa: N815 - the API's own name
    followingCount: _Count  # noqa: N815


class _Opinion(msgspec.Struct, gc=False):
    pk: _Count
    suspicious: bool


_decode = msgspec.json.Decoder(Answer).decode
_decode_opinion = msgspec.json.Decoder(_Opinion).decode
_encode = msgspec.json.Encoder().encode


def parse(body: bytes, pk: int) -> Answer | str:
    """The answer of the influencer `pk`, or the reason for refusing it.

    Reasons: `json` (not JSON, or not an object), `fields` (missing or of the wrong type), `range`
    (negative, fractional or enormous counts, a username of no or too many characters), `pk` (an answer
    about somebody else).
    """
    try:
        answer = _decode(body)
    except msgspec.ValidationError as error:
        return _reason(str(error))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "json"
    return answer if answer.pk == pk else "pk"


def question(details: Answer) -> bytes:
    """The body of the POST that asks for a verdict."""
    return _encode(details)


def parse_verdict(body: bytes, pk: int) -> bool | str:
    """Whether the influencer `pk` is suspicious, or the reason for refusing the answer, as of `parse`."""
    try:
        opinion = _decode_opinion(body)
    except msgspec.ValidationError as error:
        return _reason(str(error))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "json"
    return opinion.suspicious if opinion.pk == pk else "pk"


def _reason(message: str) -> str:
    if message.startswith(
        ("Expected `int` >=", "Expected `int` <=", "Expected `str` of length", "Integer value out")
    ):
        return "range"
    if message.startswith(("Expected `int`, got `float`", "Number out of range")):
        return "range"
    return "fields" if "$." in message or "missing required field" in message else "json"
