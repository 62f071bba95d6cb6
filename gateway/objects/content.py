"""What a browser may do with an object's content: look at it, or save it, and never run it under the hospital's name.

A PACS can hold anything under a media type that browsers run (a CDA document is XML with a style sheet). The gateway's
own faces say so by all the headers there are; an S3 server outside gives back the one that can be put with an object.
"""

from __future__ import annotations

_PASSIVE = ("application/dicom", "application/octet-stream", "application/pdf", "audio/", "image/", "video/")
"""Kinds of media of which no browser runs anything; SVG is the one image of which it would."""


def is_active(content_type: str) -> bool:
    """Whether a browser could run content of this type."""
    kind = content_type.lower()
    return not kind.startswith(_PASSIVE) or kind.startswith("image/svg")


def harmless(content_type: str) -> dict[str, str]:
    """The headers under which content of this type can do nothing."""
    headers = {"Content-Type": content_type or "application/octet-stream", "X-Content-Type-Options": "nosniff"}
    if is_active(content_type):
        headers |= {"Content-Security-Policy": "default-src 'none'; sandbox", "Content-Disposition": "attachment"}
    return headers
