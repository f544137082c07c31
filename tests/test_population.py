"""Every watched pk is in exactly one shard, and what is no range is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemark.errors import CallerError
from tidemark.population import PK_MAX, POPULATION_MAX_PKS, Population


@st.composite
def populations(draw: st.DrawFn) -> Population:
    first = draw(st.integers(0, PK_MAX - 500))
    return Population(first, first + draw(st.integers(0, 500)), draw(st.integers(1, 70)))


def test_the_million() -> None:
    everybody = Population.parse("1000000-1999999")
    assert everybody == Population(1_000_000, 1_999_999)
    assert everybody.size == 1_000_000
    assert everybody.shards == 300
    assert everybody.shard_range(0) == (1_000_000, 1_003_333)
    assert everybody.shard_range(299) == (1_996_866, 1_999_999)
    assert str(everybody) == "1000000-1999999"


@given(populations())
def test_the_shards_hold_each_pk_once_and_in_order(population: Population) -> None:
    ranges = [population.shard_range(shard) for shard in range(population.shards)]
    pks = [pk for first, last in ranges for pk in range(first, last + 1)]
    assert pks == list(range(population.first, population.last + 1))
    assert len(pks) == population.size
    assert all(last - first + 1 == population.shard_size for first, last in ranges[:-1])


@given(populations(), st.integers(-3, 503))
def test_contains_and_index(population: Population, offset: int) -> None:
    pk = population.first + offset
    assert (pk in population) == (0 <= offset < population.size)
    assert population.index(pk) == offset


@given(populations())
def test_what_is_printed_can_be_parsed(population: Population) -> None:
    parsed = Population.parse(f" {population} ")
    assert (parsed.first, parsed.last) == (population.first, population.last)


@pytest.mark.parametrize("text", ["0-0", "5-5", f"{PK_MAX}-{PK_MAX}", f"0-{POPULATION_MAX_PKS - 1}"])
def test_the_smallest_and_the_largest(text: str) -> None:
    assert str(Population.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "5-",
        "-5",
        "a-b",
        "5-4",
        "1.0-2",
        "-1-5",
        "1 - 5",
        "1-2-3",
        f"0-{PK_MAX + 1}",
        "0-99999999999",
        f"0-{POPULATION_MAX_PKS}",
    ],
)
def test_what_is_no_range(text: str) -> None:
    with pytest.raises(CallerError, match=r"\d"):
        Population.parse(text)
