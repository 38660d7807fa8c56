"""What a build adds to its pages: where each figure, number and page comes from.

Every figure that a cell made links the source that drew it, which the cell calls by name; every
executed page can be downloaded as a notebook with its numbers in place; a line at the foot names
the commit, and a banner at the top parameters that are not the defaults; search engines are told
a page's answer, and programs find the whole described in `codemeta.json`. Where the repository's
address is known, which is in its workflow alone, pages link it and open in Colab. Pages can use the
substitutions `commit`, `versions`, `hardware`, `citation`, `bibtex`, `licences`, `soak` and
`attacks`. Those are parsed, as Jinja and as Markdown; the parameters, which are whatever a user
typed, are not: the role `{parameters}` shows them.
"""

from __future__ import annotations

import html
import os
import re
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import nbformat
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

from vaenotes_book import facts
from vaenotes_book.build import Build
from vaenotes_book.toolchain import glued, plain, take_glued_out

logger = logging.getLogger(__name__)


def _tell(build: Build, app: Sphinx, config: Config) -> None:
    """The substitutions; the line at the foot of every page, and what stands above it."""
    root, address = Path(app.srcdir).parent, facts.repository(os.environ)
    file = root / "CITATION.cff"
    text, bibtex = facts.citation(file, config.copyright, build.commit, address)
    rows = [f"| {name} | {number} |" for name, number in facts.installed_versions().items()]
    config.myst_substitutions = config.myst_substitutions | {
        "commit": f"`{build.commit}`",
        "hardware": facts.hardware(),
        "versions": "\n".join(["| package | version |", "|---|---|", *rows]),
        "citation": text,
        "bibtex": f"```bibtex\n{bibtex}\n```",
        "licences": facts.licences(),
        "soak": facts.trials(root / "tests" / "soak.json"),
        "attacks": facts.trials(root / "tests" / "attacks.json"),
    }
    used = html.escape(build.settings.changed)
    foot = f"Built from commit {build.commit}; pages executed with {used or 'default parameters'}."
    top = f"""These are not the published pages: they were computed with {used}. The text describes
        the defaults; nan stands where no replica has what is asked for."""
    shown = {"extra_footer": foot, "announcement": top if used else ""}
    if address:
        shown |= {"repository_url": address, "use_repository_button": True}
        shown["repository_provider"] = "github"  # or of GitHub's own servers alone it is known
    config.html_theme_options = config.html_theme_options | shown


def _parameters(build: Build, *role: Any, **options: Any) -> tuple[list[nodes.Node], list[Any]]:
    """The role `parameters`: each with its value, as text."""
    shown: list[nodes.Node] = []
    for name, value in asdict(build.settings).items():
        shown += [nodes.Text(", ")] if shown else []
        shown.append(nodes.literal("", f"{name} = {value!r}"))
    return shown, []


def _describe_all(build: Build, app: Sphinx, error: Exception | None) -> None:
    if error is None and app.builder.format == "html":
        file = Path(app.srcdir).parent / "CITATION.cff"
        address, parameters = facts.repository(os.environ), asdict(build.settings)
        text = facts.codemeta(file, app.config.html_title, build.commit, parameters, address)
        (Path(app.outdir) / "codemeta.json").write_text(text, "utf-8")


# The source of every figure

CALL = re.compile(
    r"(?<![\w.])((?:lab|report)\.(?:plots|pictures|nails|figures|front|law_figures|sliders|units|widths)"
    r"|figures)\.(\w+)\("
)
"""Who draws in a cell; `figures` alone are those of a diagnosis."""


def calls_in(source: str) -> list[tuple[str, str]]:
    """The (module, function) pairs that a cell calls to draw, each once."""
    return list(dict.fromkeys(CALL.findall(source)))


def _add_sources(build: Build, app: Sphinx, doctree: nodes.document, name: str) -> None:
    for figure in list(doctree.findall(nodes.figure)):
        cell = figure.parent
        while cell is not None and "cell_index" not in cell:
            cell = cell.parent
        if cell is None:  # no cell made it
            continue
        calls = calls_in(build.notebooks[name].cells[cell["cell_index"]].source)
        caption = figure.next_node(nodes.caption)
        if not calls or caption is None:
            message = "no source to link: a cell that makes a figure needs a caption, and a call of"
            logger.warning(f"{message} lab.plots.NAME(...) or the like", location=figure)
            continue
        links = []
        for module, function in calls:
            path = module.replace(".", "/") if "." in module else f"diagnosis/{module}"
            page = app.builder.get_relative_uri(name, f"_modules/vaenotes/{path}")
            links.append(f'<a href="{page}#{function}">{module}.{function}</a>')
        note = f'<span class="figure-source">Source: {", ".join(links)} at {build.commit}</span>'
        caption += nodes.raw("", f" {note}", format="html")


# How numbers and words read

POWER = re.compile(r"([+-]?[\d.]+)e([+-])0*(\d+)")
RAISED = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def readable(number: str) -> str:
    """A formatted number as one prints it: no sign before a zero, 2 × 10⁻⁷ and no 2e-07, and a
    minus as long as a plus. Any other text as it is."""
    try:
        value = float(number.removesuffix("%"))
    except ValueError:
        return number
    if value == 0:
        number = number.lstrip("+-").partition("e")[0]
    elif power := POWER.fullmatch(number):
        sign = power[2].removeprefix("+")
        number = f"{power[1]} × 10{f'{sign}{power[3]}'.translate(RAISED)}"
    return number.replace("-", "\N{MINUS SIGN}")


def _write_readably(app: Sphinx, doctree: nodes.document, name: str) -> None:
    for inline in doctree.findall(nodes.inline):
        if "pasted-text" in inline["classes"]:
            inline.children = [nodes.Text(readable(inline.astext()))]


def _explain(meanings: dict[str, str], app: Sphinx, doctree: nodes.document, name: str) -> None:
    """A word of the glossary says what it means where it is read, without a click. `meanings`:
    filled at the first page."""
    if not meanings:
        meanings |= _glossary(app.env)
    for link in doctree.findall(nodes.reference):
        if any("std-term" in inline["classes"] for inline in link.findall(nodes.inline)):
            anchor = link.get("refid") or link["refuri"].rpartition("#")[2]
            link["reftitle"] = meanings[anchor]


def _glossary(env: BuildEnvironment) -> dict[str, str]:
    """The first paragraph of every definition as plain text, by the anchors of its terms."""
    found = {}
    objects = env.get_domain("std").get_objects()
    for page in {docname for _, _, kind, docname, _, _ in objects if kind == "term"}:
        for item in env.get_doctree(page).findall(nodes.definition_list_item):
            text = " ".join(
                item.next_node(nodes.definition).next_node(nodes.paragraph).astext().split()
            )
            found |= {anchor: text for term in item.findall(nodes.term) for anchor in term["ids"]}
    return found


# What search engines and link previews are told of a page

SENTENCE = re.compile(r".*?[.?!](?=\s+[^\sa-z]|$)")
LONGEST = 300
"""Characters of a description; search engines show about half of that."""


def description(doctree: nodes.document) -> str:
    """A page in a sentence: its answer's first, or else its first paragraph's; "" without any."""
    paragraphs = [
        node
        for node in doctree.findall(nodes.paragraph)
        if isinstance(node.parent, nodes.section | nodes.document | nodes.Admonition)
    ]
    texts = [" ".join(one.astext().split()) for one in paragraphs]
    answers = [text.removeprefix("Answer. ") for text in texts if text.startswith("Answer. ")]
    text = next(iter(answers + texts), "")
    found = SENTENCE.match(text)
    text = found[0] if found else text
    return text if len(text) <= LONGEST else f"{text[:LONGEST].rpartition(' ')[0]} \u2026"


def _describe(app: Sphinx, name: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    if doctree is not None and (told := description(doctree)):
        tag = f'<meta name="description" content="{html.escape(told)}" />'
        context["metatags"] = f"{context.get('metatags', '')}\n    {tag}"


# Every executed page as a notebook

NOTEBOOKS = "notebooks"
"""The branch into which the workflow puts them, as Colab reads them from a repository alone."""
COLAB = """\
# Only on Google Colab: elsewhere the library is installed, or this page would not have been made.
import sys

if "google.colab" in sys.modules:
    %pip install -q "vaenotes[book] @ git+{address}{revision}"
"""


def colab_address(address: str, name: str) -> str:
    """Where Colab opens a page, of a repository on github.com; "" for any other."""
    prefix = "https://github.com/"
    if not address.startswith(prefix):
        return ""
    path = f"{address.removeprefix(prefix)}/blob/{NOTEBOOKS}/{name}.ipynb"
    return f"https://colab.research.google.com/github/{path}"


def installs(address: str, commit: str) -> nbformat.NotebookNode:
    """The cell that brings the library to Colab, as it was when the page was made."""
    known = re.fullmatch(r"[0-9a-f]{7,40}", commit)
    source = COLAB.format(address=address, revision=f"@{commit}" if known else "")
    return nbformat.v4.new_code_cell(source.rstrip())


def _launch(app: Sphinx, name: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """A button that opens the page in Colab: a link, so nothing is asked for until it is used."""
    url = colab_address(facts.repository(os.environ), name)
    if url and "ipynb_source" in context:
        context["header_buttons"].insert(
            0,
            {
                "type": "link",
                "url": url,
                "tooltip": "Run this page on Google Colab",
                "icon": "fas fa-rocket",
                "label": "launch-colab",
            },
        )


GLUED = re.compile(r"\{glue:text\}`(?:([^`]+?)::)?([^`:]+):?([^`]*)`")
"""Page, key and format; the first and the last may be missing."""


def with_numbers(text: str, env: BuildEnvironment, name: str) -> str:
    """A page's prose with the numbers that it shows: in Jupyter their roles would stay."""

    def number(role: re.Match[str]) -> str:
        page, key, form = role.groups()
        home = env.path2doc(env.relfn2path(page, name)[1]) if page else name
        found = glued(env, home).get(key)
        return readable(plain(found, form)) if found else role[0]

    return GLUED.sub(number, text)


def _offer(
    build: Build, app: Sphinx, name: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Put the notebook where the theme's download button looks, without what is of no use there:
    warnings, glued values and their names, and where lines stood."""
    if name not in build.notebooks:
        return
    notebook = build.notebooks[name]
    kept = {key: notebook.metadata[key] for key in ("kernelspec", "language_info")}
    notebook.metadata = nbformat.from_dict(kept)
    notebook.cells = [one for one in notebook.cells if not one.source.startswith("_asked = ")]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            take_glued_out(cell)
            cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
        else:
            cell.source = with_numbers(cell.source, app.env, name)
    if address := facts.repository(os.environ):
        notebook.cells.insert(0, installs(address, build.commit))
    path = Path(app.outdir) / "_sources" / f"{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    context["ipynb_source"] = f"{name}.ipynb"


def setup(app: Sphinx, build: Build) -> None:
    app.add_role("parameters", partial(_parameters, build))
    app.connect("config-inited", partial(_tell, build))
    app.connect("doctree-resolved", partial(_add_sources, build))
    app.connect("doctree-resolved", _write_readably)
    app.connect("doctree-resolved", partial(_explain, {}))
    app.connect("html-page-context", partial(_offer, build))
    app.connect("html-page-context", _describe)
    app.connect("html-page-context", _launch, priority=502)  # when the theme has made its own
    app.connect("build-finished", partial(_describe_all, build))
