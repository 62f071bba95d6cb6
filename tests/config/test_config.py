"""The configuration: what is read, what is wrong with it and where, and that secrets stay secret."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import ConfigError, effective, load, reference, schema
from gateway.config.values import parse_duration, parse_size, show_duration, show_size

KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ROOT = Path(__file__).parent.parent.parent
LEAST = "pacs:\n  - {name: main, ae_title: ORTHANC, host: 10.1.2.4, port: 4242}\n"
PACS = "pacs:\n  - name: main\n    ae_title: ORTHANC\n    host: 10.1.2.4\n    port: 4242\n"
STOW = PACS + "    dicomweb_url: https://pacs/dicom-web\n    store: stow-rs\n"


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "gateway.yaml"
        path.write_text(text)
        return path

    return write


def mistakes(path, environment=None):
    with pytest.raises(ConfigError) as e:
        load(path, {"AVARA_WEBHOOK_KEY": KEY} if environment is None else environment)
    return [str(m).replace(str(path), "FILE") for m in e.value.mistakes]


def test_the_least_that_works_has_sensible_defaults(write):
    config = load(write(LEAST), {"AVARA_WEBHOOK_KEY": KEY})
    assert (config.http.host, config.avara.path, config.dicom.port) == ("127.0.0.1", "/webhooks/avara", 11112)
    assert (config.avara.answer_within, config.cache.max_size) == (10.0, 200_000_000_000)
    assert config.store.endpoint is None


def test_the_minimal_example_loads():
    assert load(ROOT / "config/gateway.minimal.yaml", {"AVARA_WEBHOOK_KEY": KEY}).pacs


def test_the_full_example_lacks_nothing_but_its_secret_files():
    told = mistakes(ROOT / "config/gateway.example.yaml")
    assert [m.split(": ")[1] for m in told] == ["store.access_key_file", "store.secret_key_file"]


def test_all_mistakes_are_told_at_once_with_line_and_key(write):
    path = write(
        "http: {prot: 80}\n"
        "dicom:\n"
        "  ae_title: MUCH_TOO_LONG_AE_TITLE\n"
        "pacs:\n"
        "  - name: a\n"
        "    ae_title: A\n"
        "    port: 99999\n"
        "cache: {max_size: 12 apples}\n"
    )
    told = mistakes(path)
    assert "FILE:1: http.prot: there is no such key; did you mean port?" in told
    assert any(m.startswith("FILE:3: dicom.ae_title: not an AE title") for m in told)
    assert "FILE:5: pacs.0.host: is missing" in told
    assert any(m.startswith("FILE:7: pacs.0.port: ") for m in told)
    assert any(m.startswith("FILE:8: cache.max_size: not a size") for m in told)
    assert len(told) == 5


BY_WEB_ALONE = "pacs: [{name: a, retrieve: wado-rs, store: stow-rs, dicomweb_url: 'https://pacs.example/dicom-web'}]"


def test_a_pacs_that_is_reached_by_https_alone_needs_no_title_host_and_port(write):
    [pacs] = load(write(BY_WEB_ALONE), {"AVARA_WEBHOOK_KEY": KEY}).pacs
    assert (pacs.titles, pacs.host, pacs.port) == (frozenset(), "", 0)


@pytest.mark.parametrize(
    "changed",
    [
        ("retrieve: wado-rs, ", ""),
        ("store: stow-rs, ", ""),
        ("wado-rs", "[wado-rs, c-get]"),
        ("https://pacs", "nowhere"),
    ],
)
def test_any_other_pacs_needs_them(write, changed):
    told = mistakes(write(BY_WEB_ALONE.replace(*changed)))
    assert told
    if changed[1] != "nowhere":
        assert [m.split(": ", 1)[1] for m in told] == [f"pacs.0.{k}: is missing" for k in ("ae_title", "host", "port")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "pacs: is missing"),
        ("- a\n", "must hold keys and values"),
        ("a: [\n", "not YAML"),
        ("http: {port: 1}\nhttp: {port: 2}\n" + LEAST, "http is there twice"),
        (LEAST + "  - {name: main, ae_title: B, host: h, port: 1}\n", "two of the same name: main"),
        (LEAST + "cache: {url_expiry: 8d}\n", "cache.url_expiry"),
        (LEAST + "avara: {answer_within: 100ms}\n", "avara.answer_within"),
        (LEAST + "store: {endpoint: 'https://minio:9000'}\n", "host:port, without https://"),
        (LEAST + "store: {endpoint: 'minio:9000'}\n", "an endpoint needs access_key"),
        (LEAST + "http: {public_url: 'https://x.example/path'}\n", "without a path"),
        (PACS + "    retrieve: dimse\n", "one of c-move, c-get, wado-rs"),
        (PACS + "    retrieve: [c-move, wado-rs]\n", "wado-rs needs dicomweb_url"),
        (PACS + "    store: stow-rs\n", "store: stow-rs needs dicomweb_url"),
        (PACS + "    store: dimse\n", "c-store"),
        (STOW + "captures: {storage_commitment: true}\n", "captures.storage_commitment: PACS main is stored in by"),
        (STOW + "reports: {pacs: {storage_commitment: true}}\n", "or set that PACS's store to c-store"),
        (PACS + "    dicomweb_url: pacs/dicom-web\n", "write it like https://pacs.example.org/dicom-web"),
        (PACS + "    dicomweb_url: https://me:pw@pacs/dicom-web\n", "a password does not belong in a URL"),
        (PACS + "    dicomweb_user: me\n", "go together"),
        (PACS + "    dicomweb_user: 'm:e'\n    dicomweb_password: p\n", "it has no colon"),
        (PACS + "    dicomweb_token: 'two words'\n", "pacs.0.dicomweb_token: not a bearer token"),
        (PACS + "    dicomweb_user: me\n    dicomweb_password: p\n    dicomweb_token: t\n", "exclude each other"),
    ],
)
def test_each_kind_of_mistake_is_told(write, text, expected):
    [told] = mistakes(write(text))
    assert told.startswith("FILE")
    assert expected in told


def test_a_missing_file_is_told(tmp_path):
    assert "there is no such file" in mistakes(tmp_path / "absent.yaml")[0]


def test_the_environment_goes_over_the_file(write):
    environment = {
        "AVARA_WEBHOOK_KEY": KEY,
        "AVARA_GATEWAY__HTTP__PORT": "8081",
        "AVARA_GATEWAY__PACS__0__HOST": "10.9.9.9",
        "AVARA_GATEWAY__AVARA__ALLOWED_ORIGINS": '["https://viewer.example"]',
    }
    config = load(write(LEAST), environment)
    assert (config.http.port, config.pacs[0].host) == (8081, "10.9.9.9")
    assert config.avara.allowed_origins == ["https://viewer.example"]


def test_a_mistake_in_the_environment_names_the_variable(write):
    environment = {"AVARA_WEBHOOK_KEY": KEY, "AVARA_GATEWAY__HTTP__PORT": "many", "AVARA_GATEWAY__HTPP__PORT": "1"}
    told = mistakes(write(LEAST), environment)
    assert any(m.startswith("AVARA_GATEWAY__HTTP__PORT: http.port: ") for m in told)
    assert any(m.startswith("AVARA_GATEWAY__HTPP__PORT: htpp: there is no such key") for m in told)


def test_no_webhook_key_is_a_mistake_that_says_where_to_put_one(write):
    assert "AVARA_WEBHOOK_KEY" in mistakes(write(LEAST), {})[0]


def test_secrets_come_from_files(write, tmp_path):
    (tmp_path / "keys").write_text(f"{KEY}\n")
    (tmp_path / "secret").write_text("hidden\n")
    store = f"{{endpoint: 'minio:9000', access_key: me, secret_key_file: {tmp_path / 'secret'}}}"
    config = load(write(f"{LEAST}avara: {{webhook_keys_file: {tmp_path / 'keys'}}}\nstore: {store}\n"), {})
    assert [k.get_secret_value() for k in config.avara.webhook_keys] == [KEY]
    assert config.store.secret_key.get_secret_value() == "hidden"


def test_a_pacs_says_how_it_is_retrieved_from_and_its_secrets_come_from_files(write, tmp_path):
    (tmp_path / "password").write_text("hidden-password\n")
    text = f"{PACS}    dicomweb_url: https://pacs/dicom-web/\n    dicomweb_user: me\n" + (
        f"    dicomweb_password_file: {tmp_path / 'password'}\n"
    )
    environment = {"AVARA_WEBHOOK_KEY": KEY}
    config = load(write(text), environment)
    [pacs] = config.pacs
    assert (pacs.dicomweb_url, pacs.methods) == ("https://pacs/dicom-web", ["c-move", "wado-rs"])
    assert pacs.dicomweb_password.get_secret_value() == "hidden-password"
    assert "hidden-password" not in effective(config) + repr(config)
    [pacs] = load(write(text + "    retrieve: c-get\n"), environment).pacs
    assert pacs.methods == ["c-get", "wado-rs"]
    environment |= {"AVARA_GATEWAY__PACS__0__DICOMWEB_TOKEN": "hidden-token"}
    [pacs] = load(write(f"{PACS}    dicomweb_url: https://pacs\n    retrieve: wado-rs\n"), environment).pacs
    assert (pacs.methods, pacs.dicomweb_token.get_secret_value()) == (["wado-rs"], "hidden-token")
    (tmp_path / "token").write_text("hidden token")
    [told] = mistakes(write(f"{PACS}    dicomweb_token_file: {tmp_path / 'token'}\n"))
    assert told == "FILE:6: pacs.0.dicomweb_token_file: not a bearer token: ASCII without spaces (RFC 6750)"
    (tmp_path / "password").unlink()
    [told] = mistakes(write(text))
    assert told.startswith("FILE:8: pacs.0.dicomweb_password_file: cannot read ")


def test_an_unreadable_secret_file_is_told(write, tmp_path):
    told = mistakes(write(f"{LEAST}avara: {{webhook_keys_file: {tmp_path / 'absent'}}}\n"), {})
    assert f"cannot read {tmp_path / 'absent'}" in told[0]


def test_secrets_are_never_shown(write):
    text = f"{LEAST}avara: {{webhook_keys: ['{KEY}']}}\n" + (
        "store: {endpoint: 'minio:9000', access_key: me, secret_key: hidden-secret}\n"
    )
    config = load(write(text), {})
    for shown in (effective(config), repr(config), str(config), json.dumps(config.model_dump(mode="json"))):
        assert KEY not in shown
        assert "hidden-secret" not in shown
    told = mistakes(write(text.replace(KEY, "whsec-hidden-secret")), {})
    assert "hidden-secret" not in "".join(told)
    assert "avara.webhook_keys.0" in told[0]


def test_an_ae_title_that_yaml_takes_for_something_else_stays_a_title(write):
    config = load(write("pacs:\n  - {name: 1, ae_title: NO, host: h, port: 1}\n"), {"AVARA_WEBHOOK_KEY": KEY})
    assert (config.pacs[0].ae_title, config.pacs[0].name) == ("NO", "1")


def test_the_reference_is_what_the_models_say():
    assert reference() in (ROOT / "config" / "reference.md").read_text(), "run: make reference"


def test_the_schema_names_every_section():
    assert {"http", "avara", "dicom", "pacs", "store", "cache", "state_dir", "log"} <= set(schema()["properties"])


def test_what_is_unwise_is_warned_of(write):
    text = LEAST + "http: {host: 0.0.0.0, public_url: 'http://images.example'}\n"
    warned = " ".join(load(write(text), {"AVARA_WEBHOOK_KEY": KEY}).warnings())
    assert "give it HTTPS" in warned
    assert "http.host is 0.0.0.0" in warned
    local = load(write(LEAST + "http: {public_url: 'http://localhost:8080'}\n"), {"AVARA_WEBHOOK_KEY": KEY})
    assert "write the URL that they use" in " ".join(local.warnings())
    warned = " ".join(load(write(PACS + "    dicomweb_url: http://pacs/web\n"), {"AVARA_WEBHOOK_KEY": KEY}).warnings())
    assert "dicomweb_url is http" in warned


@given(st.integers(0, 10**8))
def test_durations_read_as_they_are_shown(seconds):
    assert parse_duration(show_duration(float(seconds))) == seconds


@given(st.integers(0, 10**16))
def test_sizes_read_as_they_are_shown(size):
    assert parse_size(show_size(size)) == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10s", 10), ("1h30m", 5400), ("250ms", 0.25), ("90", 90), (90, 90), ("1.5h", 5400), ("2d", 172800)],
)
def test_durations_are_understood(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "10 apples", "s", "-1s", "1h-30m", True, "nan", None])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"), [("200GB", 200 * 10**9), ("512MiB", 512 * 2**20), ("1.5k", 1500), (7, 7), ("1 TB", 10**12)]
)
def test_sizes_are_understood(text, size):
    assert parse_size(text) == size


@given(st.text(max_size=10))
def test_no_text_makes_a_size_crash(text):
    with contextlib.suppress(ValueError):
        assert parse_size(text) >= 0


@pytest.mark.parametrize(
    "key", ["whsec_", "whsec_!!!!", "whsec_MfKQ9r8GKYqrTwjU PD8ILPZIo2LaLaSw", "whsec_MfKQ9r8GK", KEY[6:]]
)
def test_a_webhook_key_that_no_signature_could_be_made_with_is_refused(write, key):
    assert "avara.webhook_keys.0" in mistakes(write(f"{LEAST}avara: {{webhook_keys: ['{key}']}}\n"), {})[0]


def test_proxies_are_networks_and_what_is_none_says_how_to_write_one(write):
    text = f"{LEAST}avara: {{webhook_keys: ['{KEY}']}}\nhttp: {{trusted_proxies: [PROXIES]}}\n"
    assert load(write(text.replace("PROXIES", "10.1.2.3")), {}).http.trusted_proxies == ["10.1.2.3/32"]
    told = mistakes(write(text.replace("PROXIES", "proxy.example")), {})
    assert "write it like 10.1.2.0/24" in told[0]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://hooks.example.org/services/T0/s3cret", "https://hooks.example.org/********"),
        ("https://hooks.example.org:8443/?key=s3cret", "https://hooks.example.org:8443/********"),
        ("https://alarm.example.org", "https://alarm.example.org"),
    ],
)
def test_the_path_of_an_alerts_url_is_a_secret(write, url, shown):
    path = write(f"{LEAST}alerts: {{webhook: {{url: '{url}'}}}}\n")
    config = load(path, {"AVARA_WEBHOOK_KEY": KEY})
    assert config.alerting.webhook.url == url
    told = effective(config)
    assert "s3cret" not in told
    assert f"url: {shown}" in told


def test_a_server_with_a_certificate_needs_no_proxy(write, tmp_path):
    for name in ("c.pem", "k.pem"):
        (tmp_path / name).write_text("PEM")
    files = f"certificate_file: {tmp_path}/c.pem, key_file: {tmp_path}/k.pem"
    open_to_all = f"{LEAST}http: {{host: 0.0.0.0, tls: {{{files}}}}}\n"
    config = load(write(open_to_all), {"AVARA_WEBHOOK_KEY": KEY})
    assert config.gateway_url.startswith("https://")
    assert not [told for told in config.warnings() if "speaks HTTP only" in told]
    bare = load(write(f"{LEAST}http: {{host: 0.0.0.0}}\n"), {"AVARA_WEBHOOK_KEY": KEY})
    assert [told for told in bare.warnings() if "http.tls" in told]
