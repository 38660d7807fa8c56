"""Pages whose replicas diverge: each is executed with tiny runs, and says who diverged, and where.

Two ways: one seed of two diverges in every arm; or the only one does.
"""

import ast
import re
import warnings
import zlib
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from unittest import mock

import jupytext
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.pylabtools import select_figure_formats
from IPython.utils.capture import capture_output

from vaenotes import priors, training
from vaenotes.config import Config
from vaenotes.data import load as data
from vaenotes.lab import pictures, runs, workers
from vaenotes.report import arms, experiments, known, settings, sliders
from vaenotes.report.page import with_parameters

BOOK = Path(__file__).parents[1] / "book"
WILD = 1  # the seed that diverges
pytestmark = pytest.mark.slow


TRAINS = ("report.Page(globals(), ", "report.experiment(", "report.on_data(", "report.run_arms(",
          "lab.run(", "known.run(")  # fmt: skip
PAGES = [
    page
    for page in sorted(BOOK.rglob("*.md"))
    if "_build" not in page.parts and any(call in page.read_text() for call in TRAINS)
]
GLUED = re.compile(r"\{glue:text\}`([^`:]+):?([^`]*)`")


def code(config: Config) -> int:
    """A number for all that makes a replica but its seed: to find its arm in a page's output."""
    return zlib.crc32(repr(replace(config, seed=0)).encode())


@pytest.fixture(scope="module")
def used(tmp_path_factory):
    """The replicas that are fetched: of small profiles, and in which the seed WILD diverges."""
    used: set[Config] = set()
    patch = pytest.MonkeyPatch()
    patch.setenv("VAENOTES_STORE", str(tmp_path_factory.mktemp("store")))
    tiny = replace(settings.PROFILES["quick"], epochs=2, images=512, hidden=8)
    patch.setitem(settings.PROFILES, "quick", tiny)
    few = {
        name: replace(arm, rounds=1, changes={**arm.changes, "images": 128, "batch": 64})
        for name, arm in known.arms().items()
    }
    patch.setattr(known, "arms", lambda: few)
    patch.setattr(sliders, "MOST", 2)
    patch.setattr(pictures, "SCALES", pictures.SCALES[[0, 4, -1]])
    patch.setattr(workers, "WORTH_PROCESSES", float("inf"))  # in this process, where patches hold
    epoch, train, fetch = training.Ensemble.epoch, workers.train, runs.fetch

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
    patch.setattr(workers, "train", train_and_mark)
    patch.setattr(runs, "fetch", fetch_and_note)
    yield used
    patch.undo()


@pytest.fixture
def as_before():
    """What a page adds to the library's tables is gone afterwards."""
    with ExitStack() as stack:
        for table in (priors.PRIORS, data.DATASETS, arms.ARMS, experiments.EXPERIMENTS):
            stack.enter_context(mock.patch.dict(table))
        yield


def execute(page: Path, **parameters: object) -> tuple[str, dict[str, str]]:
    """All that a page's cells show with these parameters, as text, and what they glue, by name.
    Raises what a cell raises."""
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance()
    select_figure_formats(shell, {"svg"})
    shown, glued = [], {}
    try:
        for cell in jupytext.reads(with_parameters(page.read_text(), parameters), fmt="md").cells:
            if cell.cell_type != "code":
                continue
            with capture_output() as captured:
                result = shell.run_cell(cell.source)
                result.raise_error()
            for output in captured.outputs:
                if name := (output.metadata or {}).get("scrapbook", {}).get("name"):
                    assert name not in glued, name
                    glued[name] = next(
                        v for k, v in output.data.items() if k.endswith("text/plain")
                    )
                else:
                    shown.append(str(output.data))
            shown += [captured.stdout, str(shell.display_formatter.format(result.result)[0])]
    finally:
        InteractiveShell.clear_instance()
    return "\n".join(shown), glued


def as_text(value: str, form: str) -> str:
    """A glued value as the prose shows it. Raises ValueError for a form that it cannot have."""
    number = float(value) if value in ("nan", "inf", "-inf") else ast.literal_eval(value)
    return format(number, form)


@pytest.mark.parametrize("seeds", [{"seeds": 2}, {"seeds": 1, "first_seed": WILD}], ids=str)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
@pytest.mark.filterwarnings("ignore")
def test_a_page_glues_its_numbers_and_names_every_replica_that_diverged(
    page, seeds, used, as_before
):
    used.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shown, glued = execute(page, profile="quick", **seeds)
    for name, form in GLUED.findall(page.read_text()):
        assert as_text(glued[name], form)
    wild = [config for config in used if config.seed == WILD]
    assert used
    for config in wild:
        assert f"seed {WILD}: epoch 1, step {code(config)}" in shown, config
