"""Passwords in the address of the tracking store: they are kept in environment variables, never in a setting.

Settings are written to checkpoints, YAML files and MLflow. A password must therefore leave an address before the
address becomes a setting.
"""

import os
import re
from urllib.parse import quote, unquote, unquote_plus

__all__ = [
    "PASSWORD",
    "QUERY",
    "TOKEN",
    "USERNAME",
    "hide_password",
    "split_password",
    "with_password",
    "without_passwords",
]

USERNAME, PASSWORD, TOKEN = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"
"""Environment variables that MLflow's client reads for a server."""

QUERY = "EVFORGE_TRACKING_QUERY"
"""Environment variable with further secret parts of a database's address, such as `sslpassword=...`."""

_SECRET = re.compile(
    r"password|passwd|passphrase|pwd|secret|token|credential|signature|api_?key|access_?key|odbc_connect|"
    r"^(?:auth|key|sig|pass)$"
)
_USERINFO = re.compile(r"([^/?#]*)@")
_UNQUOTED_USERINFO = re.compile(r"([^:/?#@]*:[^@]*(?:@[^/?#@]*)*)@")
"""User and password if the password contains `/`, `?` or `#` that is not percent-encoded."""
_PORT = re.compile(r"[^@/?#]*:\d*(?=[/?#])")
_SCHEME = re.compile(r"(?:[a-z][a-z0-9+.-]*:)?$", re.IGNORECASE)
_IN_TEXT = re.compile(r"\S*//\S+"), re.compile(r"[^\s,;'\"]*//[^\s,;'\"]+")
"""Addresses in a text: with quotes and commas that a password may contain, and several with commas between them."""

_stored: dict[str, str] = {}
"""Values that this process has moved from addresses to environment variables. A later address may replace these."""


def hide_password(uri: str) -> str:
    """Remove the password from an address, and store it in an environment variable of this process.

    From the address of a server (http or https), the user name is also moved to an environment variable, because MLflow
    reads both there. The address of a database keeps the user name. An environment variable that the user has set is
    not overwritten.

    Args:
        uri: address of an MLflow server or database. It may be invalid.

    Returns:
        The address without the password. An address without a password is returned unchanged.
    """
    hidden, found = split_password(uri)
    if PASSWORD in found and not _may_set(PASSWORD):
        del found[PASSWORD]
    if PASSWORD not in found and not _may_set(USERNAME):
        found.pop(USERNAME, None)
    for name, value in found.items():
        if name in (PASSWORD, USERNAME) or _may_set(name):
            os.environ[name] = _stored[name] = value
    return hidden


def with_password(uri: str) -> str:
    """Return the address that a database client needs: with the password that `hide_password` has stored.

    The address of a server is returned unchanged, because MLflow itself reads the password of a server from the
    environment variables. The address of a SQLite file is also returned unchanged.
    """
    scheme, _, rest = uri.partition("://")
    if not rest or scheme.lower().startswith(("http", "sqlite")):
        return uri
    password, query = os.environ.get(PASSWORD), os.environ.get(QUERY)
    userinfo = _USERINFO.match(rest)
    if password and not (userinfo and ":" in userinfo[1]):
        user, host = (userinfo[1], rest[userinfo.end() :]) if userinfo else ("", rest)
        rest = f"{user}:{quote(password, safe='')}@{host}"
    if query:
        rest += f"{'&' if '?' in rest else '?'}{query}"
    return f"{scheme}://{rest}"


def split_password(uri: str) -> tuple[str, dict[str, str]]:
    """Separate an address from its user name and secrets. No environment variable is changed.

    Args:
        uri: an address. It may be invalid.

    Returns:
        Two values: the address as `hide_password` returns it, and a dict with the removed parts. The keys of the dict
        are the names of environment variables: `USERNAME`, `PASSWORD`, `TOKEN` and `QUERY`, as far as found.
    """
    scheme, slashes, rest = uri.partition("//") if "//" in uri else ("", "", uri)
    found, matched = dict[str, str](), _SCHEME.search(scheme)
    kind = matched[0].lower() if matched else ""
    http = kind in ("http:", "https:")
    userinfo = _USERINFO.match(rest)
    if userinfo is None and not (http and _PORT.match(rest)):
        userinfo = _UNQUOTED_USERINFO.match(rest)
    if userinfo is not None:
        user, _, password = userinfo[1].partition(":")
        keep_user = not http and user
        rest = f"{user}@{rest[userinfo.end() :]}" if keep_user else rest[userinfo.end() :]
        if http and user:
            found[USERNAME] = unquote(user)
        if password:
            found[PASSWORD] = unquote(password)
    if not kind.startswith("sqlite:"):
        rest = _split_query(rest, http, found)
    return f"{scheme}{slashes}{rest}", found


def without_passwords(text: str) -> str:
    """Remove the passwords from all addresses in a text, such as an error message."""
    for pattern in _IN_TEXT:
        text = pattern.sub(_without_password, text)
    return text


def _without_password(address: re.Match[str]) -> str:
    hidden, found = split_password(address[0])
    return hidden if found.keys() - {USERNAME} else address[0]


def _split_query(rest: str, http: bool, found: dict[str, str]) -> str:
    """Remove parameters that contain a secret from the query string of an address.

    Args:
        rest: address without its scheme.
        http: whether it is the address of a server.
        found: dict from names of environment variables to values. The removed secrets are added to it.

    Returns:
        `rest` without the secrets.
    """
    path, mark, query = rest.partition("?")
    query, hash_mark, fragment = query.partition("#")
    kept, further = [], []
    for part in query.split("&"):
        name, _, value = part.partition("=")
        name = unquote(name).lower()
        if not value or not _SECRET.search(name):
            kept.append(part)
        elif name in ("password", "passwd", "pwd") and PASSWORD not in found:
            found[PASSWORD] = unquote_plus(value)
        elif http and name in ("token", "access_token"):
            found[TOKEN] = unquote_plus(value)
        else:
            further.append(part)
    if further:
        found[QUERY] = "&".join(further)
    return f"{path}{mark if any(kept) else ''}{'&'.join(kept)}{hash_mark}{fragment}"


def _may_set(name: str) -> bool:
    """Return whether this process may set the environment variable `name`.

    It may, unless the variable has a value that does not come from this process.
    """
    return os.environ.get(name) in (None, "", _stored.get(name))
