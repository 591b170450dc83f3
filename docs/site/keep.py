"""Keep the runs of `make demo` as the data behind the pictures: `python docs/site/keep.py runs/demo`.

Numbers are shortened to five digits, which no picture shows.
"""

import json
import sys
from pathlib import Path

DATA = Path(__file__).parent.parent / "data"


def main(demo: Path) -> None:
    """Copy what a report reads of both runs."""
    for run in ("static", "controlled"):
        (DATA / run).mkdir(parents=True, exist_ok=True)
        rows = [json.loads(line) for line in (demo / run / "metrics.jsonl").read_text().splitlines()]
        short = [{name: _short(value) for name, value in row.items()} for row in rows]
        (DATA / run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in short))
        for name in ("snapshots.jsonl", "config.yaml"):
            (DATA / run / name).write_text((demo / run / name).read_text())


def _short(value: object) -> object:
    return float(f"{value:.5g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main(Path(sys.argv[1]))
