"""Names come back as they went in, whatever they are made of, and changes are told once."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemark.board import names as module
from tidemark.board.names import Names
from tidemark.population import Population

POPULATION = Population(100, 121, shard_size=5)
"""Four whole blocks and one of two names."""
EVERYBODY = np.ones(101, np.uint32)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64)
FEW = st.sampled_from(["a", "b", "Émile", "数据", "🌊🌊", "x" * 64])


def strings(names: list[str]) -> pa.StringArray:
    return pa.array(names, pa.string())


@given(st.lists(NAMES, min_size=22, max_size=22))
def test_any_unicode_comes_back(texts: list[str]) -> None:
    names = Names(POPULATION)
    assert names.put(slice(0, 22), strings(texts)).tolist() == list(range(22))
    assert [names.name(index) for index in range(22)] == texts
    assert names.put(slice(0, 22), strings(texts)).tolist() == []
    assert names.column(3, 17).to_pylist() == texts[3:17]


@given(st.lists(st.tuples(st.booleans(), st.dictionaries(st.integers(0, 21), FEW, min_size=1)), max_size=8))
def test_batches_in_parts_report_exactly_the_changes(batches: list[tuple[bool, dict[int, str]]]) -> None:
    names, known = Names(POPULATION), dict[int, str]()
    for as_run, batch in batches:
        rows = dict(sorted(batch.items()))
        if as_run:
            first = min(rows)
            rows = dict(enumerate(rows.values(), min(first, 22 - len(rows))))
        indices = np.array(list(rows), np.int64)
        slots = slice(int(indices[0]), int(indices[-1]) + 1) if as_run else indices
        # As it lies in a message: somewhere inside a longer column.
        texts = strings(["before", *rows.values(), "after"]).slice(1, len(rows))
        changed = names.put(slots, texts).tolist()
        assert changed == [index for index, name in rows.items() if known.get(index) != name]
        known |= rows
        assert [names.name(index) for index in range(22)] == [known.get(index) for index in range(22)]
    assert names.column(0, 22).to_pylist() == [known.get(index, "") for index in range(22)]


def test_an_empty_name_changes_nothing() -> None:
    names = Names(POPULATION)
    names.put(slice(4, 6), strings(["ann", "bob"]))
    assert names.put(slice(4, 7), strings(["", "bo", ""])).tolist() == [5]
    assert [names.name(index) for index in (4, 5, 6)] == ["ann", "bo", None]


def test_no_rows_are_no_change() -> None:
    names = Names(POPULATION)
    assert names.put(slice(0, 0), strings([])).tolist() == []
    assert names.put(np.empty(0, np.int64), strings([])).tolist() == []
    assert names.column(7, 7).to_pylist() == []


@pytest.mark.parametrize("text", ["", "\ud800", "nobody", "99", "0100"])
def test_search_finds_nobody(text: str) -> None:
    names = Names(POPULATION)
    names.put(slice(0, 2), strings(["ann", "bob"]))
    names.reindex()
    assert names.search(text, 10, EVERYBODY) == []


def test_a_search_looks_at_few_however_many_have_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others wait for it, and after a restart a million names may be known of whom hardly any are observed."""
    population = Population(1, 100_000)
    names, observed = Names(population), np.zeros(100_000, np.uint32)
    names.put(slice(0, 100_000), strings([f"influencer-{index}" for index in range(100_000)]))
    names.reindex()
    looked_at = 0
    name = Names.name

    def counted(self: Names, index: int) -> str | None:
        nonlocal looked_at
        looked_at += 1
        return name(self, index)

    monkeypatch.setattr(Names, "name", counted)
    observed[[7, 99_990]] = 1
    assert names.search("influencer", 20, observed) == [7, 99_990]
    assert looked_at == 2
    observed[:] = 1
    names.put(slice(0, 100_000), strings(["else"] * 100_000))
    assert names.search("influencer", 20, observed) == []
    assert looked_at == 2 + module.RENAMED_MAX


def test_search_finds_the_exact_pk_then_names_then_other_pks() -> None:
    names = Names(Population(10, 110, shard_size=7))
    names.put(slice(0, 3), strings(["1x", "11y", "2z"]))
    names.reindex()
    assert names.search("11", 10, EVERYBODY) == [1, 100]  # pk 11, whose name it begins too, and pk 110
    assert names.search("1", 5, EVERYBODY) == [1, 0, 2, 3, 4]
    assert names.search("1", 1, EVERYBODY) == [1]
    assert names.search("11", 0, EVERYBODY) == []
    some = EVERYBODY.copy()
    some[[0, 1, 3, 4]] = 0
    assert names.search("1", 3, some) == [2, 5, 6], "who was never observed takes nobody's place"
    assert names.search("11", 3, some) == [100]


def test_a_changed_name_is_found_from_the_next_reindex_on() -> None:
    names = Names(POPULATION)
    names.put(slice(0, 2), strings(["Ann", "anna"]))
    assert names.search("an", 10, EVERYBODY) == []
    names.reindex()
    assert names.changed_since_reindex == 0
    assert names.search("AN", 10, EVERYBODY) == [0, 1]
    names.put(slice(0, 1), strings(["Zoe"]))
    assert names.changed_since_reindex == 1
    assert names.search("an", 10, EVERYBODY) == [1]
    assert names.search("z", 10, EVERYBODY) == []
    names.reindex()
    assert names.search("z", 10, EVERYBODY) == [0]


@given(st.lists(NAMES | FEW, min_size=1, max_size=22), NAMES | FEW, st.integers(1, 30))
def test_search_against_looking_at_every_name(texts: list[str], text: str, limit: int) -> None:
    names = Names(POPULATION)
    names.put(slice(0, len(texts)), strings(texts))
    names.reindex()
    for asked in (text, texts[0][:1], texts[-1].upper()):
        folded = fold_by_hand(asked)
        by_name = sorted(
            (fold_by_hand(name), index)
            for index, name in enumerate(texts)
            if fold_by_hand(name).startswith(folded)
        )
        by_pk = [index for index in range(22) if str(100 + index).startswith(asked)]
        found = names.search(asked, limit, EVERYBODY)
        assert len(found) == min(limit, len({index for _, index in by_name} | set(by_pk)))
        if not by_pk:
            assert found == [index for _, index in by_name][:limit]


def fold_by_hand(text: str) -> str:
    return "".join(pc.utf8_lower(pa.scalar(character)).as_py() for character in text)
