"""Which setting wins, and which are refused with a line that names them."""

import re
from pathlib import Path
from typing import Any

import pytest

from tidemark.config import CONFIG_FILE, Settings, http_url, load
from tidemark.errors import CallerError
from tidemark.population import Population


@pytest.fixture(autouse=True)
def _in_an_empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_defaults() -> None:
    settings = load()
    assert settings.population == Population(1_000_000, 1_999_999)
    assert settings.interval == 60
    assert settings.api == ()
    assert settings.nats == ()
    assert (settings.host, settings.port) == ("127.0.0.1", 8_000)
    assert (settings.pollers, settings.pipeline, settings.max_rps) == (1, 1, 0)
    assert settings.store_dsn == f"chdb://{Path('tidemark-data/store').resolve()}"


def test_a_flag_wins_over_a_variable_and_that_over_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(CONFIG_FILE).write_text("pollers = 2\npipeline = 2\nmax_rps = 2\n")
    monkeypatch.setenv("TIDEMARK_PIPELINE", "3")
    monkeypatch.setenv("TIDEMARK_MAX_RPS", "3")
    settings = load(max_rps=4)
    assert (settings.pollers, settings.pipeline, settings.max_rps) == (2, 3, 4)


def test_a_file_of_another_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.toml").write_text('influencers = "5-9"\nnats = "nats://a:1, nats://b:2"\n')
    monkeypatch.setenv("TIDEMARK_CONFIG", str(tmp_path / "elsewhere.toml"))
    settings = load()
    assert settings.population == Population(5, 9)
    assert settings.nats == ("nats://a:1", "nats://b:2")


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        ("http://a:1", ("http://a:1",)),
        ("http://a:1,http://b:2/", ("http://a:1", "http://b:2")),
        (" http://a:1 , , http://[::1]:2/path/ ", ("http://a:1", "http://[::1]:2/path")),
        ("", ()),
    ],
)
def test_several_addresses_in_one_variable(
    variable: str, expected: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEMARK_API", variable)
    assert load().api == expected
    monkeypatch.delenv("TIDEMARK_API")
    assert load(api=("http://first:1", variable)).api == ("http://first:1", *expected)


def test_a_comma_in_a_password_separates_nothing() -> None:
    addresses = ("nats://me:a,b@one:1", "nats://me:a,b@two:1")
    assert load(nats=addresses).nats == addresses
    assert load(nats=",".join(addresses)).nats == addresses


def test_several_addresses_as_a_list_in_the_file() -> None:
    Path(CONFIG_FILE).write_text('api = ["http://a:1", "http://b:2"]\n')
    assert load().api == ("http://a:1", "http://b:2")


def test_the_settings_cannot_be_changed() -> None:
    settings = load()
    with pytest.raises(ValueError, match="frozen"):
        settings.pollers = 2


def test_an_api_behind_tls_is_refused_with_what_to_do() -> None:
    with pytest.raises(CallerError, match=r"https://a:1.*plain HTTP; put a proxy"):
        load(api=["https://a:1"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("api", ["https://a:1"]),
        ("api", ["a:1"]),
        ("api", ["http://"]),
        ("api", ["http://a:0"]),
        ("api", ["http://a:99999"]),
        ("api", ["http://user:word@a:1"]),
        ("api", ["http://:word@a:1"]),
        ("api", ["http://a:1/?q"]),
        ("api", ["http://a:1/#f"]),
        ("api", ["http://a:1/two words"]),
        ("api", ["http://a:1/\r\nX: y"]),
        ("api", ["http://ä:1"]),
        ("api", ["http://[::1"]),
        ("nats", ["http://a:1"]),
        ("nats", ["nats://"]),
        ("nats", ["nats://a:99999"]),
        ("nats", ["nats://a:0"]),
        ("influencers", "9-5"),
        ("influencers", "everybody"),
        ("influencers", "0-4294967295"),
        ("host", ""),
        ("host", " "),
        ("interval", -1),
        ("interval", 0.5),
        ("interval", float("nan")),
        ("interval", float("inf")),
        ("interval", "soon"),
        ("request_deadline", 0),
        ("request_deadline", float("nan")),
        ("max_rps", -1),
        ("max_rps", float("inf")),
        ("pipeline", 0),
        ("pipeline", 1.5),
        ("port", 65_536),
        ("store", "sqlite:///x"),
        ("log_level", "loud"),
        ("log_hours", 0.01),
        ("log_gigabytes", 0.01),
        ("raw_days", 2),
        ("raw_days", -1),
        ("hourly_days", 1),
        ("daily_days", 10_001),
    ],
)
def test_what_is_refused_names_the_setting(name: str, value: Any) -> None:
    with pytest.raises(CallerError, match=f"^setting {name}: .") as refused:
        load(**{name: value})
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("interval", [0, 1, 1.5, 60, 86_400])
def test_intervals(interval: float) -> None:
    assert load(interval=interval).interval == interval


@pytest.mark.parametrize(
    ("name", "says"),
    [("nonsense", "of Tidemark; `"), ("poller", "do you mean pollers? `tidemark up --help` lists")],
)
def test_a_misspelt_setting_in_the_file_is_refused(name: str, says: str) -> None:
    Path(CONFIG_FILE).write_text(f"{name} = 1\n")
    with pytest.raises(CallerError, match=re.escape(f"'{name}' in {CONFIG_FILE} is no setting")) as refused:
        load()
    assert says in str(refused.value)


def test_a_misspelt_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMARK_POLERS", "2")
    with pytest.raises(CallerError, match="TIDEMARK_POLERS"):
        load()


def test_a_wrong_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMARK_POLLERS", "many")
    with pytest.raises(CallerError, match=r"^setting pollers: "):
        load()


@pytest.mark.parametrize("text", ["pollers = ", "pollers == 2", "\x00", "pollers = 0", "polers = 2"])
def test_a_file_with_mistakes(text: str) -> None:
    Path(CONFIG_FILE).write_text(text)
    with pytest.raises(CallerError) as refused:
        load()
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("api = 5", "setting api: 5 cannot be that; it is: A Mockstagram address, http://host:port"),
        ("data = 5", "setting data: 5 cannot be that; it is: The folder"),
        ("influencers = 5", "setting influencers: 5 cannot be that; it is: The pks to watch, A-B"),
        ("interval = true", "setting interval: no setting is true or false; it is: Seconds between"),
        ("interval = [5]", "setting interval: [5] cannot be that; it is: Seconds between"),
        ("pipelin = true", "there is none of that name"),
    ],
)
def test_a_value_of_another_kind_is_told_with_what_it_ought_to_be(text: str, says: str) -> None:
    Path(CONFIG_FILE).write_text(text)
    with pytest.raises(CallerError) as refused:
        load()
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_folder_is_no_file() -> None:
    Path(CONFIG_FILE).mkdir()
    with pytest.raises(CallerError, match="is a folder"):
        load()


def test_a_file_that_is_no_utf8() -> None:
    Path(CONFIG_FILE).write_bytes(b'influencers = "\xff"')
    with pytest.raises(CallerError, match=CONFIG_FILE):
        load()


def test_a_named_file_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMARK_CONFIG", "nowhere.toml")
    with pytest.raises(CallerError, match=r"nowhere\.toml"):
        load()


def test_a_named_file_of_no_name_is_the_usual_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMARK_CONFIG", "")
    Path(CONFIG_FILE).write_text("interval = 7")
    assert load().interval == 7


@pytest.mark.parametrize(
    "wrong",
    [
        {"store": "http://me:secret@ch:8123"},
        {"store": "http://me:secret/secret@secret@ch:8123"},
        {"nats": "http://secret@n1:4222"},
        {"nats": "nats://me:secret/x@n1:4222"},
        {"api": "http://me:secret@host:3000"},
        {"api": "https://me:secret@host:3000"},
    ],
)
def test_a_wrong_address_is_told_without_its_secrets(wrong: dict[str, str]) -> None:
    with pytest.raises(CallerError) as refused:
        load(**wrong)
    assert "secret" not in str(refused.value)
    assert wrong.popitem()[1].rpartition("@")[2] in str(refused.value)


def test_a_list_where_one_address_ought_to_be_is_told_without_its_secrets() -> None:
    Path(CONFIG_FILE).write_text('store = ["clickhouse://me:secret@host:8123"]')
    with pytest.raises(CallerError, match="host:8123") as refused:
        load()
    assert "secret" not in str(refused.value)


def test_a_relative_data_folder_makes_an_absolute_store(tmp_path: Path) -> None:
    assert load(data=Path("here")).store_dsn == f"chdb://{tmp_path / 'here' / 'store'}"
    assert load(store="clickhouse://user:word@host:8123").store_dsn == "clickhouse://user:word@host:8123"


def test_every_setting_has_a_description() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_the_address_of_what_listens() -> None:
    assert http_url("127.0.0.1", 8_000) == "http://127.0.0.1:8000"
    assert http_url("::1", 8_000) == "http://[::1]:8000"
