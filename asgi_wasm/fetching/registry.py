"""A registry of the distribution API: manifests and blobs of one repository, with credentials where it wants some.

Followed: https://github.com/opencontainers/distribution-spec, and for tokens
https://distribution.github.io/distribution/spec/auth/token and ``…/oauth``.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import httpx

from asgi_wasm.errors import FetchError
from asgi_wasm.fetching.credentials import HUB, Credentials, credentials_for
from asgi_wasm.fetching.names import Image, is_loopback
from asgi_wasm.fetching.transfer import Answer, Transfer

# The specification has registries take manifests of this size.
MANIFEST_BYTES = 4 * 1024 * 1024
_ACCEPT = ", ".join(
    (
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    )
)
_TOKEN_BYTES = 1024 * 1024
_CHALLENGE = re.compile(r"\s*(basic|bearer)\b(.*)", re.IGNORECASE | re.DOTALL)
_PARAMETER = re.compile(r'([a-z_]+)\s*=\s*(?:"([^"]*)"|([^\s,"]+))', re.IGNORECASE)


class Registry:
    """That of one image."""

    def __init__(self, image: Image, transfer: Transfer) -> None:
        self._image = image
        self._transfer = transfer
        self._base = ""
        self._authorization = ""

    async def manifest(self, reference: str) -> bytes:
        """By tag or ``sha256:…``. Raises `FetchError` and `httpx.HTTPError`."""
        return await self._get(f"manifests/{reference}", MANIFEST_BYTES)

    async def blob(self, digest: str, limit: int) -> bytes:
        """By ``sha256:…``; registries redirect to where they keep them. Raises `FetchError` and `httpx.HTTPError`."""
        return await self._get(f"blobs/{digest}", limit)

    async def _get(self, path: str, limit: int) -> bytes:
        if not self._base:
            self._base = await self._find_base()
        url = f"{self._base}/v2/{self._image.repository}/{path}"
        answer = await self._ask(url, limit)
        if answer.status == httpx.codes.UNAUTHORIZED:
            self._authorization, told = await self._authorize(answer)
            answer = await self._ask(url, limit)
            if answer.status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
                raise self._refused(answer.status, told)
        return check(answer).content

    async def _ask(self, url: str, limit: int) -> Answer:
        headers = {"accept": _ACCEPT} if "/manifests/" in url else {}
        if self._authorization:
            headers["authorization"] = self._authorization
        return await self._transfer.get(url, limit, headers)

    async def _find_base(self) -> str:
        host = "registry-1.docker.io" if self._image.registry == HUB else self._image.registry
        # As Docker does: a registry on this machine needs no TLS.
        if is_loopback(httpx.URL(f"https://{host}").host) and not await self._transfer.speaks_tls(host):
            return f"http://{host}"
        return f"https://{host}"

    async def _authorize(self, answer: Answer) -> tuple[str, bool]:
        """The header that the registry asks for, and whether credentials are behind it."""
        credentials = await asyncio.to_thread(credentials_for, self._image.registry)
        if credentials is not None and credentials.registry_token:
            return f"Bearer {credentials.registry_token}", True
        challenges = dict(_challenges(answer.headers.get_list("www-authenticate")))
        if "bearer" in challenges:
            return f"Bearer {await self._token(challenges['bearer'], credentials)}", credentials is not None
        if "basic" not in challenges:
            raise FetchError(
                f"is refused: {self._image.registry} answered 401, and asks for no kind of login known here"
            )
        if credentials is None or not credentials.basic:
            raise self._refused(answer.status, False)
        return credentials.basic, True

    async def _token(self, challenge: dict[str, str], credentials: Credentials | None) -> str:
        realm = challenge.get("realm", "")
        if not realm.startswith(("https://", "http://")):
            raise FetchError(f"is refused: {self._image.registry} names no server for its tokens")
        fields = {"scope": challenge.get("scope") or f"repository:{self._image.repository}:pull"}
        if "service" in challenge:
            fields["service"] = challenge["service"]
        if credentials is not None and credentials.identity_token:
            grant = {"grant_type": "refresh_token", "refresh_token": credentials.identity_token}
            answer = await self._transfer.get(realm, _TOKEN_BYTES, form={**fields, **grant, "client_id": "asgi-wasm"})
        else:
            headers = {"authorization": credentials.basic} if credentials is not None and credentials.basic else {}
            url = str(httpx.URL(realm).copy_merge_params(fields))
            answer = await self._transfer.get(url, _TOKEN_BYTES, headers)
        if answer.status in (httpx.codes.BAD_REQUEST, httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise self._refused(answer.status, credentials is not None)
        try:
            told: dict[str, Any] = json.loads(check(answer).content)
            token = told.get("token") or told.get("access_token")
        except (ValueError, AttributeError, RecursionError):
            token = None
        if not isinstance(token, str) or not (token.isascii() and token.isprintable()):
            raise FetchError(f"is refused: {answer.host}, which has the tokens of {self._image.registry}, gave none")
        return token

    def _refused(self, status: int, told: bool) -> FetchError:
        host = self._image.registry
        if told:
            return FetchError(
                f"is refused: {host} answered {status} to the credentials of Docker's config file: docker login {host}"
            )
        return FetchError(
            f"is refused: {host} answered {status}, and Docker's config file knows none: docker login {host}"
        )


def check(answer: Answer) -> Answer:
    """A good answer. Raises `FetchError` for any other."""
    if 200 <= answer.status < 300:
        return answer
    if answer.status in (httpx.codes.NOT_FOUND, httpx.codes.GONE):
        raise FetchError(f"is not there: {answer.host} answered {answer.status}: check the name")
    if answer.status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        raise FetchError(f"is refused: {answer.host} answered {answer.status}: check the credentials, and the name")
    raise FetchError(f"is not to be had now: {answer.host} answered {answer.status}: try again later")


def _challenges(values: list[str]) -> list[tuple[str, dict[str, str]]]:
    """Scheme, in small letters, and parameters of each header's first challenge that is Basic or Bearer."""
    found = []
    for value in values:
        if match := _CHALLENGE.match(value):
            parameters = {name.lower(): quoted or bare for name, quoted, bare in _PARAMETER.findall(match[2])}
            found.append((match[1].lower(), parameters))
    return found
