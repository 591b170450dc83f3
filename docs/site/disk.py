"""The search of a site opened from disk, where a browser loads scripts, but neither JSON nor the file of a worker."""

from __future__ import annotations

import json
import typing
from pathlib import Path

from mkdocs.plugins import event_priority

if typing.TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig

WORKER = """if (location.protocol === "file:") {
  const source = URL.createObjectURL(new Blob([%s], {type: "text/javascript"}));
  window.Worker = class extends Worker { constructor() { super(source); } };
}
"""


@event_priority(-100)  # after the search has written its index
def on_post_build(config: MkDocsConfig) -> None:
    """Write the index under the name that the theme loads from disk, and the worker as the script of `mkdocs.yml`."""
    site = Path(config.site_dir)
    index = (site / "search" / "search_index.json").read_text(encoding="utf-8")
    (site / "search" / "search_index.js").write_text(f"var __index = {index}", encoding="utf-8")
    (worker,) = (site / "assets" / "javascripts" / "workers").glob("search.*.js")
    script = WORKER % json.dumps(worker.read_text(encoding="utf-8"))
    (site / "search" / "worker.js").write_text(script, encoding="utf-8")
