"""What the API says about an influencer is an answer, or a reason for refusing it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemark.messages import COUNT_MAX, USERNAME_MAX_CHARACTERS
from tidemark.mockstagram import Answer, parse, parse_verdict, question

PK = 1_000_001
FIELDS = ("pk", "username", "followerCount", "followingCount")
REASONS = {"json", "fields", "range", "pk"}


class Pairs(list[tuple[str, Any]]):
    """A JSON object as it was written, repeated names and all."""


def reading(body: bytes) -> str | dict[str, Any]:
    """The fields as Python's own json finds them, or the reason for refusing them."""
    try:
        text = body.decode(errors="surrogateescape")
        value = json.loads(text, object_pairs_hook=Pairs, parse_constant=int)
    except (ValueError, RecursionError):
        return "json"
    if not isinstance(value, Pairs):
        return "json"
    for name, field in value:
        wrong = None
        if name == "username":
            if not isinstance(field, str):
                wrong = "fields"
            elif not 1 <= len(field) <= USERNAME_MAX_CHARACTERS:
                wrong = "range"
        elif name in FIELDS:
            if isinstance(field, float):
                wrong = "range"
            elif not isinstance(field, int) or isinstance(field, bool):
                wrong = "fields"
            elif not 0 <= field <= COUNT_MAX:
                wrong = "range"
        if wrong:
            return wrong
    fields = {name: field for name, field in value if name in FIELDS}
    if len(fields) < len(FIELDS):
        return "fields"
    return fields if fields["pk"] == PK else "pk"


def found(body: bytes) -> str | dict[str, Any]:
    answer = parse(body, PK)
    return {name: getattr(answer, name) for name in FIELDS} if isinstance(answer, Answer) else answer


TEXTS = st.text(st.characters(codec="utf-8"), max_size=USERNAME_MAX_CHARACTERS + 3)
NUMBERS = st.one_of(
    st.integers(-2, COUNT_MAX + 2),
    st.integers(-(10**40), 10**40),
    st.sampled_from([0, -1, COUNT_MAX, COUNT_MAX + 1, 2**63, 2**64, -(2**63) - 1, PK, PK + 1]),
    st.floats(allow_nan=False, allow_infinity=False),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=6,
)
SOUND = {
    "pk": st.just(PK),
    "username": TEXTS.filter(bool).map(lambda text: text[:USERNAME_MAX_CHARACTERS]),
    "followerCount": st.integers(0, COUNT_MAX),
    "followingCount": st.integers(0, COUNT_MAX),
}


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """A JSON object that is mostly an answer: fields in any order, some wrong, missing, repeated or unknown."""
    names = list(draw(st.permutations(FIELDS)))
    if draw(st.booleans()):
        names = draw(st.lists(st.sampled_from([*FIELDS, "pK", "more", ""]), max_size=7))
    pairs = []
    for name in names:
        sound = name in SOUND and draw(st.integers(0, 3)) > 0
        value = draw(SOUND[name] if sound else VALUES)
        ascii_only = draw(st.booleans())
        pairs.append(f"{json.dumps(name)}:{json.dumps(value, ensure_ascii=ascii_only)}")
    gap = draw(st.sampled_from(["", " ", "\n\t"]))
    return (gap + "{" + f"{gap},{gap}".join(pairs) + gap + "}" + gap).encode()


@given(bodies())
def test_an_object_is_read_as_python_reads_it(body: bytes) -> None:
    assert found(body) == reading(body)


@given(VALUES)
def test_any_json_is_read_as_python_reads_it(value: Any) -> None:
    body = json.dumps(value).encode()
    assert found(body) == reading(body)


@given(bodies(), st.data())
def test_damaged_json_is_never_read_as_something_else(body: bytes, data: st.DataObject) -> None:
    damaged = bytearray(body)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(damaged)))
        damaged[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    understood = found(bytes(damaged))
    if isinstance(understood, str):
        assert understood in REASONS
    else:
        assert understood == reading(bytes(damaged))


BODY = '{{"pk":{pk},"username":{username},"followerCount":{followers},"followingCount":{followings}}}'


def body(pk: object = PK, username: str = '"ann"', followers: object = 5, followings: object = 0) -> bytes:
    return BODY.format(pk=pk, username=username, followers=followers, followings=followings).encode()


@pytest.mark.parametrize(
    ("refused", "reason"),
    [
        (body(pk=PK + 1), "pk"),
        (body(pk='"1000001"'), "fields"),
        (body(pk=f"{PK}.0"), "range"),
        (body(followers=-1), "range"),
        (body(followers=1.5), "range"),
        (body(followers="5e0"), "range"),
        (body(followers="1e400"), "range"),
        (body(followers=COUNT_MAX + 1), "range"),
        (body(followers=10**30), "range"),
        (body(followers="9" * 10_000), "range"),
        (body(followers='"5"'), "fields"),
        (body(followers="true"), "fields"),
        (body(followers="null"), "fields"),
        (body(followers="[5]"), "fields"),
        (body(followers="05"), "json"),
        (body(followers="NaN"), "json"),
        (body(followers="Infinity"), "json"),
        (body(followers=""), "json"),
        (body(username='""'), "range"),
        (body(username=f'"{"x" * 65}"'), "range"),
        (body(username="5"), "fields"),
        (body(username=r'"\ud800"'), "json"),
        (body(username=r'"\udc00x"'), "json"),
        (body(username='"ä"').decode().encode("latin-1"), "json"),
        (body()[:-1], "json"),
        (body() + b"}", "json"),
        (b"\xef\xbb\xbf" + body(), "json"),
        (body().decode().encode("utf-16"), "json"),
        (b"[" + body() + b"]", "json"),
        (b"", "json"),
        (b"null", "json"),
        (b"{}", "fields"),
        (b"<html><body>502 Bad Gateway</body></html>", "json"),
        (b"[" * 60_000, "json"),
        (b'{"a":' * 60_000, "json"),
    ],
)
def test_what_is_refused(refused: bytes, reason: str) -> None:
    assert parse(refused, PK) == reason


@pytest.mark.parametrize("name", ["x" * 64, "🌊" * 64, "数据", r"\ud83c\udf0a", r"\u0041"])
def test_usernames(name: str) -> None:
    answer = parse(body(username=f'"{name}"'), PK)
    assert isinstance(answer, Answer)
    assert answer.username == json.loads(f'"{name}"')


def test_a_name_that_comes_twice_counts_as_it_came_last() -> None:
    twice = body()[:-1] + b',"followerCount":7}'
    assert found(twice) == reading(twice)
    assert isinstance(parse(twice, PK), Answer)


def test_the_details_go_back_to_the_api_as_they_came() -> None:
    body = b'{"pk":1000001,"username":"influencer-100001","followerCount":57166,"followingCount":1328}'
    details = parse(body, 1_000_001)
    assert isinstance(details, Answer)
    assert question(details) == body


@pytest.mark.parametrize("suspicious", [True, False])
def test_a_verdict(suspicious: bool) -> None:
    assert parse_verdict(json.dumps({"pk": 7, "suspicious": suspicious, "more": 1}).encode(), 7) is suspicious


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "json"),
        (b"<html>", "json"),
        (b"[]", "json"),
        (b'{"pk": 7, "suspicious": true', "json"),
        (b"[" * 100_000, "json"),
        (b"{}", "fields"),
        (b'{"pk": 7}', "fields"),
        (b'{"suspicious": true}', "fields"),
        (b'{"pk": 7, "suspicious": null}', "fields"),
        (b'{"pk": 7, "suspicious": 1}', "fields"),
        (b'{"pk": 7, "suspicious": "not_suspicious"}', "fields"),
        (b'{"pk": "7", "suspicious": true}', "fields"),
        (b'{"pk": 7.5, "suspicious": true}', "range"),
        (b'{"pk": -7, "suspicious": true}', "range"),
        (b'{"pk": 8, "suspicious": true}', "pk"),
    ],
)
def test_what_is_no_verdict(body: bytes, reason: str) -> None:
    assert parse_verdict(body, 7) == reason


@given(st.binary(max_size=60))
def test_any_bytes_are_refused(body: bytes) -> None:
    assert isinstance(parse_verdict(body, 7), str)
