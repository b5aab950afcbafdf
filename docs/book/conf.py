"""Sphinx's settings: notebooks as they are committed, and nothing that is not on the reader's own disk."""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import docstrings
import names

import strokelib

project = "strokelib"
author = "The strokelib authors"
project_copyright = author
release = version = strokelib.__version__
language = "en"
root_doc = "index"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
exclude_patterns = ["**.ipynb_checkpoints"]
# What is left out on purpose, and why. Everything else that Sphinx warns of ends the build.
suppress_warnings = [
    # A list of files in a code block may be written in a language that is none.
    "misc.highlighting_failure",
    # MyST changes MathJax's settings so that it leaves dollars in outputs alone, and says so once.
    "myst.mathjax",
]

# Notebooks are shown with the outputs they are committed with: nothing is executed, no script is fetched for widgets.
nb_execution_mode = "off"
nb_ipywidgets_js = {}
nb_render_markdown_format = "gfm"
nb_number_source_lines = False
myst_enable_extensions = ["dollarmath", "amsmath", "html_image"]
myst_heading_anchors = 4
myst_dmath_double_inline = True

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
# Thousands of functions in the sidebar of each page would make it slow to build and to read.
toc_object_entries = False
autodoc_default_options = {"members": True, "ignore-module-all": True}

# One file, from the npm package mathjax (_static/mathjax/README.md). Its menu would fetch speech rules: it is off.
mathjax_path = "mathjax/tex-svg.js"
mathjax3_config = {"options": {"enableMenu": False}, "svg": {"fontCache": "local"}}

html_theme = "sphinx_book_theme"
html_title = "strokelib"
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_favicon = "_static/favicon.svg"
html_context = {"default_mode": "auto"}
html_last_updated_fmt = None
html_show_sphinx = False
html_theme_options = {
    "use_download_button": True,
    "use_fullscreen_button": False,
    "home_page_in_toc": True,
    "show_navbar_depth": 1,
    "max_navbar_depth": 2,
    "show_toc_level": 2,
    "search_bar_text": "Search the book",
    "extra_footer": "<p>For research and teaching. strokelib is no medical device.</p>",
}

VIEWABLE = re.compile(r'(<a class="reference download internal") download="" (href="[^"]+\.(?:png|txt|svg)")')


def viewable(app, pagename, templatename, context, doctree):
    """A linked picture opens in the browser; Sphinx would have it saved."""
    if "body" in context:
        context["body"] = VIEWABLE.sub(r"\1 \2", context["body"])


def setup(app):
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", docstrings.process, priority=100)  # before napoleon's 500
    app.connect("autodoc-process-signature", docstrings.signed)
    app.connect("doctree-read", names.resolve)
    app.connect("doctree-read", names.led)
    app.connect("doctree-read", names.described)
    app.connect("missing-reference", names.missing)
    app.connect("html-page-context", viewable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
