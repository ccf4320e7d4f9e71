"""What names a file to fetch: ``https://…`` with a SHA-256, or ``oci://registry/name:tag@sha256:…``."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from asgi_wasm.specs import RemoteFile

# Two letters at the least: `c://x` may be a path of Windows.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
# The distribution specification's grammar: https://github.com/opencontainers/distribution-spec/blob/main/spec.md
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_REGISTRY = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_HUB = "docker.io"
_MARK = "sha256="


@dataclass(frozen=True)
class Image:
    """Where an image is; ``tag`` is "" where only the digest names it."""

    registry: str
    repository: str
    tag: str = ""


def is_remote(file: object) -> bool:
    """Whether it is a URL of any kind, and no path."""
    return _SCHEME.match(str(file)) is not None


def parse(file: str, sha256: str | None = None, *, pinned: bool = True) -> RemoteFile:
    """The file to fetch. Raises ValueError, in one sentence, without what may be a password.

    ``sha256`` is that of an ``https://`` file, or of the image's manifest (as Istio has it); the name itself may have
    it too, as ``#sha256=…`` or ``@sha256:…``. Without any it is refused, unless ``pinned`` is False.
    """
    match = _SCHEME.match(file)
    scheme = "" if match is None else match[1].lower()
    if scheme == "https":
        found = _of_url(file)
    elif scheme == "oci":
        found = _of_image(file)
    elif scheme == "http":
        raise ValueError("begins with http://, by which nothing is fetched: give an https:// URL")
    elif scheme == "file":
        raise ValueError("begins with file://: give the path without it")
    else:
        raise ValueError(f"begins with {scheme}://: give a path, an https:// URL or oci://registry/name:tag@sha256:…")
    if sha256 and found.digest and sha256.lower() != found.digest:
        raise ValueError("has another sha256 in its name than the setting sha256: keep one of them")
    digest = (sha256 or "").lower() or found.digest
    if not digest and pinned:
        where = "@sha256:…" if scheme == "oci" else "#sha256=…"
        raise ValueError(
            f"names no sha256, so whoever can change what is there runs code here: add {where} to it "
            f"(asgi-wasm inspect {found} tells it), or give it in settings as sha256"
        )
    return RemoteFile(found.url, digest)


def image_of(url: str) -> Image:
    """The parts of ``oci://registry/name:tag``. Raises ValueError."""
    registry, slash, path = url.removeprefix("oci://").partition("/")
    name, colon, tag = path.partition(":")
    if not slash or not _is_registry(registry):
        raise ValueError("names no registry: write oci://registry/name:tag@sha256:…, as oci://docker.io/you/waf:1.0@…")
    if not _REPOSITORY.fullmatch(name):
        raise ValueError(
            f"names the image {name!r}, which is no name: it has small letters, digits, '.', '_', '-', '/'"
        )
    if colon and not _TAG.fullmatch(tag):
        raise ValueError(f"has the tag {tag!r}, which is none: it has letters, digits, '.', '_', '-'")
    if registry == _HUB and "/" not in name:
        name = f"library/{name}"
    return Image(registry, name, tag)


def short_name(file: str) -> str:
    """What a plugin may be called that is given by its name alone: the last part, without tag, digest and ending."""
    path = urlsplit(file).path.rstrip("/").rpartition("/")[2]
    return re.split("[:@]", path)[0].removesuffix(".wasm")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine: what goes there passes no network."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _of_url(file: str) -> RemoteFile:
    url, _, fragment = file.partition("#")
    try:
        parts = urlsplit(url)
        whole = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        whole = False
    if not whole or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("is no URL: write https://host/path/plugin.wasm")
    if fragment and not (fragment.startswith(_MARK) and _SHA256.fullmatch(fragment, len(_MARK))):
        raise ValueError("ends in a fragment that is none: write #sha256= and 64 hexadecimal digits")
    return RemoteFile("https" + url[5:], fragment.removeprefix(_MARK).lower())


def _of_image(file: str) -> RemoteFile:
    url, at, digest = f"oci{file[3:]}".partition("@")
    if at and not (digest.startswith("sha256:") and _SHA256.fullmatch(digest, 7)):
        raise ValueError("ends in a digest that is none: write @sha256: and 64 hexadecimal digits")
    image_of(url)
    return RemoteFile(url, digest.removeprefix("sha256:").lower())


def _is_registry(text: str) -> bool:
    """A host with a dot, a port, or localhost, as Docker tells it from a name's first part."""
    if not _REGISTRY.fullmatch(text) or not ("." in text or ":" in text or text == "localhost"):
        return False
    port = text.rpartition(":")[2] if not text.endswith("]") and ":" in text else ""
    return not port or 0 < int(port) < 65536
