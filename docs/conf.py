# SPDX-License-Identifier: MIT
"""The documentation's site: `make docs`. Nothing is fetched from the network while it is built, and its pages need none either.

Pages are Markdown that a code host shows as well. What differs on the site is made here: the READMEs of examples/ become pages, links to folders become links to
those pages, and a block of names marked {api} becomes the reference of these names.
"""
import importlib
import inspect
import os
import pathlib
import re

import openmmspacetime

DOCS = pathlib.Path(__file__).resolve().parent
ROOT = DOCS.parent
# Markdown of other folders that becomes pages here: where it lies, and its page.
COPIED = {readme: DOCS/"examples"/("all.md" if readme.parent.name == "examples" else f"{readme.parent.name}.md") for readme in sorted((ROOT/"examples").glob("**/README.md"))}
COPIED.update({ROOT/f"{name}.md": DOCS/"project"/f"{name.lower()}.md" for name in ("CONTRIBUTING", "CHANGELOG") if (ROOT/f"{name}.md").exists()})
BUILD = ROOT/"build"/"docs"

project = "openmm-spacetime"
author = "the authors of openmm-spacetime"
version = release = openmmspacetime.__version__
copyright = "the authors; MIT licence"

extensions = ["myst_parser", "sphinx_external_toc", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon", "sphinx.ext.mathjax", "sphinx-mathjax-offline", "sphinx_copybutton",
              "breathe"]
if os.environ.get("SPACETIME_DOCS_INTERSPHINX"):  # links to the pages of Python, numpy and OpenMM, which have to be fetched
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {"python": ("https://docs.python.org/3", None), "numpy": ("https://numpy.org/doc/stable", None)}

external_toc_path = "_toc.yml"
exclude_patterns = ["figures/README.md"]
myst_enable_extensions = ["dollarmath"]
myst_fence_as_directive = ["math"]
myst_heading_anchors = 3
# A namespace is declared anew by every header; what a glob of the table of contents looks for need not be there yet.
# Names of dimensions in shapes ([steps, n]) look like attributes of that name.
suppress_warnings = ["duplicate_declaration.cpp", "etoc.glob", "ref.python"]

smartquotes_action = "D"  # dashes; F'' is a derivative

html_theme = "furo"
html_title = f"openmm-spacetime {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
pygments_style, pygments_dark_style = "friendly", "monokai"
copybutton_exclude = ".linenos, .gp, .go"

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autosummary_generate = False
napoleon_google_docstring = False
napoleon_use_param = False
napoleon_use_rtype = False
napoleon_use_ivar = False
napoleon_custom_sections = [("Further attributes", "Attributes")]
python_maximum_signature_line_length = 120
toc_object_entries_show_parents = "hide"

breathe_projects = {"spacetime": str(BUILD/"doxygen"/"xml")}
breathe_default_project = "spacetime"
breathe_default_members = ("members",)
breathe_show_include = False
cpp_id_attributes = ["SPACETIME_EXPORT", "OPENMM_EXPORT"]

# References to names of other projects lead nowhere without their inventories; those to our own must lead somewhere.
nitpick_ignore_regex = [("py:.*", r"(?!openmmspacetime\.|st\.).*"), ("cpp:.*", r".*")]

LINK = re.compile(r"(!?\[[^\]\n]*\])\(([^)#\s]+)((?:#[^)]*)?)\)")


def _siteLinks(text, place, page):
    """Links of the file `place` as the site's `page` (both paths) has them; inside code nothing is a link."""
    def replace(match):
        label, target, anchor = match.groups()
        path = (place.parent/target).resolve()
        if "://" in target or not path.is_relative_to(ROOT):
            return match.group(0)
        path = COPIED.get(path/"README.md" if path.is_dir() else path, path)
        if path.is_dir() or (path.suffix == ".md" and not path.is_relative_to(DOCS)):
            return label.strip("[]")
        return f"{label}({os.path.relpath(path, page.parent)}{anchor})"

    parts = re.split(r"(^```.*?^```)", text, flags=re.S | re.M)
    return "".join(part if part.startswith("```") else LINK.sub(replace, part) for part in parts)


def _writeCopies():
    for place, page in COPIED.items():
        page.parent.mkdir(exist_ok=True)
        text = _siteLinks(place.read_text(encoding="utf-8"), place, page)
        if not page.exists() or page.read_text(encoding="utf-8") != text:
            page.write_text(text, encoding="utf-8")


def _reference(names):
    """reStructuredText of the names of openmmspacetime: a table of what they do, then each in full."""
    module = ".".join(["openmmspacetime", *names[0].split(".")[:-1]])
    names = [name.split(".")[-1] for name in names]
    lines = [f".. currentmodule:: {module}", "", ".. autosummary::", ""] + [f"   {name}" for name in names] + [""]
    for name in names:
        thing = getattr(importlib.import_module(module), name)
        if not inspect.isclass(thing):
            lines += [f".. autofunction:: {name}", ""]
            continue
        # Static methods of the extension look like data.
        static = [key for key, value in vars(thing).items() if type(value).__name__ == "nb_func" and not key.startswith("_")]
        made = (thing.__init__.__doc__ or "").split("\n")[0]
        made = _short(made.removeprefix("__init__").rpartition(" -> ")[0]) if made.startswith("__init__(self") else ""
        lines += [f".. autoclass:: {name}{made}", "   :members:", *(["   :exclude-members: "+", ".join(static)] if static else []),
                  *(["   :show-inheritance:"] if any(_isPublic(base) for base in thing.__bases__) else []), ""]
        for key in static:
            lines += [f"   .. automethod:: {name}.{key}", ""]
    return "```{eval-rst}\n" + "\n".join(lines) + "\n```"


def _prepareSource(app, page, source):
    place = DOCS/f"{page}.md"
    if place not in COPIED.values():
        source[0] = _siteLinks(source[0], place, place)
    source[0] = re.sub(r"^```\{api\}\n(.*?)^```", lambda match: _reference(match.group(1).split()), source[0], flags=re.S | re.M)


def _isPublic(base):
    """Whether a base class is one that can be looked up."""
    return base is not object and not base.__name__.startswith("_") and base.__module__ != "openmmspacetime.openmm_wrapper"


def _publicBases(app, name, thing, options, bases):
    bases[:] = [base for base in bases if _isPublic(base)] or [object]


def _short(text):
    """A signature of the extension as one would write it."""
    text = re.sub(r"numpy\.ndarray\[[^\]]*\]", "ndarray", text)
    text = re.sub(r"openmmspacetime\.\w+\.(?=\w)", "", text)
    return re.sub(r"(collections\.abc|typing|pathlib|numpy|os)\.(?=[A-Za-z])", "", text).replace("(self, ", "(").replace("(self)", "()")


def _signature(app, what, name, thing, options, signature, returns):
    return signature and _short(signature), returns and _short(returns)


def _docstring(app, what, name, thing, options, lines):
    if what == "property" and lines:
        # What has no words of its own says at least its type. A colon would divide a type from words.
        lines[0] = re.sub(r"^\(self\) -> (.*)", lambda match: f"*{_short(match.group(1))}*", lines[0]).replace(": ", " – ", 1)
    inMath = False
    for i, line in enumerate(lines):
        if line.strip():
            inMath = ".. math::" in line or (inMath and line.startswith(" "))
        if "|" in line and not inMath and not line.lstrip().startswith(">>>"):
            # |x| in a docstring is a size, not a substitution.
            lines[i] = "".join(part if k % 2 else re.sub(r"(?<!\\)\|", r"\|", part) for k, part in enumerate(re.split(r"(`+[^`]*`+)", line)))


def setup(app):
    _writeCopies()
    app.connect("source-read", _prepareSource)
    app.connect("autodoc-process-signature", _signature)
    app.connect("autodoc-process-docstring", _docstring, priority=400)  # before napoleon
    app.connect("autodoc-process-bases", _publicBases)
