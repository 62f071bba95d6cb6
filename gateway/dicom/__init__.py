"""The format: UIDs, elements, Part 10 files, character sets, transfer syntaxes, SOP classes (PS3.5, PS3.6, PS3.10)."""

from typing import TYPE_CHECKING

from gateway.runtime import on_demand

if TYPE_CHECKING:
    from gateway.dicom import mend, tags, texts
    from gateway.dicom.elements import (
        UNDEFINED,
        ElementReader,
        MalformedDataSet,
        decimal,
        inflated,
        integer,
        read_elements,
        string,
        text,
        unsigned_short,
    )
    from gateway.dicom.encapsulated import syntax_of_code_stream
    from gateway.dicom.encoding import encode_data_set
    from gateway.dicom.mend import slack_from
    from gateway.dicom.original import SYSTEM, now, original_attributes
    from gateway.dicom.part10 import (
        IMPLEMENTATION_CLASS_UID,
        IMPLEMENTATION_VERSION_NAME,
        FileMeta,
        file_header,
        header_length,
        read_file_meta,
    )
    from gateway.dicom.reidentify import WINDOW, with_uids
    from gateway.dicom.sop_classes import (
        BASIC_TEXT_SR,
        COMMON_STORAGE_CLASSES,
        ENCAPSULATED_PDF,
        KEY_OBJECT_SELECTION,
        PARAMETRIC_MAP,
        STORAGE_COMMITMENT,
        STORAGE_COMMITMENT_INSTANCE,
        STUDY_ROOT_FIND,
        STUDY_ROOT_GET,
        STUDY_ROOT_MOVE,
        VERIFICATION,
        has_images,
        is_storage_class,
    )
    from gateway.dicom.source import plain
    from gateway.dicom.stretches import Mended, pieces
    from gateway.dicom.structure import PixelData, read_structure
    from gateway.dicom.syntaxes import (
        COMMONEST_FIRST,
        DEFLATED,
        DEFLATED_EXPLICIT_LITTLE_ENDIAN,
        EXPLICIT_BIG_ENDIAN,
        EXPLICIT_LITTLE_ENDIAN,
        IMPLICIT,
        IMPLICIT_LITTLE_ENDIAN,
        READABLE,
        UNCOMPRESSED,
        VIDEO,
    )
    from gateway.dicom.tolerant import find_element, read_tolerantly
    from gateway.dicom.uid import MAX_USABLE_LENGTH, is_uid, is_usable
    from gateway.dicom.viewable import LIMIT, MADE_VIEWABLE, made_viewable
else:
    __getattr__ = on_demand(__name__)

__all__ = [
    "BASIC_TEXT_SR",
    "COMMONEST_FIRST",
    "COMMON_STORAGE_CLASSES",
    "DEFLATED",
    "DEFLATED_EXPLICIT_LITTLE_ENDIAN",
    "ENCAPSULATED_PDF",
    "EXPLICIT_BIG_ENDIAN",
    "EXPLICIT_LITTLE_ENDIAN",
    "IMPLEMENTATION_CLASS_UID",
    "IMPLEMENTATION_VERSION_NAME",
    "IMPLICIT",
    "IMPLICIT_LITTLE_ENDIAN",
    "KEY_OBJECT_SELECTION",
    "LIMIT",
    "MADE_VIEWABLE",
    "MAX_USABLE_LENGTH",
    "PARAMETRIC_MAP",
    "READABLE",
    "STORAGE_COMMITMENT",
    "STORAGE_COMMITMENT_INSTANCE",
    "STUDY_ROOT_FIND",
    "STUDY_ROOT_GET",
    "STUDY_ROOT_MOVE",
    "SYSTEM",
    "UNCOMPRESSED",
    "UNDEFINED",
    "VERIFICATION",
    "VIDEO",
    "WINDOW",
    "ElementReader",
    "FileMeta",
    "MalformedDataSet",
    "Mended",
    "PixelData",
    "decimal",
    "encode_data_set",
    "file_header",
    "find_element",
    "has_images",
    "header_length",
    "inflated",
    "integer",
    "is_storage_class",
    "is_uid",
    "is_usable",
    "made_viewable",
    "mend",
    "now",
    "original_attributes",
    "pieces",
    "plain",
    "read_elements",
    "read_file_meta",
    "read_structure",
    "read_tolerantly",
    "slack_from",
    "string",
    "syntax_of_code_stream",
    "tags",
    "text",
    "texts",
    "unsigned_short",
    "with_uids",
]
