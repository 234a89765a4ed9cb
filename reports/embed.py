"""What goes into a page, and the templates it goes into: no text of a corpus or a user can break out of either."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Template

_UNSAFE = str.maketrans({sign: f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"})


def script_json(value: Any) -> str:
    """JSON for a ``<script type="application/json">``: nothing in it can end the element, open another or be an entity."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.translate(_UNSAFE).encode("utf-8", "replace").decode()  # half a surrogate pair cannot be written


def template(name: str) -> Template:
    """A template of ours, with everything escaped that is put into it."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("reports", "templates")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["parts"] = parts
    return environment.get_template(name)


def parts(name: str) -> tuple[str, str, str]:
    """A cell's name as its provider and organisation, its model with options, and its dimension: "st/org/", "name", " @ 256"."""
    found = re.fullmatch(r"((?:[^?]*/)?)(.*?)( @ [^@]*)?", name, re.DOTALL)
    return (found[1], found[2], found[3] or "") if found else ("", name, "")
