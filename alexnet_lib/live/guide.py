"""What the page tells its reader: for each control a sentence and a link, and the sections that they lead to."""

import tomllib
from collections.abc import Callable
from html import escape
from pathlib import Path

GUIDE = tomllib.loads(Path(__file__).with_name("guide.toml").read_text(encoding="utf-8"))
CONTROLS, SECTIONS = GUIDE["controls"], GUIDE["sections"]
Link = Callable[[str, str], str]


def guide(link: Link | None) -> dict[str, str]:
    """The parts of page.html by name: `tells_…` for a control, `to_…` for a section, and `sections`, all of them.

    link: the address of a notebook's section, given the names of both; without it a link leads to the section in the
        page itself, which is there wherever the page is opened.
    """
    parts = {f"tells_{name}": _tells(name, control, link) for name, control in CONTROLS.items()}
    parts |= {f"to_{name}": _anchor(name, link) for name in SECTIONS}
    return parts | {"sections": "\n".join(_section(name, section, link) for name, section in SECTIONS.items())}


def _tells(name: str, control: dict[str, str], link: Link | None) -> str:
    """A control's sentence, which describes it to a screen reader, and its link."""
    sentence = f'<span id="hint-{name}">{escape(control["look"])}</span>'
    return f'<p class="tells" id="tells-{name}">{sentence} {_anchor(control["section"], link)}</p>'


def _anchor(name: str, link: Link | None) -> str:
    section = SECTIONS[name]
    words = f'<span class="unseen">notebook </span>{section["notebook"][:2]},&nbsp;{escape(section["heading"])}'
    return f'<span class="more"><a href="{_address(name, link)}">{words}</a></span>'


def _address(name: str, link: Link | None) -> str:
    return escape(link(SECTIONS[name]["notebook"], SECTIONS[name]["heading"])) if link else f"#section-{name}"


def _section(name: str, section: dict[str, str], link: Link | None) -> str:
    """What the paper says, where the notebook shows it, and the ways back to the controls that lead here."""
    heading = escape(section["heading"])
    title = f'<a href="{_address(name, link)}">{heading}</a>' if link else heading
    back = [
        f'<a href="#tells-{own}">{escape(about["name"])}</a>'
        for own, about in CONTROLS.items()
        if about["section"] == name
    ]
    source = f"{section['paper']} · notebook {section['notebook']}"
    return (
        f'<article id="section-{name}"><h3>{title} <small>{source}</small></h3>'
        f'<p>{escape(section["says"])}</p><p class="touch">Touch it: {", ".join(back)}</p></article>'
    )
