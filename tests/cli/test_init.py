"""``init`` writes a configuration that loads, keeps the key to itself, and changes nothing where an answer is wrong."""

from __future__ import annotations

import stat

import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.cli.common import MISCONFIGURED
from gateway.config import load
from tests.conftest import KEY

ANSWERS = {
    "public-url": "https://gateway.example.org",
    "pacs-host": "127.0.0.1",
    "pacs-port": "1",
    "pacs-ae-title": "ORTHANC",
    "ae-title": "AVARAGW",
}


@pytest.fixture
def init(tmp_path):
    def init(*more, typed=None, **changed):
        key = tmp_path / "key"
        key.write_text(f"{KEY}\n")
        options = [] if typed else [f"--{name}={value}" for name, value in {**ANSWERS, **changed}.items()]
        options += [] if typed else [f"--webhook-key-file={key}"]
        return CliRunner().invoke(
            main, ["init", "-c", str(tmp_path / "etc/gateway.yaml"), *options, *more], input=typed
        )

    return init


def test_by_options_it_asks_nothing_and_what_it_writes_loads(init, tmp_path):
    done = init()
    assert done.exit_code == 0, done.output
    assert "cannot be reached" in done.output  # the PACS was tried
    config = load(tmp_path / "etc/gateway.yaml", {})
    assert [k.get_secret_value() for k in config.avara.webhook_keys] == [KEY]
    assert (config.pacs[0].host, config.pacs[0].port, config.pacs[0].ae_title) == ("127.0.0.1", 1, "ORTHANC")
    assert config.http.public_url == "https://gateway.example.org"
    for file in ("gateway.yaml", "webhook_keys"):
        assert not stat.S_IMODE((tmp_path / "etc" / file).stat().st_mode) & 0o027
    assert KEY not in (tmp_path / "etc/gateway.yaml").read_text() + done.output


def test_it_asks_again_where_an_answer_cannot_be(init, tmp_path):
    typed = ["https://gateway.example.org/path", "https://gateway.example.org", "http://pacs", "127.0.0.1", "many", "1",
             "TOO_LONG_AN_AE_TITLE", "ORTHANC", "", "whsec_short", KEY]  # fmt: skip
    done = init(typed="\n".join(typed) + "\n")
    assert done.exit_code == 0, done.output
    for said in ("without a path", "without http://", "a whole number", "not an AE title", "webhook key"):
        assert said in done.output
    assert KEY not in done.output
    assert load(tmp_path / "etc/gateway.yaml", {}).dicom.ae_title == "AVARAGW"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"pacs-port": "99999"}, "65535 at most"),
        ({"public-url": "gateway"}, "write it like https://"),
        ({"pacs-ae-title": "AVARAGW"}, "cannot have the same AE title"),
    ],
)
def test_a_wrong_answer_writes_nothing(init, tmp_path, changed, said):
    done = init(**changed)
    assert done.exit_code != 0
    assert said in done.output
    assert not (tmp_path / "etc").exists()


def test_what_is_there_is_not_replaced_unasked(init, tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/gateway.yaml").write_text("mine")
    assert "is there already" in init().output
    assert (tmp_path / "etc/gateway.yaml").read_text() == "mine"
    assert init("--force").exit_code == 0


def test_the_key_can_come_later(tmp_path):
    path = tmp_path / "etc/gateway.yaml"
    done = CliRunner().invoke(main, ["init", "-c", str(path), "--later", *(f"--{k}={v}" for k, v in ANSWERS.items())])
    assert done.exit_code == 0, done.output
    assert "cannot be reached" not in done.output
    keys = path.with_name("webhook_keys")
    assert (keys.read_text(), stat.S_IMODE(keys.stat().st_mode)) == ("", 0o600)
    served = CliRunner(env={"AVARA_WEBHOOK_KEY": None}).invoke(main, ["serve", "-c", str(path)])
    assert served.exit_code == MISCONFIGURED
    assert "webhook" in served.output
    keys.write_text(f"{KEY}\n")
    assert load(path, {}).pacs[0].ae_title == "ORTHANC"


def test_shells_complete_the_commands():
    completion = CliRunner().invoke(main, [], env={"_AVARA_GATEWAY_COMPLETE": "bash_source"}, prog_name="avara-gateway")
    assert "complete" in completion.output
