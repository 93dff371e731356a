"""Loading duckdb's extensions costs more than most tests here: once for all."""

from collections.abc import Iterator

import pytest

from tests.support.lake import extensions_loaded_once


@pytest.fixture(autouse=True)
def _loaded_once() -> Iterator[None]:
    with extensions_loaded_once():
        yield
