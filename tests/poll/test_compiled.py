"""Where is what was compiled kept, and does it work where nothing can be kept?"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.log.server import PATIENCE_S
from tidemark.poll import compiled as module

PROGRAM = """
import os

os.access = lambda path, mode: False  # root may write everywhere
import numpy as np
from tidemark.poll import compiled

target = np.zeros(4, np.uint8)
print(compiled.copy(target, 1, np.frombuffer(b"abc", np.uint8), 1, 2), target.tobytes(), compiled._PLACE)
"""


def test_it_is_beside_the_sources_where_they_can_be_written() -> None:
    place = module._place()
    assert place is not None
    assert place.parent == Path(module.__file__).parent / "__pycache__"


def test_else_in_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(module, "_HERE", tmp_path / "file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    place = module._place()
    assert place is not None
    assert place.parent == tmp_path / "cache" / "tidemark"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert module._place() is None


def test_without_a_place_it_is_compiled_at_each_start() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "3 b'\\x00bc\\x00' None\n"
