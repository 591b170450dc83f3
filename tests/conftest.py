"""One thread for every test, and for the processes that tests start: the sizes here gain nothing from more."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
