import os

import pytest

from detector.config import Config, credentials
from detector.config.credentials import (
    PASSWORD,
    QUERY,
    TOKEN,
    USERNAME,
    hide_password,
    with_password,
    without_passwords,
)

NAMES = (USERNAME, PASSWORD, TOKEN, QUERY)


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch):
    for name in NAMES:
        monkeypatch.setenv(name, "")  # so that monkeypatch removes what a test stores
        monkeypatch.delenv(name)
    monkeypatch.setattr(credentials, "_stored", {})


def _stored() -> dict[str, str]:
    return {name: os.environ[name] for name in NAMES if name in os.environ}


@pytest.mark.parametrize(
    ("uri", "hidden", "stored"),
    [
        ("http://ada:pw7@h:5000/x", "http://h:5000/x", {USERNAME: "ada", PASSWORD: "pw7"}),
        ("https://a%40b:p%3A%2F%40%25@h", "https://h", {USERNAME: "a@b", PASSWORD: "p:/@%"}),
        ("http://ada:p@w@h", "http://h", {USERNAME: "ada", PASSWORD: "p@w"}),
        ("http://ada:p/w@h/x", "http://h/x", {USERNAME: "ada", PASSWORD: "p/w"}),
        ("HTTP://ada:pw7@[::1]:5000", "HTTP://[::1]:5000", {USERNAME: "ada", PASSWORD: "pw7"}),
        ("http://ada@h", "http://h", {USERNAME: "ada"}),
        ("http://:pw7@h", "http://h", {PASSWORD: "pw7"}),
        ("http://h?token=t0&a=1", "http://h?a=1", {TOKEN: "t0"}),
        ("http://h?sig=s0&a=1&auth=t1", "http://h?a=1", {QUERY: "sig=s0&auth=t1"}),
        ("http://h?PassWord=a+b#top", "http://h#top", {PASSWORD: "a b"}),
        ("postgresql://ada:pw7@h:5432/db", "postgresql://ada@h:5432/db", {PASSWORD: "pw7"}),
        ("postgresql+psycopg2://ada:p%3A@[::1]/db", "postgresql+psycopg2://ada@[::1]/db", {PASSWORD: "p:"}),
        ("mysql://ada:p/w?@h/db", "mysql://ada@h/db", {PASSWORD: "p/w?"}),
        ("postgresql:///db?host=/run&password=pw7", "postgresql:///db?host=/run", {PASSWORD: "pw7"}),
        ("mysql://h/db?sslpassword=s%2F1&a=1", "mysql://h/db?a=1", {QUERY: "sslpassword=s%2F1"}),
        ("mysql://ada:pw7@h/d?token=t&password=p", "mysql://ada@h/d", {PASSWORD: "pw7", QUERY: "token=t&password=p"}),
        ("mssql+pyodbc:///?odbc_connect=PWD%3Dx", "mssql+pyodbc:///", {QUERY: "odbc_connect=PWD%3Dx"}),
        ("htp://ada:pw7@h", "htp://ada@h", {PASSWORD: "pw7"}),  # invalid addresses, which error messages quote
        ("http//ada:pw7@h", "http//ada@h", {PASSWORD: "pw7"}),
        ("ada:pw7@h", "ada@h", {PASSWORD: "pw7"}),
    ],
)
def test_passwords_leave_the_address_for_the_environment(uri, hidden, stored):
    assert hide_password(uri) == hidden
    assert _stored() == stored
    assert hide_password(hidden) == hidden and _stored() == stored


@pytest.mark.parametrize(
    "uri",
    [
        *("http://h:5000", "https://h:5000/team@x", "http://[fe80::1]:5000/a", "http://h/?a=1", "http://h?x=a@b"),
        *("sqlite:////data/a:b@c/mlflow.db", "sqlite:///mlflow.db?token=x", "mlflow.db", "a/b:c@d", ""),
        *("postgresql://ada@h/db?sslmode=require&passfile=/x", "mysql://h:3306/db?a=1#b"),
    ],
)
def test_addresses_without_a_password_stay_as_they_are(uri):
    assert hide_password(uri) == uri and _stored() == {} and with_password(uri) == uri


@pytest.mark.parametrize(
    "uri",
    [
        *("postgresql://ada:pw7@h:5432/db", "postgresql+psycopg2://ada:p%3A%2F%40@[::1]/db?sslmode=require"),
        *(
            "mysql://ada:pw7@h/db?a=1&sslpassword=s%2F1",
            "mysql://h/db?sslpassword=s",
            "postgresql://:pw7@/db?host=/run",
        ),
    ],
)
def test_a_database_client_gets_the_password_back(uri):
    hidden = hide_password(uri)
    assert hidden != uri and with_password(hidden) == uri
    assert with_password(uri) == uri or QUERY in os.environ


def test_servers_read_the_variables_themselves():
    assert with_password(hide_password("http://ada:pw7@h:5000")) == "http://h:5000"


def test_variables_of_the_user_win_and_those_of_an_earlier_address_do_not(monkeypatch):
    monkeypatch.setenv(PASSWORD, "users")
    assert hide_password("http://ada:old@h") == "http://h"
    assert _stored() == {USERNAME: "ada", PASSWORD: "users"}
    monkeypatch.delenv(PASSWORD)
    monkeypatch.setenv(USERNAME, "bob")
    hide_password("http://eve@h")
    assert _stored() == {USERNAME: "bob"}
    hide_password("http://ada:wrong@h")
    hide_password("http://eve:right@h")
    assert _stored() == {USERNAME: "eve", PASSWORD: "right"}


def test_a_configuration_never_holds_the_password(tmp_path):
    (tmp_path / "c.yaml").write_text("track: {tracking_uri: 'http://ada:pw7@h:5000'}")
    config = Config.load(tmp_path / "c.yaml")
    older = vars(config.to_hparams()) | {"tracking_uri": "http://ada:pw7@h:5000"}
    for one in (
        config,
        Config.from_hparams(older),
        Config().with_overrides({"track.tracking_uri": older["tracking_uri"]}),
    ):
        assert one == Config().with_overrides({"track.tracking_uri": "http://h:5000"})
        assert one.fingerprint() == config.fingerprint()
        assert "pw7" not in f"{one}{one.to_yaml()}{one.to_flat()}{one.to_hparams()}"
    assert _stored() == {USERNAME: "ada", PASSWORD: "pw7"}


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("got 'http://ada:pw7@h:5000', allowed: x@y", "got 'http://h:5000', allowed: x@y"),
        ("(postgresql+psycopg2://u:1/w:@h/db?b=1&sslpassword=s c", "(postgresql+psycopg2://u@h/db?b=1 c"),
        ("http://ada:p'w@h http://h:5000,http://eve:x@g", "http://h http://h:5000,http://g"),
        ('{"a":"http://h:5000","b":"mysql://u:p@h/d"}', '{"a":"http://h:5000","b":"mysql://u@h/d"}'),
        (
            "http://h:5000/a@b http://ada@h and http://[::1]:5000",
            "http://h:5000/a@b http://ada@h and http://[::1]:5000",
        ),
    ],
)
def test_passwords_leave_messages(text, hidden):
    assert without_passwords(text) == hidden
