"""The transfer syntaxes (PS3.5 Annex A, PS3.6 Table A-1): the one list of them, and what each kind means to us."""

from __future__ import annotations

from pydicom import uid

IMPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
EXPLICIT_BIG_ENDIAN = "1.2.840.10008.1.2.2"
"""Retired; old PACS still hold instances in it."""
DEFLATED_EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1.99"

READABLE = (EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN)
"""Those that we write data sets of our own in, and propose for queries; the first is what we like better."""

UNCOMPRESSED = (*READABLE, EXPLICIT_BIG_ENDIAN)
"""Those in which pixels lie as they are (PS3.5 §10.1, A.3): what a PACS may send that is to send uncompressed."""

IMPLICIT = frozenset((
    IMPLICIT_LITTLE_ENDIAN,
    "1.2.840.10008.1.20",  # Papyrus 3, retired
    "1.2.840.113619.5.2",  # GE private: only its pixel data are big endian
))  # fmt: skip
"""Those whose elements carry no value representation."""

DEFLATED = frozenset((
    DEFLATED_EXPLICIT_LITTLE_ENDIAN,
    "1.2.840.10008.1.2.4.95",  # JPIP Referenced Deflate
    "1.2.840.10008.1.2.4.205",  # JPIP HTJ2K Referenced Deflate
))  # fmt: skip
"""Those whose whole data set is deflated (PS3.5 A.5)."""

VIDEO = frozenset(f"1.2.840.10008.1.2.4.{n}" for n in range(100, 109)) | frozenset(
    f"1.2.840.10008.1.2.4.{n}.1" for n in range(100, 107)
)
"""MPEG-2, MPEG-4 AVC/H.264 and HEVC/H.265, fragmentable ones too."""

RLE = str(uid.RLELossless)

JPEG_XL = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (110, 111, 112))
"""JPEG XL, lossless, recompressed JPEG and any (PS3.6, 2024d); newer than pydicom's own list."""

COMMONEST_FIRST = tuple(
    str(syntax)
    for syntax in dict.fromkeys(
        (
            EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN, uid.JPEGLosslessSV1, uid.JPEG2000Lossless,
            uid.JPEGBaseline8Bit, uid.JPEG2000, uid.JPEGLSLossless, uid.RLELossless, uid.JPEGExtended12Bit,
            uid.JPEGLSNearLossless, uid.JPEGLossless, DEFLATED_EXPLICIT_LITTLE_ENDIAN, EXPLICIT_BIG_ENDIAN,
            *uid.AllTransferSyntaxes, *JPEG_XL,
        )
    )
)  # fmt: skip
"""All of them, by how often a PACS holds instances in them: where not all can be proposed, the last are left out."""
