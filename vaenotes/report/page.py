"""A page of the book as a notebook: its parameters, its runs, and every number that it shows.

A page's source holds no cell of parameters: `with_parameters` puts it in wherever a page is read,
by papermill and by the build, and with it the names of the numbers that the prose asks for.
Starting either stays quick: torch is imported by `Page` alone.
"""

from __future__ import annotations

import html
import re
import shlex
import warnings
from ast import literal_eval
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

from vaenotes.errors import ParameterError, check, meant
from vaenotes.report.settings import Settings

if TYPE_CHECKING:
    import xarray as xr

    from vaenotes.config import Config
    from vaenotes.data.dataset import Dataset
    from vaenotes.lab.summary import Interval
    from vaenotes.model import VAE
    from vaenotes.report.experiments import Outcome

CELL = "```{code-cell}"
ASKED = re.compile(r"\{glue:text\}`([^`:]+)")
"""The name of a number that the prose asks for."""
FEW = 20
"""Below so many replicas a share of them is told as a count."""
OF_PYTHON = re.compile(r"__\w+__|_{1,3}|_i{1,3}|_i?\d+|_[ido]h|_asked|_given|In|Out")
"""Names of a notebook's that Python, IPython or `with_parameters` gives."""
PLAIN = (bool, int, float, str, list, tuple, dict, type(None))  # what papermill passes on


class Page:
    """What a page needs, from its globals and the names of its experiments: checked parameters,
    runs, found or trained, and every finding, glued for the prose.

        page = Page(globals(), "means")
        page                            # shows which parameters differ from the defaults, if any
        page.runs["notes"]              # xarray, over (replica, epoch, node, dim), by arm
        page.findings["notes.within"]   # an Interval

    Raises ParameterError, in one line, for a parameter that there is not or a value that is not
    allowed.
    """

    def __init__(self, namespace: Mapping[str, Any], *experiments: str):
        from vaenotes.report.experiments import Outcome, experiment
        from vaenotes.report.figures import use_svg

        use_svg()
        self.settings = check_parameters(namespace)
        self._asked = namespace.get("_asked")  # None where no page's source was read
        nothing = Outcome({}, {})
        self.outcome = experiment(self.settings, *experiments) if experiments else nothing
        self.runs, self.findings = self.outcome
        self.titled = self.outcome.titled
        self.glue(**numbers(self.outcome))

    @property
    def shown(self) -> xr.Dataset:
        """The replica of the notes' arm that figures show, of a replica axis of length one."""
        from vaenotes.lab.summary import representative

        runs = self.runs["notes"]
        return runs.isel(replica=[representative(runs)])

    @property
    def used_dim(self) -> int:
        """Of that replica the dim, from 1, that its first node uses most."""
        from vaenotes.lab.summary import most_and_least_used

        most, _ = most_and_least_used(self.shown.isel(replica=0))
        return int(most[0]) + 1

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
        """Make values available to the prose, by name, numbers as Python's own: those that it asks
        for, as each is a message of its own, of which Jupyter loses some if they are thousands."""
        from myst_nb import glue

        for name, value in values.items():
            if self._asked is not None and name not in self._asked:
                continue
            if hasattr(value, "item"):  # numpy's, xarray's and torch's
                value = value.item()
            glue(name, value, display=False)

    def _ipython_display_(self) -> None:
        from IPython.display import display

        if used := self.settings.changed:
            said = f"Computed with {used}; the text describes the defaults."
            page = f"<p><em>{html.escape(said)}</em></p>"  # as text: a file's name is anybody's
            display({"text/plain": said, "text/html": page}, raw=True)


def numbers(outcome: Outcome) -> dict[str, Any]:
    """All that the prose may ask of an outcome. Of a finding: its value by its name, its ends by
    NAME_low and NAME_high, and the replicas behind it by NAME_n; if it is a share of replicas, in
    words by NAME_told. Of a claim that it can judge: verdict.CLAIM. Of an arm: ARM.count and
    ARM.count_OUTCOME, replicas in all and of that outcome. Of the replica shown: shown_seed, and
    shown_images, of how many images the codes at the end are kept."""
    from vaenotes.lab.measures import SHARE
    from vaenotes.lab.summary import counts, representative, spread
    from vaenotes.report.claims import claims, measure_of, verdict

    found: dict[str, Any] = {**spread(outcome.findings)}
    for name, finding in outcome.findings.items():
        if measure_of(name).unit == SHARE:
            found[f"{name}_told"] = told(finding)
    for claim in claims():
        with suppress(KeyError):  # of a claim whose arms this outcome does not have
            found[f"verdict.{claim.id}"] = verdict(claim, outcome.findings)
    for name, runs in outcome.runs.items():
        found[f"{name}.count"] = runs.sizes["replica"]
        for kind, count in counts(runs).items():
            found[f"{name}.count_{kind.replace(' ', '_')}"] = count
    if "notes" in outcome.runs:
        notes = outcome.runs["notes"]
        found["shown_seed"] = int(notes.seed[representative(notes)])
        found["shown_images"] = notes.sizes["image"]
    return found


def told(share: Interval) -> str:
    """A share of replicas in words: "7 of 9", or, of FEW or more, "78% of 90"."""
    if share.replicas < FEW:
        return f"{share.replicas and round(share.value * share.replicas)} of {share.replicas}"
    return f"{share.value:.0%} of {share.replicas}"


def with_parameters(text: str, values: Mapping[str, Any] = {}, note: str = "") -> str:
    """A page's source with two cells before its first: one that sets the parameters, to their
    defaults or to these values, under a comment if there is a note, and one that names what the
    prose asks for. Prose, which has no cell, as it is."""
    text = text.removeprefix("\ufeff")  # with which no page would be a notebook to myst-nb
    before, cell, after = text.partition(CELL)
    if not cell:
        return text
    lines = [
        f"{one.name}: {_annotation(one.type)} = {values.get(one.name, one.default)!r}"
        f"  # {one.metadata['about']}"
        for one in fields(Settings)
    ]
    lines = [f"# {note}", *lines] if note else lines
    fence = [f"{CELL} python3", ":tags: [parameters, remove-input]", "", *lines, "```", "", ""]
    fence += [f"{CELL} python3", ":tags: [remove-cell]", ""]
    fence += [f"_asked = {sorted(set(ASKED.findall(text)))}", "_given = dict(globals())"]
    fence += ["```", "", ""]
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
        check(name not in parameters, f"parameters must have {name} once", word)
        try:
            parameters[name] = value if "#" in value else literal_eval(value)
        except (SyntaxError, TypeError, ValueError):  # a word
            parameters[name] = value
    return parameters


def check_parameters(namespace: Mapping[str, Any]) -> Settings:
    """Turn a notebook's globals, right after its imports, into checked Settings.

    papermill passes on any name with any plain value. So every name with such a value that is not
    one of the six parameters, nor Python's, counts as a misspelt one. One that the page's imports
    take for themselves is still in `_given`, the globals before them.
    Raises ParameterError, in one line.
    """
    allowed = [one.name for one in fields(Settings)]
    for name, value in [*namespace.get("_given", {}).items(), *namespace.items()]:
        own = name in allowed or OF_PYTHON.fullmatch(name)
        if isinstance(value, PLAIN) and not own:
            hint = meant(name, allowed)
            raise ParameterError(
                f"unknown parameter {name!r}{hint} (allowed: {', '.join(allowed)})"
            )
    return Settings(**{name: namespace[name] for name in allowed if name in namespace})


def _make_papermill_handler() -> Any:
    """papermill's handler of local files, taught to read MyST pages as notebooks; and papermill
    itself to refuse what is no name, which it would run."""
    import jupytext
    from papermill.iorw import papermill_io
    from papermill.translators import PythonTranslator, papermill_translators

    class Named(PythonTranslator):  # type: ignore[misc]
        @classmethod
        def assign(cls, name: Any, str_val: str) -> str:
            fits = isinstance(name, str) and name.isidentifier()
            check(fits, "a parameter must have a name of letters, digits and _", name)
            return super().assign(name, str_val)

    papermill_translators.register("python", Named)

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
