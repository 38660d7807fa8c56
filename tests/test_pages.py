"""Pages whose replicas diverge: each is executed with tiny runs, and says who diverged, and where,
and glues every number of its prose.

One seed of two diverges in every arm; of a few pages, the only one.
"""

import re
import zlib
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import jupytext
import papermill
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from myst_nb.core.variables import format_plain_text

from vaenotes import priors, training
from vaenotes.config import Config
from vaenotes.data import load as data
from vaenotes.lab import pictures, runs, workers
from vaenotes.report import arms, experiments, known, settings, sliders
from vaenotes.report.page import with_parameters

BOOK = Path(__file__).parents[1] / "book"
WILD = 1  # the seed that diverges
ASKS = re.compile(r"\brun\(|report\.(run_arms|experiment|on_data)\(|Page\(globals\(\), ")
GLUED = re.compile(r"\{glue:text\}`([^`:]+):?([^`]*)`")
"""A number of the prose: its name and its format."""


def asks(page: Path) -> bool:
    """Whether a cell of a page asks for replicas."""
    cells = jupytext.reads(page.read_text(), fmt="md").cells
    return any(cell.cell_type == "code" and ASKS.search(cell.source) for cell in cells)


PAGES = [page for page in sorted(BOOK.rglob("*.md")) if "_build" not in page.parts and asks(page)]
ALONE = ["posterior_variance", "known_answers", "your_own_vae"]
# sprites are those of every build
BOTH, ONE = {"seeds": 2, "data": "digits"}, {"seeds": 1, "first_seed": WILD}
CASES = [(page, BOTH) for page in PAGES] + [(page, ONE) for page in PAGES if page.stem in ALONE]
pytestmark = pytest.mark.slow


def code(config: Config) -> int:
    """A number for all that makes a replica but its seed: to find its arm in a page's output."""
    return zlib.crc32(repr(replace(config, seed=0)).encode())


def made_small(patch: pytest.MonkeyPatch) -> None:
    tiny = replace(settings.PROFILES["quick"], epochs=2, images=512, hidden=8)
    patch.setitem(settings.PROFILES, "quick", tiny)
    few = {
        name: replace(arm, rounds=1, changes={**arm.changes, "images": 128, "batch": 64})
        for name, arm in known.arms().items()
    }
    patch.setattr(known, "arms", lambda: few)
    patch.setattr(sliders, "MOST", 2)
    patch.setattr(pictures, "SCALES", pictures.SCALES[[0, 4, -1]])
    # a chapter that a page writes would run elsewhere, at its own size
    nothing = SimpleNamespace(cells=[SimpleNamespace(outputs=[])] * 2)
    patch.setattr(papermill, "execute_notebook", lambda *given, **named: nothing)


@pytest.fixture(scope="module")
def used(tmp_path_factory):
    """The replicas that are fetched: of small profiles, and in which the seed WILD diverges."""
    used: set[Config] = set()
    patch = pytest.MonkeyPatch()
    patch.setenv("VAENOTES_STORE", str(tmp_path_factory.mktemp("store")))
    made_small(patch)
    patch.setattr(workers, "WORTH_PROCESSES", float("inf"))  # in this process, where patches hold
    epoch, train, fetch = training.Ensemble.epoch, workers.train, runs._fetch

    def wild_epoch(ensemble, number):
        with torch.no_grad():
            for replica, config in enumerate(ensemble.configs):
                if config.seed == WILD and number == 1:
                    for parameter in ensemble.parameters.values():
                        parameter[replica] *= 1e30
        epoch(ensemble, number)

    def train_and_mark(*given, **named):
        return [
            replace(result, diverged=result.diverged and (result.diverged[0], code(result.config)))
            for result in train(*given, **named)
        ]

    def fetch_and_note(configs, *given):
        used.update(configs)
        return fetch(configs, *given)

    patch.setattr(training.Ensemble, "epoch", wild_epoch)
    patch.setattr(runs, "check_same", lambda imported: None)  # which would refuse it
    patch.setattr(workers, "train", train_and_mark)
    patch.setattr(runs, "_fetch", fetch_and_note)
    yield used
    patch.undo()


@pytest.fixture(autouse=True)
def as_before():
    """What a page adds to the library's tables is gone afterwards."""
    tables = [priors.PRIORS, data.DATASETS, arms.ARMS, experiments.EXPERIMENTS]
    with ExitStack() as stack:
        for table in tables:
            stack.enter_context(mock.patch.dict(table))
        yield


def execute(page: Path, parameters: dict[str, object]) -> tuple[str, dict[str, str]]:
    """All that a page's cells show with these parameters, as text, and what they glue, by name.
    Raises what a cell raises."""
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance()
    shown, glued = [], {}
    try:
        for cell in jupytext.reads(with_parameters(page.read_text(), parameters), fmt="md").cells:
            if cell.cell_type == "code":
                with capture_output() as captured:
                    result = shell.run_cell(cell.source)
                    result.raise_error()
                for output in captured.outputs:
                    if about := (output.metadata or {}).get("scrapbook"):
                        assert about["name"] not in glued, about
                        glued[about["name"]] = output.data[f"{about['mime_prefix']}text/plain"]
                    else:
                        shown.append(str(output.data))
                shown += [captured.stdout, str(shell.display_formatter.format(result.result)[0])]
    finally:
        InteractiveShell.clear_instance()
    return "\n".join(shown), glued


@pytest.mark.parametrize(
    ("page", "seeds"), CASES, ids=[f"{page.stem}-{len(seeds)}" for page, seeds in CASES]
)
@pytest.mark.filterwarnings("ignore")
def test_a_page_glues_its_numbers_and_names_every_replica_that_diverged(page, seeds, used):
    used.clear()
    shown, glued = execute(page, {"profile": "quick", **seeds})
    for name, form in GLUED.findall(page.read_text()):
        assert format_plain_text(glued[name], form), name
    assert used
    for config in used:
        if config.seed == WILD:
            assert f"seed {WILD}: epoch 1, step {code(config)}" in shown, config
