"""The one file of somebody else's in the page is what it says it is."""

from __future__ import annotations

import hashlib
from pathlib import Path

import gateway.page

SHA256 = "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717"
"""Of dist/htmx.min.js in the npm package htmx.org 2.0.11."""


def test_htmx_is_the_published_file():
    file = Path(gateway.page.__file__).parent / "static/htmx.min.js"
    assert hashlib.sha256(file.read_bytes()).hexdigest() == SHA256
