"""Who may see the page, and what they may do: logins, a proxy's word, and nobody who guesses."""

from __future__ import annotations

import ipaddress

import pytest
from click.testing import CliRunner
from pydantic import ValidationError

from gateway.cli import main
from gateway.config.page import PageConfig, PageUserConfig
from gateway.page import passwords
from gateway.page.visitors import IDLE, LASTS, LONGEST_PAUSE, TRIES, Account, Logins, NotNow, Proxy, Role, Visitors
from tests.clock import ManualClock

PASSWORD = "a quiet place to look"
HASH = passwords.make(PASSWORD)


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def logins(clock):
    return Logins([Account("ann", HASH, Role.OPERATOR), Account("bob", HASH, Role.VIEWER)], clock)


@pytest.mark.slow
def test_a_hash_fits_its_password_alone_and_two_of_one_password_differ():
    assert passwords.fits(PASSWORD, HASH)
    assert not passwords.fits(PASSWORD + " ", HASH)
    assert passwords.make(PASSWORD) != HASH
    assert PASSWORD not in HASH


def test_the_command_makes_what_the_configuration_takes():
    made = CliRunner().invoke(main, ["password"], input=PASSWORD + "\n")
    assert made.exit_code == 0, made.output
    user = PageUserConfig(name="ann", password_hash=made.stdout.strip())
    assert passwords.fits(PASSWORD, user.password_hash.get_secret_value())
    short = CliRunner().invoke(main, ["password"], input="short\n")
    assert short.exit_code == 1
    assert "too short" in short.output


@pytest.mark.parametrize(
    "kept",
    [
        "plain", "scrypt$32768$8$1$AAAA$AAAA", HASH.replace("32768", "32767"), HASH.replace("32768", "1024"),
        HASH.replace("32768", "8388608"), HASH.replace("scrypt", "md5"), HASH + "$x", HASH.replace("$8$", "$0$"),
    ],
    ids=["plain", "short", "an odd cost", "too weak", "too dear", "another kind", "more fields", "no blocks"],
)  # fmt: skip
def test_what_is_no_hash_of_ours_or_too_weak_or_too_dear_is_a_mistake(kept):
    with pytest.raises(ValidationError, match="avara-gateway password"):
        PageUserConfig(name="ann", password_hash=kept)


@pytest.mark.parametrize("host", ["0.0.0.0", "10.1.2.3", "::", "gateway.example.org"])
def test_the_page_is_not_opened_wider_without_saying_who_may_come(host):
    with pytest.raises(ValidationError, match="needs users, or a proxy"):
        PageConfig(host=host, port=9465)
    opened = PageConfig(host=host, port=9465, users=[{"name": "ann", "password_hash": HASH}])
    assert "HTTPS" in opened.warnings()[0]
    assert PageConfig(port=9465).warnings() == []


@pytest.mark.slow
async def test_whoever_logs_in_has_their_role_until_they_log_out(logins):
    visitors = Visitors(logins, None)
    cookie = await logins.log_in("ann", PASSWORD, "10.0.0.1")
    visitor = visitors.visitor("10.0.0.1", {}, cookie, clicked=True)
    assert (visitor.name, visitor.is_operator) == ("ann", True)
    other = visitors.visitor("10.0.0.1", {}, await logins.log_in("bob", PASSWORD, "10.0.0.1"), clicked=True)
    assert not other.is_operator
    assert other.token != visitor.token
    logins.log_out(cookie)
    for nobody in (cookie, "", "guessed"):
        assert visitors.visitor("10.0.0.1", {}, nobody, clicked=True) is None


@pytest.mark.slow
async def test_a_session_ends_when_nobody_clicks_and_after_its_time_whatever_a_page_fetches_by_itself(logins, clock):
    cookie = await logins.log_in("ann", PASSWORD, "10.0.0.1")
    await clock.pass_time(IDLE - 1, step=LASTS)
    assert logins.account(cookie, clicked=False) is not None
    await clock.pass_time(2, step=LASTS)
    assert logins.account(cookie, clicked=False) is None
    cookie = await logins.log_in("ann", PASSWORD, "10.0.0.1")
    for _ in range(int(LASTS / IDLE * 2) - 1):
        await clock.pass_time(IDLE / 2, step=LASTS)
        assert logins.account(cookie, clicked=True) is not None
    await clock.pass_time(IDLE / 2, step=LASTS)
    assert logins.account(cookie, clicked=True) is None


@pytest.mark.slow
async def test_guessing_is_locked_out_by_name_from_anywhere_and_by_address_for_any_name(logins, clock):
    for n in range(TRIES):
        assert await logins.log_in("ann", "wrong", f"10.0.0.{n}") is None
    with pytest.raises(NotNow):
        await logins.log_in("ann", PASSWORD, "10.0.9.9")
    await clock.pass_time(LONGEST_PAUSE, step=LASTS)
    assert await logins.log_in("ann", PASSWORD, "10.0.9.9")
    for n in range(TRIES):
        assert await logins.log_in(f"name {n}", "wrong", "10.6.6.6") is None
    with pytest.raises(NotNow):
        await logins.log_in("bob", PASSWORD, "10.6.6.6")
    assert await logins.log_in("bob", PASSWORD, "10.0.0.1")


def test_a_proxy_is_believed_from_its_own_address_alone():
    proxy = Proxy([ipaddress.ip_network("10.2.0.0/16")], "X-Remote-User", frozenset({"ann"}))
    visitors = Visitors(None, proxy)
    ann = visitors.visitor("10.2.3.4", {"X-Remote-User": "ann"}, "", clicked=True)
    bob = visitors.visitor("10.2.3.4", {"X-Remote-User": "bob"}, "", clicked=True)
    assert (ann.is_operator, bob.is_operator) == (True, False)
    assert visitors.visitor("10.3.3.4", {"X-Remote-User": "ann"}, "", clicked=True) is None
    assert visitors.visitor("10.2.3.4", {}, "", clicked=True) is None


def test_without_users_whoever_is_here_may_look_and_decide_nothing():
    visitor = Visitors(None, None).visitor("127.0.0.1", {"X-Remote-User": "ann"}, "", clicked=True)
    assert not visitor.is_operator
    assert not visitor.name
