"""One thread for every test, and for the processes that tests start: the sizes here gain nothing from more."""

import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def browser():
    """A Chromium for the tests of one file."""
    from tests.browser import chromium

    with chromium() as opened:
        yield opened
