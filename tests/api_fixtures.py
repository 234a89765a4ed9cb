"""Fixtures of the tests of the API layer, which take them with ``pytest_plugins = ("api_fixtures",)``."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import certifi
import pytest
from apis import APIS

KEY = "a-key-for-tests"
_PROXIES = [name for word in ("http", "https", "all") for name in (f"{word}_proxy", f"{word.upper()}_PROXY")]


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A folder in memory, where there is such a thing: these tests are not about disks."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as found:
        yield Path(found)


@pytest.fixture(scope="session")
def one_certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nothing here is encrypted, and reading 140 certificates for each client takes longer than most of these tests."""
    path = tmp_path_factory.mktemp("certificates") / "one.pem"
    text, end = Path(certifi.where()).read_text(encoding="utf-8"), "-----END CERTIFICATE-----"
    path.write_text(text[: text.index(end) + len(end)] + "\n", encoding="utf-8")
    return path


@pytest.fixture
def with_keys(monkeypatch: pytest.MonkeyPatch, one_certificate: Path) -> None:
    """A key for every provider, and nothing between us and the server."""
    monkeypatch.setenv("SSL_CERT_FILE", str(one_certificate))
    for name in {key for api in APIS.values() for key in api.keys}:
        monkeypatch.setenv(name, KEY)
    for name in _PROXIES:
        monkeypatch.delenv(name, raising=False)
