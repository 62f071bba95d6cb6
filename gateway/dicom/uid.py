"""DICOM unique identifiers, checked before they are trusted (PS3.5 §9.1, Annex B).

A UID from outside (a webhook, a PACS, an uploaded object) becomes part of an object key,
a log line or a query. Nothing but digits and dots, 64 characters at most, may do so:
this is what keeps ``../`` out of the store (field note 21).
"""

import re

_UID = re.compile(r"[0-9]+(?:\.[0-9]+)*")

MAX_LENGTH = 64
"""Characters; PS3.5 §9.1."""


def is_uid(text: str) -> bool:
    """Whether *text* is safe to use as a UID.

    Leading zeros in a component are forbidden by PS3.5 §9.1 but sent by real devices; they
    harm nothing here, and refusing them would hide a study from its radiologist.
    """
    return len(text) <= MAX_LENGTH and _UID.fullmatch(text) is not None
