"""How texts get into an object: in the PACS's own character set where it has the letters, and legal.

Character sets are PS3.3 C.12.1.1.2 and PS3.5 §6.1. pydicom's own encoder is not used for them: it takes the default
repertoire for Latin-1, loses the character set at the end of a line, and writes no escape sequence for ISO-IR 58.

What a PACS says of a study is carried as it says it. Where a value representation (PS3.5 §6.2) has no room for
that, the least is changed. All of it is here:

====================  =============================================================================================
in                    becomes
====================  =============================================================================================
SH, LO, PN            control characters (ESC, too): a space each; a backslash, which would begin another value: ``/``
PN                    a fourth component group, a sixth component: joined to the one before by a space
DA                    ``1950.05.05`` (PS3.5 §6.2, ACR-NEMA) and ``1950-05-05``: without the marks; what is no day: empty
TM                    ``08:15:00``: without the colons; what is no time: empty
Patient's Sex         ``m``, ``f``, ``o``: in upper case; what is none of M, F, O (PS3.3 C.2.3): empty
Text Value            every end of a line: CR LF; tabulators: spaces; other control characters: nothing
any                   halves of UTF-16 pairs, which no character set has: U+FFFD; what is beyond 1024 characters: cut
====================  =============================================================================================

A value that is merely too long for SH, LO or PN is carried whole, against the letter of the standard: the PACS
itself has it so, and an identifier that is cut short is that of somebody else.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

UTF_8_TERM = "ISO_IR 192"

LONGEST = 1024
"""Characters of a value from a PACS. In every character set, that fits the 16-bit length of its element."""

NAME_DELIMITERS, TEXT_DELIMITERS = "^=", "\t\n\f\r"
"""At these the first character set is in force again (PS3.5 §6.1.2.5.3)."""


@dataclass(frozen=True, slots=True)
class _Set:
    """A coded character set that code extensions can switch to (PS3.3 Tables C.12-3, C.12-4)."""

    codec: str
    escape: bytes
    width: int = 1
    """Bytes of a character."""
    in_g0: bool = False
    """It takes the place of ASCII, which must be switched back to."""


_ASCII = _Set("ascii", b"\x1b(B")
_ROMAJI = _Set("ascii", b"\x1b(J")  # ISO-IR 14, which stands in for ASCII beside ISO-IR 13
_SINGLE_BYTE = {
    "6": _ASCII,
    "13": _Set("shift_jis", b"\x1b)I"),  # of which only single bytes are taken: JIS X 0201
    "100": _Set("latin_1", b"\x1b-A"),
    "101": _Set("iso8859_2", b"\x1b-B"),
    "109": _Set("iso8859_3", b"\x1b-C"),
    "110": _Set("iso8859_4", b"\x1b-D"),
    "126": _Set("iso8859_7", b"\x1b-F"),
    "127": _Set("iso8859_6", b"\x1b-G"),
    "138": _Set("iso8859_8", b"\x1b-H"),
    "144": _Set("iso8859_5", b"\x1b-L"),
    "148": _Set("iso8859_9", b"\x1b-M"),
    "166": _Set("tis_620", b"\x1b-T"),
}
_MULTI_BYTE = {
    "58": _Set("gb2312", b"\x1b$)A", 2),
    "87": _Set("iso2022_jp", b"\x1b$B", 2, in_g0=True),
    "149": _Set("euc_kr", b"\x1b$)C", 2),
    "159": _Set("iso2022_jp_2", b"\x1b$(D", 2, in_g0=True),
}
_WHOLE = {UTF_8_TERM: "utf-8", "GB18030": "gb18030", "GBK": "gbk"}
"""Without code extensions."""

_TERM = re.compile(r"(?:ISO_IR|ISO 2022 IR) (\d+)")


@dataclass(frozen=True, slots=True)
class CharacterSet:
    """A value of Specific Character Set (0008,0005), and how texts are written in it."""

    terms: tuple[str, ...]
    """None for the default repertoire: the attribute is then left out."""
    codec: str = ""
    """Of all characters, where there are no code extensions."""
    sets: tuple[_Set, ...] = ()
    """The first is in force until an escape sequence names another."""

    def encode(self, value: str, delimiters: str) -> bytes:
        """*value* in it; a reader gets the very same text. Raises UnicodeEncodeError where it lacks a letter."""
        if self.codec:
            encoded = value.encode(self.codec)
            # In GBK and GB18030 the second byte of a rare letter may be a delimiter's. DCMTK and dicom3tools split
            # values before they decode them, so would see two; code extensions are told apart by their escapes.
            if any(encoded.count(mark) != value.count(mark.decode()) for mark in (b"\\", b"^")):
                raise UnicodeEncodeError(self.codec, value, 0, len(value), "a letter looks like a delimiter")
            return encoded
        if value.isascii():
            return value.encode("ascii")
        return b"".join(self._piece(piece) for piece in re.split(f"([{re.escape(delimiters)}])", value))

    def _piece(self, piece: str) -> bytes:
        home = current = self.sets[0]
        ascii_again = _ROMAJI if home is _SINGLE_BYTE["13"] else _ASCII
        out = bytearray()
        for letter in piece:
            for candidate in (current, ascii_again, *self.sets):
                encoded = _encoded(letter, candidate)
                if encoded is not None:
                    break
            else:
                raise UnicodeEncodeError(home.codec, letter, 0, 1, "no character set of the object has it")
            if candidate is not current:
                out += candidate.escape
                current = candidate
            out += encoded
        if current.in_g0:
            out += ascii_again.escape
        return bytes(out)


@lru_cache(maxsize=8192)
def _encoded(letter: str, among: _Set) -> bytes | None:
    """A letter in a set; None where the set does not have it."""
    if letter.isascii():
        return None if among.in_g0 else letter.encode("ascii")
    try:
        encoded = letter.encode(among.codec)
        if encoded.decode(among.codec) != letter:  # the yen sign of JIS X 0201 is a backslash to others
            return None
    except UnicodeError:
        return None
    if among.in_g0:
        # Python's codec puts escape sequences of its own around it, and has other sets beside this one.
        if not encoded.startswith(among.escape):
            return None
        encoded = encoded.removeprefix(among.escape).removesuffix(_ASCII.escape)
    return encoded if len(encoded) == among.width else None


UTF_8 = CharacterSet((UTF_8_TERM,), codec="utf-8")


def character_set_for(claimed: str, texts: Iterable[tuple[str, str]]) -> CharacterSet:
    """The PACS's own character set where it is one, and has all of *texts* (each with its delimiters); else UTF-8.

    *claimed* is Specific Character Set as the PACS says it: ``\\ISO 2022 IR 87``, ``ISO_IR 100``, nothing, or nonsense.
    """
    own = _named(claimed)
    if own is None:
        return UTF_8
    try:
        for value, delimiters in texts:
            own.encode(value, delimiters)
    except UnicodeEncodeError:
        return UTF_8
    return own


def _named(claimed: str) -> CharacterSet | None:
    """None where the standard has no such value."""
    terms = [term.strip() for term in claimed.split("\\")]
    if len(terms) == 1 and terms[0] in _WHOLE:
        return CharacterSet((terms[0],), codec=_WHOLE[terms[0]])
    numbers = []
    for term in terms:
        match = _TERM.fullmatch(term)
        if term and not match:
            return None
        numbers.append(match[1] if match else "6")
    if len(numbers) == 1 and numbers[0] in _MULTI_BYTE:  # on its own it can only be meant so
        numbers.insert(0, "6")
    first, *others = numbers
    if first not in _SINGLE_BYTE or not all(n in _SINGLE_BYTE or n in _MULTI_BYTE for n in others):
        return None
    sets = tuple((_SINGLE_BYTE | _MULTI_BYTE)[n] for n in numbers)
    # The terms are those that the standard has for one value, and for several; devices mix them up.
    if others:
        return CharacterSet(
            ("" if first == "6" else f"ISO 2022 IR {first}", *(f"ISO 2022 IR {n}" for n in others)), sets=sets
        )
    return CharacterSet(() if first == "6" else (f"ISO_IR {first}",), sets=sets)


_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_SURROGATES = re.compile(r"[\ud800-\udfff]")


def short_text(value: str) -> str:
    """A legal SH or LO, save for its length."""
    value = _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", value[:LONGEST])
    return _CONTROLS.sub(" ", value).replace("\\", "/").strip(" ")


def person_name(value: str) -> str:
    """A legal PN, save for its length (PS3.5 §6.2.1)."""
    groups = _at_most(3, "=", short_text(value))
    return "=".join("^".join(_at_most(5, "^", group)) for group in groups)


def _at_most(count: int, delimiter: str, value: str) -> list[str]:
    parts = value.split(delimiter)
    return [*parts[: count - 1], " ".join(parts[count - 1 :])] if len(parts) > count else parts


def date(value: str) -> str:
    """A legal DA: eight digits, or nothing."""
    match = re.fullmatch(r"(\d{4})([.-]?)(\d\d)\2(\d\d)", value.strip(), re.ASCII)
    if match is None:
        return ""
    try:
        datetime.date(int(match[1]), int(match[3]), int(match[4]))
    except ValueError:
        return ""
    return match[1] + match[3] + match[4]


def time(value: str) -> str:
    """A legal TM: ``HHMMSS.FFFFFF`` or the start of it, or nothing."""
    match = re.fullmatch(r"([01]\d|2[0-3])(?:(:?)([0-5]\d)(?:\2([0-5]\d|60)(\.\d{1,6})?)?)?", value.strip(), re.ASCII)
    return match[0].replace(":", "") if match else ""


def sex(value: str) -> str:
    """M, F, O or nothing."""
    return value.upper() if value.upper() in ("M", "F", "O") else ""


_LINE_ENDS = re.compile(r"\r\n|[\n\r\v\f\x85\u2028\u2029]")
_OTHER_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f\ufeff]")


def long_text(value: str) -> str:
    """A text of any length as a content item has it: lines end with CR LF, and there is no other control character,
    though UT allows some (Text Value, PS3.3 Table C.17-5)."""
    value = _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", _LINE_ENDS.sub("\n", value))
    return _OTHER_CONTROLS.sub("", value).expandtabs().rstrip().replace("\n", "\r\n")
