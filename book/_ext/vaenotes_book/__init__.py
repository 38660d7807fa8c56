"""The book's own Sphinx extension: how its pages are executed, and what a build adds to them.

`build` executes them, so that nothing stale is shown; `pages` says where numbers and figures come
from; `api` lists the library.
"""

from typing import Any

from sphinx.application import Sphinx

from vaenotes_book import api, pages
from vaenotes_book.build import Build


def setup(app: Sphinx) -> dict[str, Any]:
    try:
        build = Build(app)
    except OSError as error:  # which Jupyter Book would bury under a traceback
        raise SystemExit(f"the book cannot be built into {app.outdir}: {error}") from None
    pages.setup(app, build)
    api.setup(app)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
