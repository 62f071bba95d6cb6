"""The record, in an object, of what its attributes were before they were changed (PS3.3 C.12.1)."""

from __future__ import annotations

import datetime

from pydicom import Dataset
from pydicom.sequence import Sequence

SYSTEM = "Avara Gateway"


def now() -> str:
    """The present, as a DateTime (PS3.5 §6.2)."""
    return datetime.datetime.now().astimezone().strftime("%Y%m%d%H%M%S.%f%z")


def original_attributes(former: Dataset) -> Dataset:
    """An item for the Original Attributes Sequence (0400,0561): *former* are the values that this gateway replaced."""
    item = Dataset()
    item.SourceOfPreviousValues = ""
    item.AttributeModificationDateTime = now()
    item.ModifyingSystem = SYSTEM
    item.ReasonForTheAttributeModification = "COERCE"
    item.ModifiedAttributesSequence = Sequence([former])
    return item
