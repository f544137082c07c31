"""Which texts are the beginning of which?"""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemark.board.search import SearchIndex, fold, pk_ranges
from tidemark.population import Population


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("Ann", "ann"),
        ("ÉMILE", "émile"),
        ("\N{GREEK CAPITAL LETTER SIGMA}", "\N{GREEK SMALL LETTER SIGMA}"),
        ("数据", "数据"),
        ("Straße", "straße"),
        ("\ud800", ""),
    ],
)
def test_fold_is_lower_case_character_by_character(text: str, folded: str) -> None:
    assert fold(text) == folded


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=64), st.integers(0, 64))
def test_a_beginning_stays_a_beginning(text: str, length: int) -> None:
    assert fold(text).startswith(fold(text[:length]))
    assert fold(fold(text)) == fold(text)


@given(
    st.integers(0, 1_200),
    st.integers(0, 300),
    st.integers(0, 2_000).map(str) | st.sampled_from(["01", "x", "²"]),
)
def test_pk_ranges_are_the_pks_that_begin_so(first: int, more: int, text: str) -> None:
    population = Population(first, first + more)
    found = [index + first for indices in pk_ranges(text, population) for index in indices]
    expected = [pk for pk in range(first, first + more + 1) if str(pk).startswith(text)]
    assert found == sorted(expected, key=lambda pk: (len(str(pk)), pk))


def test_a_text_longer_than_any_pk_is_none() -> None:
    assert pk_ranges("1" * 5_000, Population(0, 2**28 - 1)) == []


def test_names_that_are_equal_but_for_case_come_in_the_order_of_indices() -> None:
    blocks = [pa.array(["bob", "", "Ann"], pa.string()), pa.array(["BOB", "ann"], pa.string())]
    index = SearchIndex(blocks, block_size=3)
    assert list(index.starting_with("ann")) == [2, 4]
    assert list(index.starting_with("b")) == [0, 3]
    assert list(index.starting_with("zz")) == []
    assert list(SearchIndex([], 3).starting_with("a")) == []
