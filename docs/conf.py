"""Sphinx configuration of the book; `docs/book.py` gathers the pages and calls Sphinx."""

project = "AlexNet, executable"
author = "the authors of AlexNet, executable"
html_title = project
html_theme = "sphinx_book_theme"
extensions = ["myst_nb", "sphinx-mathjax-offline"]
nb_execution_mode = "off"  # a page shows a run that was made
nb_merge_streams = True
myst_enable_extensions = ["dollarmath"]
html_static_path = ["static"]
html_extra_path = ["extra"]  # the live nets, as they are
exclude_patterns = ["extra"]
html_show_search_summary = False  # a browser fetches nothing from a page that it has opened as a file
html_css_files = ["book.css"]
html_context = {"default_mode": "auto"}  # light or dark as the reader's system is
html_theme_options = {
    "show_toc_level": 2,
    "home_page_in_toc": True,
    "navbar_persistent": [],  # else there are two fields for searching
    "use_download_button": True,
    "use_fullscreen_button": False,
}
