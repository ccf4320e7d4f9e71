"""Who a registry is told that we are: what `docker login` has left in Docker's config file, or in its helpers.

Followed: docker/cli `cli/config/configfile` and docker/docker-credential-helpers.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asgi_wasm.errors import FetchError

HUB = "docker.io"
# By which Docker calls its own registry in the file, for historical reasons.
_HUB_KEY = "https://index.docker.io/v1/"
_HUB_HOSTS = {HUB, "index.docker.io", "registry-1.docker.io"}
_HELPER = re.compile(r"[A-Za-z0-9._-]+")
# As the helpers say that they have none.
_NOT_FOUND = "credentials not found"
# With this name, a helper's secret is a token.
_TOKEN_USER = "<token>"
_HELPER_SECONDS = 15.0


@dataclass(frozen=True)
class Credentials:
    """A name and a password, or a token of one of two kinds: for the token server, or for the registry itself."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """The value of an ``authorization`` header; "" without a name."""
        if not self.username:
            return ""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


def config_file() -> Path | None:
    """Docker's config file: in ``$DOCKER_CONFIG``, else in ``~/.docker``; None for a user without a home."""
    folder = os.environ.get("DOCKER_CONFIG", "")
    try:
        return (Path(folder) if folder else Path.home() / ".docker") / "config.json"
    except RuntimeError:
        return None


def credentials_for(registry: str) -> Credentials | None:
    """Those of a registry (host and port), or None. It blocks, as a helper may ask a server. Raises `FetchError`."""
    path = config_file()
    config = {} if path is None else _read(path)
    helper = _of_host(config.get("credHelpers"), registry) or config.get("credsStore")
    found = None
    if helper:
        found = _ask(str(helper), _HUB_KEY if registry in _HUB_HOSTS else registry)
    return found or _stored(_of_host(config.get("auths"), registry), path)


def _read(path: Path) -> Mapping[str, Any]:
    try:
        config = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise FetchError(f"needs credentials, and Docker's config file {path} cannot be read: {error}") from None
    if not isinstance(config, dict):
        raise FetchError(f"needs credentials, and Docker's config file {path} holds no JSON object")
    return config


def _of_host(entries: object, registry: str) -> Any:
    """An entry by its registry, which the file may have with a scheme and a path."""
    if isinstance(entries, dict):
        wanted = _HUB_HOSTS if registry in _HUB_HOSTS else {registry}
        for key, value in entries.items():
            if key.partition("://")[2].partition("/")[0] in wanted or key.partition("/")[0] in wanted:
                return value
    return None


def _stored(entry: object, path: Path | None) -> Credentials | None:
    if not isinstance(entry, dict):
        return None
    username, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if entry.get("auth"):
        try:
            username, colon, password = base64.b64decode(str(entry["auth"]), validate=True).decode().partition(":")
        except ValueError:
            colon = ""
        if not colon:
            raise FetchError(f"needs credentials, and an 'auth' in {path} is no base64 of name:password: docker login")
        password = password.rstrip("\0")
    tokens = str(entry.get("identitytoken") or ""), str(entry.get("registrytoken") or "")
    # What a helper keeps leaves an empty entry in the file.
    return Credentials(username, password, *tokens) if username or any(tokens) else None


def _ask(helper: str, server: str) -> Credentials | None:
    """What the program ``docker-credential-HELPER`` has: https://github.com/docker/docker-credential-helpers."""
    name = f"docker-credential-{helper}"
    program = shutil.which(name) if _HELPER.fullmatch(helper) else None
    if program is None:
        raise FetchError(f"needs credentials, and Docker's config file names the program {name!r}, which is not here")
    try:
        done = subprocess.run(
            [program, "get"], input=server.encode(), capture_output=True, timeout=_HELPER_SECONDS, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise FetchError(f"needs credentials, and {name} did not tell them: {error}") from None
    said = done.stdout.decode("utf-8", "replace").strip()
    if done.returncode:
        if _NOT_FOUND in said.lower():
            return None
        problem = said or done.stderr.decode("utf-8", "replace").strip() or f"it exited with {done.returncode}"
        raise FetchError(f"needs credentials, and {name} did not tell them: {problem.splitlines()[0][:200]}")
    try:
        told = json.loads(said)
        username, secret = str(told["Username"]), str(told["Secret"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise FetchError(
            f"needs credentials, and {name} told none: it printed no JSON with Username and Secret"
        ) from None
    return Credentials(identity_token=secret) if username == _TOKEN_USER else Credentials(username, secret)
