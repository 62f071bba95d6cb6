"""Instances as the field has them, one generator a kind: each says what the standard, or a report, has to say of it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from tests.field.raw_pacs import Held

CT = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT, BIG_ENDIAN, DEFLATED = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
STUDY = "1.2.826.0.1.3680043.8.498.9000"
SERIES = STUDY + ".1"

Element = tuple[int, bytes, bytes]
_LONG = (b"OB", b"OW", b"SQ", b"UN", b"UT", b"UC")


def explicit(tag: int, vr: bytes, value: bytes, order: str = "<") -> bytes:
    if vr in _LONG:
        return struct.pack(order + "HH2sxxI", tag >> 16, tag & 0xFFFF, vr, len(value)) + value
    return struct.pack(order + "HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


def implicit(tag: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value)) + value


def uid(value: str) -> bytes:
    return value.encode() + b"\0" * (len(value) % 2)


def short(value: int) -> bytes:
    return struct.pack("<H", value)


def elements(number: int = 1, *, sop_class: str = CT, series: str = SERIES, study: str = STUDY, sop: str | None = None):
    """A small image, as a list of elements in order."""
    return [
        (0x00080016, b"UI", uid(sop_class)),
        (0x00080018, b"UI", uid(f"{SERIES}.{number}" if sop is None else sop)),
        (0x00080060, b"CS", b"CT"),
        (0x0020000D, b"UI", uid(study)),
        (0x0020000E, b"UI", uid(series)),
        (0x00200011, b"IS", b"1 "),
        (0x00200013, b"IS", b"%2d" % number),
        (0x00280002, b"US", short(1)),
        (0x00280004, b"CS", b"MONOCHROME2 "),
        (0x00280010, b"US", short(2)),
        (0x00280011, b"US", short(2)),
        (0x00280100, b"US", short(8)),
        (0x00280101, b"US", short(8)),
        (0x00280102, b"US", short(7)),
        (0x00280103, b"US", short(0)),
        (0x7FE00010, b"OB", b"abcd"),
    ]


def encoded(parts: list[Element], write: Callable[[int, bytes, bytes], bytes] = explicit) -> bytes:
    return b"".join(write(*e) for e in parts)


def with_element(tag: int, raw: bytes, number: int = 1, **of) -> bytes:
    """The image with *raw*, an element as encoded, before the first whose tag is higher than *tag*."""
    parts = elements(number, **of)
    before = [e for e in parts if e[0] < tag]
    return encoded(before) + raw + encoded([e for e in parts if e[0] >= tag])


def with_vr(tag: int, vr: bytes, value: bytes) -> bytes:
    """The image with the element *tag* in another value representation."""
    return encoded([(t, vr, value) if t == tag else (t, v, x) for t, v, x in elements()])


def held(data: bytes, **of) -> Held:
    return Held(STUDY, SERIES, f"{SERIES}.1", data, **of)


def references(count: int) -> bytes:
    """A Referenced Series Sequence of undefined length with *count* references, each in items of undefined length."""
    end, item = b"\xfe\xff\x0d\xe0\0\0\0\0", b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    one = item + explicit(0x00081150, b"UI", uid(CT)) + explicit(0x00081155, b"UI", uid(STUDY + ".77")) + end
    sequence = struct.pack("<HH2sxxI", 0x0008, 0x1115, b"SQ", 0xFFFFFFFF)
    inner = struct.pack("<HH2sxxI", 0x0008, 0x114A, b"SQ", 0xFFFFFFFF)
    close = b"\xfe\xff\xdd\xe0\0\0\0\0"
    return sequence + item + inner + one * count + close + end + close


def big_endian(parts: list[Element]) -> bytes:
    def write(tag: int, vr: bytes, value: bytes) -> bytes:
        return explicit(tag, vr, value[::-1] if vr == b"US" else value, ">")

    return encoded(parts, write)


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


@dataclass(frozen=True)
class Kind:
    """A kind of odd instance, and what is right."""

    says: str
    instance: Held
    described: bool = True
    """Whether its header can be read, so that the manifest has it."""


_LONG_UID = SERIES + "." + "1" * (70 - len(SERIES) - 1)
_GROUP_9 = b"".join(explicit(0x00091000 + n, b"UN", b"p" * 60_000) for n in range(10))

KINDS: dict[str, Kind] = {
    "8,000 references before the UIDs": Kind(
        "PS3.5 §7.5 has no limit to a sequence; a segmentation refers to each source image (C.8.20.2)",
        held(with_element(0x00081115, references(8000))),
    ),
    "600 KB of private elements before the UIDs": Kind(
        "PS3.5 §7.8: private elements of any number and length",
        held(with_element(0x00091000, _GROUP_9)),
    ),
    "3 MB of private elements, in a spool file": Kind(
        "the same, of a data set that is larger than what is held in memory",
        held(with_element(0x00091000, b"".join(explicit(0x00091000 + n, b"UN", b"p" * 60_000) for n in range(50)))),
    ),
    "a VR of two blanks": Kind(
        "fo-dicom#179: dose reports of a GE scanner; the length is that of a short VR",
        held(with_element(0x00280120, struct.pack("<HH2sH", 0x0028, 0x0120, b"  ", 2) + b"\0\0")),
    ),
    "a VR of two blanks before the UIDs": Kind(
        "the same, where it is in the way of them",
        held(with_element(0x00100020, struct.pack("<HH2sH", 0x0010, 0x0020, b"  ", 4) + b"P123")),
    ),
    "a VR of two NULs, with a long length": Kind(
        "PS3.5 §7.1.2 has 2 reserved bytes after a long VR",
        held(with_element(0x00100020, struct.pack("<HH2sxxI", 0x0010, 0x0020, b"\0\0", 4) + b"P123")),
    ),
    "question marks for a VR": Kind(
        "PS3.5 §6.2: a writer that does not know a VR has UN for it, and some fill in something else",
        held(with_element(0x00100020, struct.pack("<HH2sH", 0x0010, 0x0020, b"??", 4) + b"P123")),
    ),
    "an unknown VR": Kind(
        "PS3.5 §6.2 grows: a reader meets VRs of later editions",
        held(with_element(0x00090010, struct.pack("<HH2sxxI", 0x0009, 0x0010, b"ZZ", 4) + b"abcd")),
    ),
    "implicit VR under an explicit syntax": Kind(
        "PS3.5 A.2 has explicit VR; pydicom and DCMTK tell by the first element",
        held(encoded(elements(), implicit)),
    ),
    "explicit VR under the implicit syntax": Kind(
        "PS3.5 A.1 has implicit VR; the same the other way round",
        held(encoded(elements()), syntax=IMPLICIT),
    ),
    "one implicit element among explicit ones": Kind(
        "PS3.5 A.2 has explicit VR; a converter left a private element as it was",
        held(with_element(0x00090010, implicit(0x00090010, b"LO", b"SOMEBODY"))),
    ),
    "little endian under the big endian syntax": Kind(
        "PS3.5 A.3; the converter changed the file meta information alone",
        held(encoded(elements()), syntax=BIG_ENDIAN),
    ),
    "an element out of order": Kind(
        "PS3.5 §7.1: elements ascend; (0031,1010) as second one does not",
        held(with_element(0x00080018, explicit(0x00311010, b"LO", b"AB"))),
    ),
    "UIDs at the end": Kind(
        "the same; the Study Instance UID comes after the pixel description",
        held(encoded(sorted(elements(), key=lambda e: (e[0] == 0x7FE00010, e[0] >> 16 == 0x20, e[0])))),
    ),
    "a zlib header on a deflated data set": Kind(
        "PS3.5 A.5 has a bare deflate stream (RFC 1951)",
        held(zlib.compress(encoded(elements())), syntax=DEFLATED),
    ),
    "a gzip header on a deflated data set": Kind(
        "the same",
        held(zlib.compress(encoded(elements()), wbits=31), syntax=DEFLATED),
    ),
    "a deflated syntax, and nothing deflated": Kind(
        "pydicom#1086: a writer changed the file meta information alone",
        held(encoded(elements()), syntax=DEFLATED),
    ),
    "2 MB deflated before the UIDs": Kind(
        "PS3.5 A.5",
        held(raw_deflate(with_element(0x00091000, _GROUP_9 * 3)), syntax=DEFLATED),
    ),
    "Rows as UL": Kind("PS3.6: US; a number all the same", held(with_vr(0x00280010, b"UL", b"\2\0\0\0"))),
    "Rows as SL": Kind("the same", held(with_vr(0x00280010, b"SL", b"\2\0\0\0"))),
    "Rows as SS": Kind("the same", held(with_vr(0x00280010, b"SS", b"\2\0"))),
    "Rows as IS": Kind("the same, in digits", held(with_vr(0x00280010, b"IS", b"2 "))),
    "Rows as DS": Kind("the same, in digits", held(with_vr(0x00280010, b"DS", b"2.00"))),
    "Rows twice over": Kind("PS3.6: VM 1; the first value counts", held(with_vr(0x00280010, b"US", b"\2\0\2\0"))),
    "a Series Instance UID with letters": Kind(
        "PS3.5 §9.1: digits and dots; a gateway passes on what the PACS calls it",
        replace(held(encoded(elements(series="REMSAMPLES1"))), series="REMSAMPLES1"),
    ),
    "a SOP Instance UID with letters": Kind(
        "the same",
        replace(held(encoded(elements(sop="1.2.3.img7A"))), uid="1.2.3.img7A"),
    ),
    "a SOP Instance UID with a dot at the end": Kind(
        "the same", replace(held(encoded(elements(sop="1.2.3.4."))), uid="1.2.3.4.")
    ),
    "a SOP Instance UID like a path": Kind(
        "PS3.5 §9.1; pynetdicom#823, #1092: it leads nowhere",
        replace(held(encoded(elements(sop="../../x/1"))), uid="../../x/1"),
    ),
    "a SOP Instance UID of 70 characters": Kind(
        "PS3.5 §9.1: 64 at most", replace(held(encoded(elements(sop=_LONG_UID))), uid=_LONG_UID)
    ),
    "a SOP Instance UID with a blank in it": Kind(
        "the same", replace(held(encoded(elements(sop="1.2 3.4"))), uid="1.2 3.4")
    ),
    "an empty Series Instance UID": Kind(
        "PS3.3 C.7.3.1: Type 1; the PACS lists the series by its own",
        held(encoded(elements(series=""))), described=False,
    ),
    "Hardcopy Grayscale, retired": Kind(
        "PS3.6 Table A-1: retired, and still in archives",
        held(encoded(elements(sop_class="1.2.840.10008.5.1.1.29")), sop_class="1.2.840.10008.5.1.1.29"),
    ),
    "Stored Print, retired": Kind(
        "the same", held(encoded(elements(sop_class="1.2.840.10008.5.1.1.27")), sop_class="1.2.840.10008.5.1.1.27")
    ),
    "a hanging protocol": Kind(
        "PS3.4 Annex U: a storage class",
        held(encoded(elements(sop_class="1.2.840.10008.5.1.4.38.1")), sop_class="1.2.840.10008.5.1.4.38.1"),
    ),
    "a private SOP class": Kind(
        "PS3.4 B.5: any class that both sides agree on",
        held(encoded(elements(sop_class="1.3.12.2.1107.5.9.1")), sop_class="1.3.12.2.1107.5.9.1"),
    ),
    "no header at all": Kind(
        "nothing can be read; the command set and the retrieve tell whose it is",
        held(b"\xff" * 64), described=False,
    ),
    "no UIDs in the data set": Kind(
        "PS3.3 C.12.1: Type 1; the command set and the retrieve tell whose it is",
        held(encoded([e for e in elements() if e[1] != b"UI"])), described=False,
    ),
}  # fmt: skip
