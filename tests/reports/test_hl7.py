"""HL7 v2.5.1 messages and their acknowledgement: what any text becomes, what a receiver can wish, and peers that answer
late, wrongly, in pieces or never. Messages are read back by the hl7 library. Not here: a real RIS."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import logging
import ssl
import time
from datetime import UTC, datetime

import hl7
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.reports.hl7.acknowledgement import Acknowledged, Refused, Unclear, judged
from gateway.reports.hl7.field_map import FieldMap
from gateway.reports.hl7.message import CHARSETS, NotRepresentable, Profile, TextForm, build_oru, control_id
from gateway.reports.hl7.mllp import NoAnswer, Timeouts, send
from tests.reports.conftest import STUDY_UID, a_report, a_study

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def built(report=None, study=None, profile=None):
    report = report or a_report()
    profile = profile or Profile()
    return build_oru(report, study or a_study(), profile, message_control_id=control_id(report), now=NOW)


def parsed(*args, charset="utf-8", **options):
    return hl7.parse(built(*args, **options).decode(charset))


def line(message, segment, number=0):
    return str(message.segments(segment)[number])


def test_a_report_becomes_the_message_that_chapter_7_has():
    message = parsed(profile=Profile("AVARA", "CLOUD", "RIS", "HOSP"))
    assert [str(s[0]) for s in message] == ["MSH", "PID", "ORC", "OBR", "OBX", "OBX", "OBX"]
    identity = control_id(a_report())
    assert line(message, "MSH") == (
        f"MSH|^~\\&|AVARA|CLOUD|RIS|HOSP|20261124120000+0000||ORU^R01^ORU_R01|{identity}|P|2.5.1||||||UNICODE UTF-8"
    )
    assert line(message, "PID") == "PID|1||MRN0001^^^HOSP^MR||Doe^Jane^Ann^Jr.^Dr.||19700131|F"
    assert line(message, "ORC") == "ORC|RE||ACC0001|||||||||^House^Gregory"
    assert line(message, "OBR") == (
        "OBR|1||ACC0001|18748-4^Diagnostic imaging report^LN^^CT chest|||20261120101530|||||||||^House^Gregory||ACC0001"
        "||||20261124060000+0000|||F"
    )
    observation = "18748-4^Diagnostic imaging report^LN"
    assert line(message, "OBX", 0) == f"OBX|1|TX|{observation}|1|FINDINGS||||||F|||20261120101530"
    assert line(message, "OBX", 1) == f"OBX|2|TX|{observation}|1|No pneumothorax.||||||F|||20261120101530"
    pdf = base64.b64encode(a_report().pdf).decode()
    assert line(message, "OBX", 2) == (
        f"OBX|3|ED|{observation}|2|AVARA^APPLICATION^PDF^Base64^{pdf}||||||F|||20261120101530"
    )
    assert built().endswith(b"\r")


def test_a_critical_report_is_flagged_and_a_later_version_is_a_correction():
    message = parsed(a_report(is_critical=True, version=2), profile=Profile(critical_flag="HH"))
    assert {str(obx(8)) for obx in message.segments("OBX")} == {"HH"}
    assert {str(obx(11)) for obx in message.segments("OBX")} == {"C"}
    assert str(message.segment("OBR")(25)) == "C"
    assert {str(obx(8)) for obx in parsed().segments("OBX")} == {""}


def test_what_a_report_does_not_have_is_not_sent():
    assert [str(o(2)) for o in parsed(a_report(pdf=None)).segments("OBX")] == ["TX", "TX"]
    assert [str(o(2)) for o in parsed(a_report(plain_text=None)).segments("OBX")] == ["ED"]
    assert [str(o(2)) for o in parsed(profile=Profile(with_pdf=False)).segments("OBX")] == ["TX", "TX"]
    empty = a_study(
        patient_id="", issuer_of_patient_id="", patient_name="", patient_birth_date="", patient_sex="",
        accession_number="", study_date="", study_time="", study_description="", referring_physician="",
    )  # fmt: skip
    assert line(parsed(study=empty), "PID") == "PID|1"


def test_formatted_text_is_one_observation():
    (text, _) = parsed(a_report(plain_text="a\r\nb|\n\nc"), profile=Profile(text_form=TextForm.FORMATTED)).segments(
        "OBX"
    )
    assert str(text(2)) == "FT"
    assert str(text(5)) == "a\\.br\\b\\F\\\\.br\\\\.br\\c"


def test_the_control_id_is_the_same_for_a_retry_and_another_for_a_version():
    ids = {control_id(a_report()), control_id(a_report()), control_id(a_report(plain_text="of another try"))}
    assert len(ids) == 1
    assert control_id(a_report(version=2)) not in ids
    assert control_id(a_report(report_id="rep_2")) not in ids
    assert len(ids.pop()) == 20


@pytest.mark.parametrize(
    ("name", "xpn"),
    [
        ("Doe^Jane^Ann^Dr.^Jr.", "Doe^Jane^Ann^Jr.^Dr."),
        ("Doe", "Doe"),
        ("", ""),
        ("^^^^", ""),
        ("O'Brien^Zoë", "O'Brien^Zoë"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "Yamada^Tarou^^^^^^A~山田^太郎^^^^^^I~やまだ^たろう^^^^^^P"),
        ("=山田^太郎", "山田^太郎"),
        ("A^B^C^D^E^F^G", "A^B^C^E^D"),
        ("Do|e^Ja&ne", "Do\\F\\e^Ja\\T\\ne"),
    ],
)
def test_a_name_goes_component_by_component(name, xpn):
    assert line(parsed(study=a_study(patient_name=name)), "PID").split("|")[5] == xpn


@pytest.mark.parametrize(
    ("date", "clock", "shown"),
    [
        ("20261120", "101530.250", "20261120101530"),
        ("2026.11.20", "10:15", "202611201015"),
        ("20261120", "", "20261120"),
        ("20261120", "1", "20261120"),
        ("", "101530", ""),
        ("2026", "101530", ""),
        ("tomorrow", "", ""),
    ],
)
def test_dates_of_any_pacs_are_hl7s_or_absent(date, clock, shown):
    message = parsed(study=a_study(study_date=date, study_time=clock))
    assert str(message.segment("OBR")(7)) == shown


texts = st.text(max_size=60)
awkward = st.text(st.sampled_from("|^~\\&\r\n\t\x0b\x1c\x00\x85\u2028 aß漢\ud800"), max_size=40)


@given(
    st.one_of(texts, awkward), st.one_of(texts, awkward), st.one_of(texts, awkward), st.one_of(texts, awkward),
    st.sampled_from(TextForm),
)  # fmt: skip
def test_any_text_of_anybody_stays_within_its_field(text, name, accession, description, form):
    report = a_report(plain_text=text)
    study = a_study(
        patient_name=name, accession_number=accession, study_description=description, patient_id=accession,
        issuer_of_patient_id=description, referring_physician=name, patient_sex=name, study_time=name,
    )  # fmt: skip
    message = built(report, study, Profile(text_form=form))
    assert not {0x0B, 0x1C, 0x0A, 0x00} & set(message)
    lines = message.decode().split("\r")
    observations = len(text.splitlines()) if form is TextForm.LINES else 1
    assert [s[:3] for s in lines] == ["MSH", "PID", "ORC", "OBR", *["OBX"] * (observations + 1), ""]
    back = hl7.parse(message.decode())
    clean = "".join(" " if ord(c) < 32 or 127 <= ord(c) < 160 or c in "\u2028\u2029" else c for c in accession)
    clean = clean.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert back.unescape(line(back, "OBR").split("|")[3]) == clean
    assert line(back, "OBR").count("|") == 25


@given(texts)
def test_the_lines_of_a_report_come_back_as_they_were(text):
    back = parsed(a_report(plain_text=text, pdf=None))
    shown = [back.unescape(str(o).split("|")[5]) for o in back.segments("OBX")] if text else []
    assert [s.split() for s in shown] == [  # control characters are spaces
        "".join(c if c.isprintable() or c.isspace() or ord(c) > 160 else " " for c in s).split()
        for s in text.splitlines()
    ]


@pytest.mark.parametrize("charset", list(CHARSETS))
def test_every_character_set_carries_its_own_and_none_loses_a_name(charset):
    theirs = bytes(range(0xC0, 0xC8)).decode(CHARSETS[charset], "ignore").replace("\ufffd", "") or "AB"
    profile = Profile(charset=charset)
    message = parsed(study=a_study(patient_name=theirs), profile=profile, charset=CHARSETS[charset])
    assert str(message.segment("PID")(5)) == theirs
    assert str(message.segment("MSH")(18)) == charset
    if charset != "UNICODE UTF-8":
        with pytest.raises(NotRepresentable, match=r"PID-5.*reports\.hl7\.charset") as caught:
            built(study=a_study(patient_name="山田^太郎"), profile=profile)
        assert "山" not in str(caught.value)
        with pytest.raises(NotRepresentable, match="OBX-5"):
            built(a_report(plain_text="漢"), profile=profile)


def test_what_reads_the_same_is_written_in_ascii_where_the_set_lacks_it():
    text = "“5–10 mm” ≥ 3…\u00a0Zu\u0308rich"
    message = parsed(a_report(plain_text=text), profile=Profile(charset="8859/1"), charset="latin-1")
    assert str(message.segment("OBX")(5)) == '"5-10 mm" >= 3...\u00a0Zürich'.replace("\u00a0", " ")
    assert str(parsed(a_report(plain_text=text)).segment("OBX")(5)) == text


# -- what a receiver wishes


def test_fields_are_changed_added_and_removed_by_the_map():
    fields = FieldMap.parse(
        {
            "PID-3.4": "HOSP&1.2.3&ISO", "PID-18": "{accession_number}", "PID-8": "", "ORC-2": "P{accession_number}",
            "OBR-4": "RAD^{study_description}^L", "OBR-4.5": "{{x}}", "OBR-20": "{study_instance_uid}",
            "OBX-3": "REPORT^^L", "OBX/pdf-3": "PDF^^L", "OBX-17": "{critical_flag}",
            "PV1-19": "{report_id}^v{version}",
            "MSH-11": "T", "PID-5.7": "L",
        }
    )  # fmt: skip
    study = a_study(accession_number="A^1")
    message = parsed(a_report(is_critical=True), study, Profile(fields=fields))
    assert line(message, "PID") == (
        "PID|1||MRN0001^^^HOSP&1.2.3&ISO^MR||Doe^Jane^Ann^Jr.^Dr.^^L||19700131|||||||||||A\\S\\1"
    )
    assert line(message, "ORC") == "ORC|RE|PA\\S\\1|A\\S\\1|||||||||^House^Gregory"
    assert str(message.segment("OBR")(4)) == "RAD^CT chest^L^^{x}"
    assert str(message.segment("OBR")(20)) == STUDY_UID
    assert [str(o(3)) for o in message.segments("OBX")] == ["REPORT^^L", "REPORT^^L", "PDF^^L"]
    assert str(message.segment("OBX")(17)) == "AA"
    assert line(message, "PV1") == f"PV1|1|U{'|' * 17}rep_0123456789abcdef0123456789abcdef^v1"
    assert str(message.segment("MSH")(11)) == "T"


@pytest.mark.parametrize(
    ("key", "template", "said"),
    [
        ("ZZZ-1", "", "no field"), ("PID", "", "no field"), ("PID-0", "", "no field"), ("PID-3.0", "", "no field"),
        ("pid-3", "", "no field"), ("PID/text-3", "", "no field"), ("PID-40", "", "39 fields"),
        ("OBX/pdf-20", "", "19 fields"), ("MSH-10", "x", "gateway's own"), ("OBX-5", "x", "gateway's own"),
        ("OBX/text-8", "x", "gateway's own"), ("PID-5", "{name}", "is none of"), ("PID-5", "{}", "is none of"),
        ("PID-5", "{patient_id.__class__}", "is none of"), ("PID-5", "{patient_id!r}", "is none of"),
        ("PID-5", "{patient_id:>99999999}", "is none of"), ("PID-5", "{patient_id", "braces"), ("PID-5", "}", "braces"),
        ("PID-5", "a|b", "holds"), ("PID-5", "a\rb", "holds"), ("PID-5", "a\x1cb", "holds"),
        ("PID-5", "\\X\\", "holds"),
        ("PID-3.4", "a^b", "holds"), ("PID-3.4", "a~b", "holds"),
    ],
)  # fmt: skip
def test_a_mapping_that_cannot_be_is_refused_at_start_with_its_key(key, template, said):
    with pytest.raises(ValueError, match=said) as caught:
        FieldMap.parse({"PID-2": "x", key: template})
    assert str(caught.value).startswith(f"{key}: ")


def test_all_mistakes_of_a_mapping_are_told_at_once():
    with pytest.raises(ValueError, match=r"A-1.*B-2"):
        FieldMap.parse({"A-1": "", "B-2": ""})


@pytest.mark.parametrize(
    "changes",
    [{"charset": "UTF-8"}, {"sending_application": "a|b"}, {"receiving_facility": "a\rb"}, {"critical_flag": "A^A"}],
)
def test_a_profile_that_no_message_can_hold_is_refused_at_start(changes):
    with pytest.raises(ValueError):  # noqa: PT011  (the field is in the text of each)
        Profile(**changes)


# -- the wire


@pytest.fixture
async def peer():
    """Starts a receiver; its talk is given each message that has come, without its frame."""
    servers, tasks = [], set()

    async def start(talk, tls=None):
        async def connected(reader, writer):
            tasks.add(asyncio.current_task())
            try:
                await talk(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls, limit=100_000_000)
        servers.append(server)
        return server.sockets[0].getsockname()[1]

    yield start
    for server in servers:
        server.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def received(reader):
    return (await reader.readuntil(b"\x1c\r"))[1:-2]


def ack(code="AA", identity=None, *, more="", msa3=""):
    identity = control_id(a_report()) if identity is None else identity
    return f"\x0bMSH|^~\\&|RIS||||2026||ACK|1|P|2.5.1\rMSA|{code}|{identity}|{msa3}\r{more}\x1c\r".encode()


def says(*parts, pause=0.0, then=0.0):
    async def talk(reader, writer):
        await received(reader)
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause)
        await asyncio.sleep(then)

    return talk


QUICK = Timeouts(connect=5, send=5, answer=0.5)
PATIENT = Timeouts(connect=20, send=20, answer=20)


async def no_answer(port, timeouts=PATIENT, message=None):
    began = time.monotonic()
    with pytest.raises(NoAnswer) as caught:
        await send(message or built(), "127.0.0.1", port, timeouts=timeouts)
    assert time.monotonic() - began < 15
    assert caught.value.transient
    assert "Doe" not in str(caught.value)
    return str(caught.value)


async def unclear(port, timeouts=PATIENT, message=None):
    """What is told where a receiver answered, and nobody can say whether it has the report."""
    with pytest.raises(Unclear) as caught:
        await send(message or built(), "127.0.0.1", port, timeouts=timeouts)
    assert not caught.value.transient
    assert "Doe" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("code", ["AA", "CA"])
async def test_an_acknowledged_message_has_arrived_as_it_was(peer, code):
    seen = []

    async def talk(reader, writer):
        seen.append(await received(reader))
        writer.write(ack(code))

    message = built(a_report(pdf=bytes(3_000_000)))
    assert await send(message, "127.0.0.1", await peer(talk), timeouts=PATIENT) == Acknowledged(code)
    assert seen == [message]


@pytest.mark.slow
async def test_tls_is_verified(peer, tls):
    port = await peer(says(ack(), then=1), tls.server)
    trusted = ssl.create_default_context(cafile=tls.ca_file)
    assert await send(built(), "127.0.0.1", port, tls=trusted, timeouts=PATIENT) == Acknowledged("AA")
    with pytest.raises(NoAnswer, match=r"reports\.hl7\.ca_file"):
        await send(built(), "127.0.0.1", port, tls=ssl.create_default_context(), timeouts=PATIENT)
    plain = await peer(says(ack()))
    with pytest.raises(NoAnswer, match="TLS"):
        await send(built(), "127.0.0.1", plain, tls=trusted, timeouts=Timeouts(connect=1))


@pytest.mark.parametrize("code", ["AE", "AR", "CE", "CR"])
async def test_a_refusal_is_permanent_and_its_words_are_kept_from_the_log(peer, code, caplog):
    caplog.set_level(logging.DEBUG)
    error = "ERR||PID^1^3|101^Required field missing^HL70357|E||||Jane Doe has no MRN"
    port = await peer(says(ack(code, msa3="Doe^Jane unknown", more=error + "\r")))
    with pytest.raises(Refused) as caught:
        await send(built(), "127.0.0.1", port, timeouts=PATIENT)
    told = str(caught.value)
    assert f"({code}, error 101: required field missing, at PID-3)" in told
    assert "Doe" not in told + caplog.text
    assert "Doe^Jane unknown" in caught.value.remark
    assert "Jane Doe has no MRN" in caught.value.remark
    assert not caught.value.transient


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("", "(AE)"),
        ("ERR|PID^1^5^102&Data type error&HL70357", "(AE, error 102: data type error, at PID-5)"),
        ("ERR||OBX^101^5|999^Doe", "(AE, error 999: not of table 0357, at OBX-5)"),
        ("ERR|||Jane Doe", "(AE)"),
        ("ERR", "(AE)"),
    ],
)
async def test_an_error_of_any_version_is_told_by_its_code_and_place(peer, error, said):
    with pytest.raises(Refused) as caught:
        await send(built(), "127.0.0.1", await peer(says(ack("AE", more=error))), timeouts=PATIENT)
    assert said in str(caught.value)
    assert "Doe" not in str(caught.value)


async def test_an_answer_in_pieces_or_late_is_an_answer(peer):
    whole = ack()
    pieces = [bytes([b]) for b in whole]
    assert await send(built(), "127.0.0.1", await peer(says(*pieces)), timeouts=PATIENT)
    late = await peer(says(whole[:5], whole[5:-1], whole[-1:], pause=0.2))
    assert await send(built(), "127.0.0.1", late, timeouts=PATIENT)
    sloppy = await peer(says(whole.replace(b"\rMSA", b"\r\nMSA")))
    assert await send(built(), "127.0.0.1", sloppy, timeouts=PATIENT)


@pytest.mark.slow
async def test_answers_to_other_messages_are_passed_over_and_never_taken_for_ours(peer):
    other = ack("AA", "OTHER")
    assert await send(built(), "127.0.0.1", await peer(says(ack("AE", "OTHER"), ack())), timeouts=PATIENT)
    assert await send(built(), "127.0.0.1", await peer(says(ack() + ack())), timeouts=PATIENT)
    assert "another message" in await unclear(await peer(says(other, then=20)), QUICK)
    assert "another message" in await unclear(await peer(says(other, other)))
    assert "other messages" in await unclear(await peer(says(other * 100, then=20)))


@pytest.mark.slow
async def test_an_answer_that_comes_before_the_message_has_left_is_to_something_else(peer):
    """A late acknowledgement of the try before has this one's control id."""

    async def talk(reader, writer):
        writer.write(ack())
        await writer.drain()
        await asyncio.sleep(0.5)
        await received(reader)
        await asyncio.sleep(20)

    large = built(a_report(pdf=bytes(30_000_000)))
    assert "something else" in await unclear(await peer(talk), message=large)


@pytest.mark.slow
async def test_each_try_has_a_connection_of_its_own(peer):
    """The first is answered after we have gone; the answer goes nowhere."""
    count = itertools.count()

    async def talk(reader, writer):
        number = next(count)
        await received(reader)
        await asyncio.sleep(1.0 if number == 0 else 0)
        writer.write(ack("AE" if number == 0 else "AA"))
        await writer.drain()

    port = await peer(talk)
    await no_answer(port, QUICK)
    await asyncio.sleep(0.3)
    assert await send(built(), "127.0.0.1", port, timeouts=PATIENT) == Acknowledged("AA")


ID = control_id(a_report())
MSH = "MSH|^~\\&|RIS|H|||20260101||ACK|A1|P|2.3\r"
TAKEN = {
    "an empty control id": f"\x0b{MSH}MSA|AA||Message accepted\r\x1c\r",
    "no control id": f"\x0b{MSH}MSA|AA\r\x1c\r",
    "no MSH": f"\x0bMSA|AA|{ID}\r\x1c\r",
    "lower case": f"\x0b{MSH}MSA|aa|{ID}\r\x1c\r",
    "CR LF before VT": f"\r\n\x0b{MSH}MSA|AA|{ID}\r\x1c\r",
    "a blank control id": f"\x0b{MSH}MSA|AA|  \r\x1c\r",
    "a control id cut to 10": f"\x0b{MSH}MSA|AA|{ID[:10]}\r\x1c\r",
    "a control id in lower case": f"\x0b{MSH}MSA|AA|{ID.lower()}\r\x1c\r",
    "a control id with components": f"\x0b{MSH}MSA|AA|{ID}^1\r\x1c\r",
    "lower case and no control id": f"\x0b{MSH}msa|aa\r\x1c\r",
    "commit accept in lower case": f"\x0b{MSH}MSA|ca|{ID}\r\x1c\r",
    "no carriage return behind FS, and the connection stays": f"\x0b{MSH}MSA|AA|{ID}\r\x1c",
    "a byte order mark before VT": f"\ufeff\x0b{MSH}MSA|AA|{ID}\r\x1c\r",
    "a byte order mark behind VT": f"\x0b\ufeff{MSH}MSA|AA|{ID}\r\x1c\r",
    "no VT": f"{MSH}MSA|AA|{ID}\r\x1c\r",
    "two VT": f"\x0b\x0b{MSH}MSA|AA|{ID}\r\x1c\r",
    "line feeds": f"\x0b{MSH}MSA|AA|{ID}\r\x1c\r".replace("\r", "\n"),
    "no line end behind MSA": f"\x0b{MSH}MSA|AA|{ID}\x1c\r",
    "another separator": f"\x0b{MSH}MSA|AA|{ID}\r\x1c\r".replace("|", "#"),
    "a segment of its own kind before MSA": f"\x0b{MSH}SFT|x\rZZZ|y\rMSA|AA|{ID}\r\x1c\r",
    "UTF-16 with its byte order mark": f"\ufeff\x0b{MSH}MSA|AA|{ID}\r\x1c\r".encode("utf-16-le"),
    "UTF-16, high byte first": f"\x0b{MSH}MSA|AA|{ID}\r\x1c\r".encode("utf-16-be"),
    "NULs behind its fields": f"\x0b{MSH}MSA|AA\0|{ID}\0\r\x1c\r",
    "blanks and tabs before its segments": f"\x0b  {MSH}\t MSA|AA|{ID}\r\x1c\r",
    "a code with components": f"\x0b{MSH}MSA|AA^accepted|{ID}\r\x1c\r",
    "quotes": f'\x0b{MSH}MSA|"AA"|"{ID}"\r\x1c\r',
    "a control id with more around it": f"\x0b{MSH}MSA|AA|RIS-{ID}.1\r\x1c\r",
    "a control id without its beginning": f"\x0b{MSH}MSA|AA|{ID[6:]}\r\x1c\r",
    "segments that end with VT": f"\x0b{MSH}MSA|AA|{ID}\r\x1c\r".replace("\r", "\x0b"),
    "record separators": f"\x0b{MSH}MSA|AA|{ID}\r\x1c\r".replace("\r", "\x1e"),
    "a batch": f"\x0bFHS|^~\\&\rBHS|^~\\&\r{MSH}MSA|AA|{ID}\rBTS|1\rFTS|1\r\x1c\r",
    "two in a block": f"\x0b{MSH}MSA|CA|{ID}\r{MSH}MSA|AA|{ID}\r\x1c\r",
    "one of another message before it in the block": f"\x0b{MSH}MSA|AE|OTHER\r{MSH}MSA|AA|{ID}\r\x1c\r",
    "an empty block before it": f"\x0b\x1c\r\x0b{MSH}MSA|AA|{ID}\r\x1c\r",
    "no end block": f"\x0b{MSH}MSA|AA|{ID}\r",
    "no block at all": f"{MSH}MSA|AA|{ID}\r",
    "the commit acknowledgement of MLLP Release 2": b"\x0b\x06\x1c\r",
}


@pytest.mark.slow
@pytest.mark.parametrize("answer", list(TAKEN.values()), ids=list(TAKEN))
async def test_a_receiver_that_took_it_is_believed_however_it_says_so_and_asked_once(peer, answer):
    count = itertools.count(1)

    async def talk(reader, writer):
        next(count)
        await received(reader)
        writer.write(answer if isinstance(answer, bytes) else answer.encode())
        await writer.drain()
        await asyncio.sleep(20)

    taken = await send(built(), "127.0.0.1", await peer(talk), timeouts=PATIENT)
    assert taken.code in ("AA", "CA")
    assert next(count) == 2


async def test_what_is_odd_in_an_answer_is_noted(peer):
    async def oddity(answer):
        port = await peer(says(answer.encode(), then=20))
        return (await send(built(), "127.0.0.1", port, timeouts=PATIENT)).oddity

    assert await oddity(TAKEN["no VT"]) == ""
    assert "no MSH" in await oddity(f"\x0bMSA|AA|{ID}\r\x1c\r")
    assert "lower case" in await oddity(TAKEN["lower case and no control id"])
    assert "empty" in await oddity(TAKEN["a blank control id"])
    assert "MSA-2" in await oddity(TAKEN["a control id cut to 10"])


async def test_an_answer_that_ends_with_the_connection_is_an_answer(peer):
    assert await send(built(), "127.0.0.1", await peer(says(ack()[:-2])), timeouts=PATIENT) == Acknowledged("AA")


@pytest.mark.parametrize("msa", ["MSA|AE", "MSA|ar|", f"MSA|AE|{ID[:5]}", "MSA|CR||Doe"])
async def test_a_refusal_without_our_control_id_is_one_all_the_same(peer, msa):
    with pytest.raises(Refused):
        await send(built(), "127.0.0.1", await peer(says(f"\x0b{MSH}{msa}\r\x1c\r".encode())), timeouts=PATIENT)


async def test_of_two_in_a_block_the_one_that_refuses_counts(peer):
    block = f"\x0b{MSH}MSA|CA|{ID}\r{MSH}MSA|AE|{ID}|no such patient\rERR|||204\r\x1c\r".encode()
    with pytest.raises(Refused, match=r"\(AE, error 204") as caught:
        await send(built(), "127.0.0.1", await peer(says(block)), timeouts=PATIENT)
    assert caught.value.remark.startswith("no such patient")


async def test_a_receiver_that_could_not_keep_it_is_sent_it_again(peer):
    """MLLP Release 2: the message was not committed to storage."""
    assert "NAK" in await no_answer(await peer(says(b"\x0b\x15\x1c\r")))


@pytest.mark.slow
async def test_an_answer_that_is_cut_off_and_never_ended_is_an_operators_at_once(peer):
    """The receiver may have the report: sending it again and again would file it again and again."""
    assert "not an acknowledgement" in await unclear(await peer(says(f"\x0b{MSH}".encode(), then=20)), QUICK)


@given(st.binary(max_size=80), st.sampled_from([b"", b"\x0bMSH|^~\\&|R\rMSA|", b"\x0bMSA|AE|", b"MSA|AA|"]))
def test_whatever_is_answered_is_judged(wild, before):
    found = None
    with contextlib.suppress(Refused, Unclear):
        found = judged(before + wild, ID, "peer")
    assert found is None or found.code in ("AA", "CA")


@pytest.mark.parametrize("parts", [[], [b"\x0b"], [b"\r\n"]])
async def test_a_connection_that_ends_without_an_answer_is_tried_again(peer, parts):
    assert "closed" in await no_answer(await peer(says(*parts)))


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([b"HTTP/1.1 400 Bad Request\r\n\r\n"], "not an acknowledgement"),
        ([b"HTTP/1.1 400 Bad Request\x1c\r"], "not an acknowledgement"),
        ([b"SSH-2.0-x\r\n"], "not an acknowledgement"),
        ([b"\x0b\x1c\r"], "not an acknowledgement"),
        ([b"\x0bhello\x1c\r"], "not an acknowledgement"),
        ([b"\x0bMSH|^~\\&|RIS\r\x1c\r"], "not an acknowledgement"),
        ([b"\x0bMSH\rMSA\r\x1c\r"], "MSA-1"),
        ([b"\x0b" + bytes(range(14, 256)).replace(b"\x1c", b"") * 50 + b"\x1c\r"], "not an acknowledgement"),
        ([ack("XX")], "MSA-1"),
        ([ack("")], "MSA-1"),
        ([ack("A")], "MSA-1"),
        ([b"\x0b" + b"A" * 300_000 + b"\x1c\r"], "bytes"),
        ([b"A" * 65536] * 200, "bytes"),
    ],
)
async def test_an_answer_that_nobody_can_read_is_an_operators_at_once(peer, parts, said):
    assert said in await unclear(await peer(says(*parts)))


async def test_the_echo_of_our_message_is_no_acknowledgement(peer):
    async def talk(reader, writer):
        writer.write(b"\x0b" + await received(reader) + b"\x1c\r")

    assert "not an acknowledgement" in await unclear(await peer(talk))


@pytest.mark.slow
async def test_a_receiver_that_is_silent_or_drips_or_does_not_read_is_given_up(peer):
    async def drips(reader, writer):
        await received(reader)
        while True:
            writer.write(b"\x0b")
            await writer.drain()
            await asyncio.sleep(0.02)

    async def never_reads(reader, writer):
        reader._transport.pause_reading()
        await asyncio.sleep(20)

    assert "in time" in await no_answer(await peer(says(then=20)), QUICK)
    assert "in time" in await no_answer(await peer(drips), QUICK)
    message = built(a_report(pdf=bytes(30_000_000)))
    assert await no_answer(await peer(never_reads), Timeouts(send=0.5), message)


async def test_a_receiver_that_is_not_there_is_transient_and_named():
    assert "127.0.0.1:1" in await no_answer(1)
