"""What holds for every test."""

import os

import pytest
from hypothesis import settings

# How long one example takes says nothing on a busy machine; a test as a whole has its timeout.
settings.register_profile("tidemark", deadline=None)
settings.load_profile("tidemark")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own TIDEMARK_* variables do not reach the tests."""
    for name in [name for name in os.environ if name.startswith("TIDEMARK_")]:
        monkeypatch.delenv(name)
