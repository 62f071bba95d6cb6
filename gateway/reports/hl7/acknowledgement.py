"""What a receiver answered: an acknowledgement (HL7 v2.5.1 chapter 2.9.3, MSA and ERR), as receivers write it.

The field is read more kindly than the standard has it: without MSH, in lower case, in UTF-16, with any line ends,
with blanks and quotes around what it says, with MSA-2 left out, empty, cut, in another case or with more around it, and
with several acknowledgements in one block. None of this leaves open whether the report was taken.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.reports.errors import ReportError

TAKEN = ("AA", "CA")
REFUSED = ("AE", "AR", "CE", "CR")
"""Table 0008."""

COMMITTED, NOT_COMMITTED = b"\x06", b"\x15"
"""ACK and NAK, of which a block of MLLP Release 2 may consist (Transport Specification: MLLP, Release 2)."""

_AROUND = ' \t"'
_LINE_ENDS = re.compile(r"[\r\n\v\f\x1d\x1e]+")

_ERRORS = {
    "100": "segment sequence error", "101": "required field missing", "102": "data type error",
    "103": "table value not found", "200": "unsupported message type", "201": "unsupported event code",
    "202": "unsupported processing id", "203": "unsupported version id", "204": "unknown key identifier",
    "205": "duplicate key identifier", "206": "application record locked", "207": "application internal error",
}  # fmt: skip
"""Table 0357. The words are ours, since a receiver's may quote the patient."""


class Refused(ReportError):
    """The receiver will not have the message. ``said`` is its own text, which may name the patient: not for a log."""

    def __init__(self, text: str, *, code: str, remark: str) -> None:
        super().__init__(text)
        self.code = code
        self.remark = remark


class Unclear(ReportError):
    """The receiver answered, and whether it has the report is not to be told from that: an operator has to look."""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The receiver has taken the message (MSA-1 AA or CA)."""

    code: str
    oddity: str = ""
    """In what the answer differs from the standard, for the record."""


@dataclass(slots=True)
class _Said:
    """An MSA, and the ERR that goes with it: the fields of each, its name the first."""

    msa: list[str]
    err: list[str]
    with_msh: bool

    @property
    def code(self) -> str:
        return _field(self.msa, 1).partition("^")[0].strip(_AROUND)

    @property
    def answered(self) -> str:
        return _field(self.msa, 2).partition("^")[0].strip(_AROUND)


def judged(block: bytes, identity: str, peer: str) -> Acknowledged | None:
    """What *block* says of the message whose MSH-10 is *identity*; None where it is of another message. Raises Refused,
    Unclear.

    Of several acknowledgements in one block those of this message count, and among these a refusal: some say CA and,
    behind it, AE.
    """
    if block.strip(b" \r\n\0") == COMMITTED:
        return Acknowledged("CA", "is the commit acknowledgement of MLLP Release 2")
    said = _said(block)
    if not said:
        raise Unclear(f"{peer} answers with something that is not an acknowledgement: is this its HL7 port?")
    ours = [one for one in said if _is_of(one.answered, identity)]
    if not ours:
        return None
    for one in ours:
        if one.code.upper() in REFUSED:
            raise _refusal(one, peer)
    for one in ours:
        if one.code.upper() in TAKEN:
            return Acknowledged(one.code.upper(), _oddity(one, identity))
    raise Unclear(f"{peer} answers with an unknown code (MSA-1): look there whether it has the report")


def _is_of(answered: str, identity: str) -> bool:
    """Whether an MSA-2 is of this message: cut at either end, or with something of the receiver's own around it."""
    answered, identity = answered.casefold(), identity.casefold()
    if not answered or identity.startswith(answered) or identity in answered:
        return True
    return len(answered) >= len(identity) // 2 and identity.endswith(answered)


def _said(block: bytes) -> list[_Said]:
    """The acknowledgements in *block*; a segment's fourth character is its separator."""
    found: list[_Said] = []
    with_msh, before = False, list[str]()
    # UTF-16 is ASCII with a NUL beside each letter, as far as anything here is looked at.
    for line in _LINE_ENDS.split(block.replace(b"\0", b"").decode("utf-8", "replace")):
        segment = line.lstrip(" \t\ufeff\ufffd")
        name, separator = segment[:3].strip().upper(), segment[3:4]
        fields = segment.split(separator) if separator else [name]
        if separator.isalnum():
            continue
        if name == "MSH":
            with_msh = True
        elif name == "MSA":
            found.append(_Said(fields, before, with_msh))
            with_msh, before = False, []
        elif name == "ERR" and not found:
            before = before or fields
        elif name == "ERR":
            found[-1].err = found[-1].err or fields
    return found


def _field(segment: list[str], number: int) -> str:
    return segment[number] if number < len(segment) else ""


def _oddity(said: _Said, identity: str) -> str:
    odd = []
    if not said.with_msh:
        odd.append("has no MSH")
    if said.code != said.code.upper():
        odd.append("has MSA-1 in lower case")
    if said.answered != identity:
        odd.append("does not repeat MSH-10 in MSA-2" + ("" if said.answered else ", which is empty"))
    return " and ".join(odd)


def _refusal(said: _Said, peer: str) -> Refused:
    err, code = said.err, said.code.upper()
    # ERR-2 and ERR-3 since v2.5, ERR-1 for both before it: segment, its number, field, code.
    place, error, former = (_field(err, number) for number in (2, 3, 1))
    why = ""
    if number := re.match(r"(\d{3})(?:\^|$)", error) or re.match(r"\w*\^\d*\^\d*\^(\d{3})(?:&|$)", former):
        why += f", error {number[1]}: {_ERRORS.get(number[1], 'not of table 0357')}"
    if at := re.match(r"([A-Z][A-Z0-9]{2})\^\d*\^(\d{1,2})(?!\d)", place or former):
        why += f", at {at[1]}-{at[2]}"
    told = [_field(said.msa, 3), former, place, error, *(_field(err, number) for number in (5, 7, 8))]
    return Refused(
        f"{peer} refuses the report ({code}{why}): see there what it objects to, correct reports.hl7, then retry",
        code=code,
        remark=" ".join(text for text in told if text)[:2000],
    )
