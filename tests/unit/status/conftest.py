"""Where the tests of the status keep their sockets."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Give a folder whose path is short: a unix socket's must be below 108 bytes, wherever pytest keeps its own."""
    with TemporaryDirectory(prefix="status-", dir="/tmp") as path:
        yield Path(path)
