"""The names of attributes are PS3.6's."""

from __future__ import annotations

import re

from pydicom.datadict import keyword_for_tag

from gateway.dicom import tags


def test_every_name_is_the_keyword_that_the_standard_has_for_its_tag():
    named = {name: tag for name, tag in vars(tags).items() if name.isupper()}
    assert len(named) > 40
    for name, tag in named.items():
        assert name.replace("_", "").lower() == keyword_for_tag(tag).lower(), f"{tag:08X}"
    assert all(re.fullmatch(r"[A-Z]+(_[A-Z]+)*", name) for name in named)
