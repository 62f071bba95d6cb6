"""Mistakes in the configuration are told in people's words, with the cure: and never with a value, which may be a
secret, or with what the libraries call things."""

from __future__ import annotations

import datetime

import pytest
from pydantic import ValidationError

from gateway.config import Config, ConfigError, load
from gateway.config.mistakes import Source
from gateway.config.wording import all_keys, mistake

KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
LEAST = "pacs:\n  - {name: main, ae_title: ORTHANC, host: 10.1.2.4, port: 4242}\n"
PACS = "pacs:\n  - name: main\n    ae_title: ORTHANC\n    host: 10.1.2.4\n    port: 4242\n"
SECRET = "hunter2"


@pytest.fixture
def told(tmp_path):
    """What is said of a file and an environment."""

    def told(content, **environment):
        path = tmp_path / "gateway.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(ConfigError) as e:
            load(path, {"AVARA_WEBHOOK_KEY": KEY} | environment)
        return [str(m).replace(str(tmp_path), "").replace("/gateway.yaml", "FILE") for m in e.value.mistakes]

    return told


@pytest.mark.parametrize(
    ("text", "line", "cure"),
    [
        ("http:\n\tport: 1\n", 2, "YAML indents with spaces only"),
        ("http:\n  port: 1\n\thost: a\n", 3, "YAML indents with spaces only"),
        ("http:\n  port:8080\n", 1, "http: a space is missing after the colon of port:"),
        ("http:\n  port:8080\n  host: x\n", 2, "a space is missing after the colon of port:"),
        ("port:8080\n", 1, "a space is missing after the colon of port:"),
        ("cache:\n" + LEAST, 1, "cache: is left empty"),
        ("pacs:\n", 1, "pacs: is left empty"),
        ("dicom: {port: }\n" + LEAST, 1, "has to be a whole number"),
        ("pacs:\n  name: main\n  ae_title: A\n  host: h\n  port: 1\n", 1, "pacs: is a list: put a - before"),
        (LEAST + "http:\n  - port: 1\n", 3, "is a section of keys and not a list"),
        (LEAST + "avara: {allowed_origins: 'https://a.example'}\n", 3, "is a list, even of one: put it in [ ]"),
        ("pacs:\n  - name: a\n   host: b\n", 3, "the indentation does not fit the lines above"),
        (" http: {port: 1}\n" + LEAST, 2, "the indentation does not fit the lines above"),
        ("http: {port: 1\n" + LEAST, 1, "a [ or { is not closed"),
        ("http: {host: 'x}\n" + LEAST, 1, "a quote is opened and not closed"),
        ("---\n" + LEAST + "---\na: 1\n", 4, "leave out the line ---"),
        (LEAST + "http: {port: many}\n", 3, "has to be a whole number"),
        (LEAST + "http: {port: 99999}\n", 3, "has to be 65535 at most"),
        (LEAST + "cache: {url_expiry: 30d}\n", 3, "has to be 7d at most"),
        (LEAST + "captures: {max_size: 5kB}\n", 3, "has to be 1MB at least"),
        (LEAST + "cache: {max_size: 0}\n", 3, "has to be 1KB at least"),
        (LEAST + "avara: {answer_within: 10h}\n", 3, "has to be 5m at most"),
        (LEAST + "log: {level: INFO}\n", 3, "did you mean info?"),
        (LEAST + "log: {level: verbose}\n", 3, "has to be one of debug, info, warning, error"),
        (LEAST + "store: {secure: maybe}\n", 3, "has to be true or false"),
        (PACS.replace("10.1.2.4", "http://10.1.2.4"), 4, "without http:// and without a path"),
        (PACS.replace("10.1.2.4", "10.1.2.4:104"), 4, "what follows the colon belongs to the key port"),
        (PACS.replace("10.1.2.4", "my pacs"), 4, "not a name or address"),
        (PACS.replace("ae_title", "aet"), 3, "did you mean ae_title?"),
        (PACS.replace("host", "ip"), 4, "did you mean host?"),
        (LEAST + "ae_title: X\n", 3, "there is no such key here: it belongs to dicom, pacs.0"),
        (LEAST + "state_dir: state\n", 3, "write it from the root"),
        (PACS.replace("ORTHANC", "AVARAGW"), 3, "is our own (dicom.ae_title)"),
        (LEAST + "reports: {allowed_hosts: ['https://reports.example']}\n", 3, "without https:// and path"),
        (LEAST + "reports:\n  hl7:\n    - {name: r, host: h, port: 1, fields: {PID3: x}}\n", 5, "write it like PID-3"),
        (LEAST + "captures:\n  enabled: true\n  targets: [other]\n", 5, "no PACS is named other; there are main"),
        (LEAST + "  - {name: main, ae_title: B, host: h, port: 1}\n", 3, "pacs.1.name: there are two of the same name"),
        (LEAST + "dicom: {tls: {certificate_file: /absent, key_file: /absent, ca_file: /absent}}\n", 3,
         "dicom.tls.certificate_file: cannot read /absent: No such file"),
        (PACS + "    dicomweb_url: https://p/w\n    dicomweb_ca_file: /absent\n", 7, "dicomweb_ca_file: cannot read"),
        (LEAST + "http: {public_url: “https://x.example”}\n", 3, "typographic quotes"),
        (LEAST + "store:\n\u00a0 secure: false\n", 4, "typographic quotes or spaces"),
        (LEAST + "http: {public_url: x.example}\n", 3, "write it like https://images.example.org"),
        (LEAST + "page:\n  port: 8080\n", 4, "page.port: is that of http.port, too"),
        (LEAST + "metrics:\n  port: 11112\n", 4, "metrics.port: is that of dicom.port, too"),
        (LEAST + "page: {port: 9465}\nmetrics:\n  port: 9465\n", 5, "metrics.port: is that of page.port, too"),
        (PACS.replace("ORTHANC", "A" * 17), 3, "1 to 16 ASCII characters"),
        (PACS + "    retrieve: c-fetch\n", 6, "did you mean c-get?"),
        (LEAST + "alerts:\n  email: {server: m, sender: a@b.example, recipients: c@d.example}\n", 4, "put it in [ ]"),
        (LEAST + "cache: {url_expiry: 10 minutes}\n", 3, "write it like 10s, 1h30m"),
        (LEAST + "cache: {max_size: lots}\n", 3, "write it like 200GB"),
        (LEAST + "page: {port: 9465, host: 0.0.0.0}\n", 3, "that needs users, or a proxy"),
        (LEAST + "page: {port: 9465, tls: {certificate_file: /absent, key_file: /absent}}\n", 3,
         "page.tls.certificate_file: cannot read /absent"),
    ],
)  # fmt: skip
def test_each_kind_of_mistake_names_its_line_and_its_cure(told, text, line, cure):
    said = told(text)
    assert any(f"FILE:{line}: " in one and cure in one for one in said), said
    if "absent, key" not in text:
        assert len({one.split(": ")[1] for one in said}) == len(said)  # nothing is told twice


def test_a_key_that_is_there_twice_is_told_with_both_lines_and_no_value(told):
    [said] = told(f"{LEAST}store:\n  secret_key: {SECRET}1\n  bucket: abc\n  secret_key: {SECRET}2\n")
    assert said == "FILE:6: secret_key is there twice, first in line 4: join the two, or keep one"
    [said] = told("http: {port: 1}\n" + LEAST + "http: {port: 2}\n")
    assert said.startswith("FILE:4: http is there twice, first in line 1")


@pytest.mark.parametrize("letter", list("@`%*&!|>,]}\"'-?:#{["))
@pytest.mark.parametrize("key", ["secret_key", "access_key", "nonsense"])
def test_no_beginning_of_a_secret_makes_the_parser_show_it(told, letter, key):
    text = f"{LEAST}store:\n  endpoint: 'http://minio'\n  {key}: {letter}{SECRET} {letter}\n"
    assert SECRET not in "".join(told(text))


@pytest.mark.parametrize(
    ("content", "cure"),
    [
        (f"# Ger\xe4t\n{LEAST}".encode("latin-1"), "FILE:1: there is a letter that is not UTF-8"),
        (f"{LEAST}# Ger\xe4t\n".encode("latin-1"), "FILE:3: there is a letter that is not UTF-8"),
        (LEAST.encode("utf-16"), "it is UTF-16: save it as UTF-8"),
        (b"\0" + LEAST.encode(), "is it binary?"),
    ],
)
def test_a_file_in_another_coding_says_how_to_save_it(told, content, cure):
    [said] = told(content)
    assert cure in said


def test_a_byte_order_mark_is_no_mistake(tmp_path):
    path = tmp_path / "gateway.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + LEAST.encode())
    assert load(path, {"AVARA_WEBHOOK_KEY": KEY}).pacs[0].port == 4242


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("AVARA_GATEWAY_HTTP_PORT", "AVARA_GATEWAY__HTTP__PORT"),
        ("avara_gateway__http__port", "AVARA_GATEWAY__HTTP__PORT"),
        ("AVARA_GATEWAY_HTTP__PUBLIC_URL", "AVARA_GATEWAY__HTTP__PUBLIC_URL"),
        ("AVARA_GATEWAY_PACS_2_AE_TITLE", "AVARA_GATEWAY__PACS__2__AE_TITLE"),
        ("Avara_Gateway__Dicom__Tls__Ca_File", "AVARA_GATEWAY__DICOM__TLS__CA_FILE"),
    ],
)
def test_a_variable_that_would_be_overlooked_is_told(told, name, meant):
    [said] = told(LEAST, **{name: "1"})
    assert said.startswith(f"{name}: is not read")
    assert said.endswith(f"write it {meant}")


def test_variables_of_others_are_let_be(tmp_path):
    path = tmp_path / "gateway.yaml"
    path.write_text(LEAST)
    theirs = {"AVARA_GATEWAY_PORT": "tcp://1.2.3.4:1", "AVARA_GATEWAY_SERVICE_HOST": "1.2.3.4", "HTTP_PORT": "1"}
    assert load(path, {"AVARA_WEBHOOK_KEY": KEY} | theirs).http.port == 8080


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("AVARA_GATEWAY__PACS__5__HOST", "there are 1 entries, so the next one is 1"),
        ("AVARA_GATEWAY__PACS__HOST", "names an entry of a list by its number"),
        ("AVARA_GATEWAY__PACS__0__HOST__0__X", "has to be one value, and is a list"),
        ("AVARA_GATEWAY__0__HOST", "there is no list"),
        ("AVARA_GATEWAY__HTTP__HOTS", "did you mean host?"),
        ("AVARA_GATEWAY__HTPP__PORT", "did you mean http?"),
        ("AVARA_GATEWAY__HTTP__PORT", "has to be a whole number"),
    ],
)
def test_a_variable_that_fits_nothing_is_told(told, name, cure):
    assert cure in told(LEAST, **{name: "x"})[0]


@pytest.mark.parametrize(
    ("content", "line", "cure"),
    [
        (f'# Avara\n"{KEY}"\n', 2, "without quotes"),
        (f"\nAVARA_WEBHOOK_KEY={KEY}\n", 1, "without a name before it"),
        (f"{KEY}\nwhsec_aGk=\n", 2, "too short for a webhook key"),
        (f"{KEY}\n{KEY[6:]}\n", 2, "it is whsec_ followed by base64"),
    ],
)
def test_a_file_of_keys_says_which_line_is_none_and_not_what_it_holds(told, tmp_path, content, line, cure):
    keys = tmp_path / "keys"
    keys.write_text(content)
    [said] = told(f"{LEAST}avara: {{webhook_keys_file: {keys}}}\n")
    assert said.startswith(f"/keys:{line}: ")
    assert cure in said
    assert KEY[6:] not in said


def test_a_file_of_keys_may_have_remarks_and_come_from_any_editor(tmp_path):
    keys, path = tmp_path / "keys", tmp_path / "gateway.yaml"
    keys.write_bytes(f"\ufeff# of May\r\n{KEY}  # until June\r\n\r\n".encode())
    path.write_text(f"{LEAST}avara: {{webhook_keys_file: {keys}}}\n")
    assert [k.get_secret_value() for k in load(path, {}).avara.webhook_keys] == [KEY]


def test_who_only_looks_needs_no_key(tmp_path):
    path = tmp_path / "gateway.yaml"
    path.write_text(LEAST)
    assert load(path, {}, keys_needed=False).avara.webhook_keys == []


WRONG = [None, SECRET, 3.5, -7, 10**30, True, [], {}, [SECRET], {SECRET: SECRET}, [{}], datetime.date(2026, 1, 1)]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda w: type(w).__name__)
def test_whatever_stands_at_whatever_key_is_told_in_peoples_words_and_not_repeated(tmp_path, wrong):
    said_at_all = 0
    for place, key in all_keys():
        path = [int(p) if p.isdecimal() else p for p in place.split(".") if p] + [key]
        value = wrong
        for part in reversed(path):
            value = [value] if part == 0 else {part: value}
        try:
            Config.model_validate(value)
        except ValidationError as e:
            for error in e.errors():
                said = mistake(error, Source(tmp_path, value)).text
                said_at_all += 1
                assert said
                assert SECRET not in said, (path, said)
                for word in ("Input", "Config", "valid ", "pydantic", "instance of", "unable", "parse", "dict", "str "):
                    assert word not in said, (path, said)
    assert said_at_all > 50


def test_ports_of_two_addresses_may_be_the_same(tmp_path):
    path = tmp_path / "gateway.yaml"
    path.write_text(LEAST + "http: {host: 127.0.0.1, port: 8080}\npage: {host: 127.0.0.2, port: 8080}\n")
    assert load(path, {"AVARA_WEBHOOK_KEY": KEY}).page.port == 8080
