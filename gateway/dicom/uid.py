"""DICOM unique identifiers, checked before they are trusted (PS3.5 §9.1, Annex B).

A UID from outside (a webhook, a PACS, an uploaded object) becomes part of an object key, a log line or a query.
What is to be one of our own making is digits and dots, 64 characters at most (:func:`is_uid`). What a PACS has
may be uglier: letters, a dot at the end, 70 characters. That is used as it is (:func:`is_usable`), and written out in
safe letters where it becomes part of a key (:mod:`gateway.studies.keys`), which keeps paths out of the store
(field note 21).
"""

import re

_UID = re.compile(r"[0-9]+(?:\.[0-9]+)*")

MAX_LENGTH = 64
"""Characters; PS3.5 §9.1."""

_MATCHES_MORE = frozenset("*?\\")

MAX_USABLE_LENGTH = 80
"""Characters. Written out in safe letters, so many fit into a segment of a key (255 bytes)."""


def is_uid(text: str) -> bool:
    """Whether *text* is safe to use as a UID.

    Leading zeros in a component are forbidden by PS3.5 §9.1 but sent by real devices; they
    harm nothing here, and refusing them would hide a study from its radiologist.
    """
    return len(text) <= MAX_LENGTH and _UID.fullmatch(text) is not None


def is_usable(text: str) -> bool:
    """Whether *text*, which a PACS has in the place of a UID, can be worked with as it is.

    Printable ASCII, without what makes a query match something else: ``*``, ``?`` and the backslash (PS3.4 C.2.2.2).
    One with a slash is as ugly as others and leads nowhere, since it is written out; dots alone would lead to the next
    folder where they are a segment of a URL by which a PACS is asked.
    """
    fits = 0 < len(text) <= MAX_USABLE_LENGTH and text == text.strip() and text.strip(".") != ""
    return fits and text.isascii() and text.isprintable() and _MATCHES_MORE.isdisjoint(text)
