"""A page of the book as a notebook: its parameters, its runs, and every number that it shows.

A page's source holds no cell of parameters: `with_parameters` puts it in wherever a page is read,
by papermill and by the build. Starting either stays quick: torch is imported by `Page` alone.
"""

from __future__ import annotations

import shlex
import warnings
from ast import literal_eval
from collections.abc import Collection, Mapping
from dataclasses import fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

from vaenotes.errors import ParameterError, check, meant
from vaenotes.report.settings import Settings

if TYPE_CHECKING:
    import xarray as xr

    from vaenotes.config import Config
    from vaenotes.data.dataset import Dataset
    from vaenotes.model import VAE
    from vaenotes.report.experiments import Outcome

CELL = "```{code-cell}"
PLAIN = (bool, int, float, str, list, tuple, dict, type(None))  # what papermill passes on


class Page:
    """What a page needs, from its globals and the names of its experiments: checked parameters,
    runs, found or trained, and every finding, glued for the prose.

        page = Page(globals(), "means")
        page                            # shows which parameters differ from the defaults
        page.runs["notes"]              # xarray, over (replica, epoch, node, dim), by arm
        page.findings["notes.within"]   # an Interval

    `glued`: the names of the numbers to glue, if not all: Jupyter loses messages that come by the
    thousand, as those of all experiments would.

    Raises ParameterError, in one line, for a parameter that there is not or a value that is not
    allowed.
    """

    def __init__(
        self,
        namespace: Mapping[str, Any],
        *experiments: str,
        glued: Collection[str] | None = None,
    ):
        from vaenotes.report.experiments import Outcome, experiment
        from vaenotes.report.figures import use_svg

        use_svg()
        self.settings = check_parameters(namespace)
        nothing = Outcome({}, {})
        self.outcome = experiment(self.settings, *experiments) if experiments else nothing
        self.runs, self.findings = self.outcome
        self.titled = self.outcome.titled
        found = numbers(self.outcome)
        self.glue(**{name: found[name] for name in (found if glued is None else glued)})

    @property
    def shown(self) -> xr.Dataset:
        """The replica of the notes' arm that figures show, of a replica axis of length one."""
        from vaenotes.lab.summary import representative

        runs = self.runs["notes"]
        return runs.isel(replica=[representative(runs)])

    @cached_property
    def config(self) -> Config:
        """The configuration of that replica."""
        from vaenotes.report.arms import arm

        seed = int(self.shown.seed[0])
        return next(config for config in arm(self.settings) if config.seed == seed)

    @cached_property
    def model(self) -> VAE:
        """The model of that replica, as trained."""
        from vaenotes.lab import load_model

        return load_model(self.config)

    @cached_property
    def dataset(self) -> Dataset:
        """The data that it was trained on."""
        from vaenotes.lab import load_data

        return load_data(self.config)

    def glue(self, **values: Any) -> None:
        """Make values available to the prose, by name, numbers as Python's own."""
        from myst_nb import glue

        for name, value in values.items():
            if hasattr(value, "item"):  # numpy's, xarray's and torch's
                value = value.item()
            glue(name, value, display=False)

    def _repr_markdown_(self) -> str:
        if not self.settings.changed:
            return "*Computed with the default parameters.*"
        return f"*Computed with {self.settings.changed}; the text describes the defaults.*"


def numbers(outcome: Outcome) -> dict[str, Any]:
    """All that the prose may ask of an outcome. Of a finding: its value by its name, its ends by
    NAME_low and NAME_high, and the replicas behind it by NAME_n. Of an arm: ARM.count and
    ARM.count_OUTCOME, replicas in all and of that outcome. Of the replica shown: shown_seed, and
    shown_images, of how many images the codes at the end are kept."""
    from vaenotes.lab.summary import counts, representative, spread

    found: dict[str, Any] = {**spread(outcome.findings)}
    for name, runs in outcome.runs.items():
        found[f"{name}.count"] = runs.sizes["replica"]
        for kind, count in counts(runs).items():
            found[f"{name}.count_{kind.replace(' ', '_')}"] = count
    if "notes" in outcome.runs:
        notes = outcome.runs["notes"]
        found["shown_seed"] = int(notes.seed[representative(notes)])
        found["shown_images"] = notes.sizes["image"]
    return found


def with_parameters(text: str, values: Mapping[str, Any] = {}) -> str:
    """A page's source with a cell that sets the parameters, to their defaults or to these values,
    before its first cell; prose, which has none, as it is."""
    before, cell, after = text.partition(CELL)
    if not cell:
        return text
    lines = [
        f"{one.name}: {_annotation(one.type)} = {values.get(one.name, one.default)!r}"
        f"  # {one.metadata['about']}"
        for one in fields(Settings)
    ]
    fence = [f"{CELL} python3", ":tags: [parameters, remove-input]", "", *lines, "```", "", ""]
    return before + "\n".join(fence) + cell + after


def _annotation(of: Any) -> str:
    """As papermill reads it, which knows no `int | None`; quoted, as nothing here imports it."""
    return of.__name__ if isinstance(of, type) else '"Optional[int]"'


def read_parameters(text: str) -> dict[str, Any]:
    """Parse "name=value name=value", quoted as in a shell; what is no number or None is text.

    Raises ParameterError for what is no such text; names and values are not checked here.
    """
    rule = "parameters must be name=value pairs"
    try:
        words = shlex.split(text)
    except ValueError as error:  # a quote that is not closed
        raise ParameterError(f"{rule}, got {text!r}: {error}") from None
    parameters: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        check(bool(name.isidentifier() and equals), rule, word)
        try:
            parameters[name] = literal_eval(value)
        except (SyntaxError, TypeError, ValueError):  # a word
            parameters[name] = value
    return parameters


def check_parameters(namespace: Mapping[str, Any]) -> Settings:
    """Turn a notebook's globals, right after its imports, into checked Settings.

    papermill passes on any name with any plain value. So every public name with such a value that
    is not one of the six parameters counts as a misspelt one; `In` and `Out` are IPython's.
    Raises ParameterError, in one line.
    """
    allowed = [one.name for one in fields(Settings)]
    for name, value in namespace.items():
        own = name.startswith("_") or name in ("In", "Out", *allowed)
        if isinstance(value, PLAIN) and not own:
            hint = meant(name, allowed)
            raise ParameterError(
                f"unknown parameter {name!r}{hint} (allowed: {', '.join(allowed)})"
            )
    return Settings(**{name: namespace[name] for name in allowed if name in namespace})


def _make_papermill_handler() -> Any:
    """papermill's handler of local files, taught to read MyST pages as notebooks."""
    import jupytext
    from papermill.iorw import papermill_io

    # papermill looks a handler up now first come, now last come, so a second one called "local"
    # would be served only half the time: the built-in object itself is changed, and given back.
    handler = papermill_io.get_handler("local")
    read_file = handler.read

    def read(path: str) -> str:
        text = read_file(path)
        if not path.endswith(".md"):
            return text
        return jupytext.writes(jupytext.reads(with_parameters(text), fmt="md"), fmt="ipynb")

    handler.read = read
    # papermill would warn on every run that a page's name does not end in .ipynb.
    warnings.filterwarnings("ignore", message=r"The specified file \(.*\.md\) does not end in")
    return handler


def __getattr__(name: str) -> Any:
    # Made when papermill asks for its entry point: importing papermill for every kernel would be
    # slow, and going round in a circle, as papermill imports this module while it is imported.
    if name == "papermill_handler":
        return _make_papermill_handler()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
