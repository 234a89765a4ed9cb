"""Data inside a page: JSON that no text of a corpus can break out of."""

from __future__ import annotations

import json
from typing import Any

_UNSAFE = str.maketrans({sign: f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"})


def script_json(value: Any) -> str:
    """JSON for a ``<script type="application/json">``: nothing in it can end the element, open another or be an entity."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.translate(_UNSAFE).encode("utf-8", "replace").decode()  # half a surrogate pair cannot be written
