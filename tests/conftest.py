"""One thread and one width of the terminal for every test, and for the processes that tests start."""

import os

import pytest

from entrostat.trainer.engine.launcher import forget_launcher

os.environ.setdefault("OMP_NUM_THREADS", "1")
# Not setdefault: a width that a caller's terminal exports would break sentences elsewhere than the tests expect.
os.environ["COLUMNS"] = "110"
LONG = {
    f"test_{name}.py"
    for name in ("vllm", "lost_rank", "docs", "compare_command", "trl_ranks", "beyond", "sampler_trust", "two_ranks")
}


def pytest_collection_modifyitems(items):
    """Files of a minute and more first, so that at the end no process waits for one of them."""
    items.sort(key=lambda item: item.path.name not in LONG)


@pytest.fixture(scope="module")
def browser():
    """A Chromium for the tests of one file."""
    from tests.browser import chromium

    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module", autouse=True)
def _not_launched():
    """Trainers in this process leave a launcher's variables behind, some as soon as their settings are made."""
    forget_launcher(os.environ)
