"""Envoy's and Istio's nested keys of a plugin, as our own flat ones, so that a block of theirs can be pasted.

Followed: Envoy `api/envoy/extensions/wasm/v3/wasm.proto` (`PluginConfig`, `VmConfig`), whose words stand in a YAML file
also in the camel case of protobuf's JSON; Istio `extensions/v1alpha1/wasm.proto` (`VmConfig`).
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterator, Mapping
from typing import Any

from asgi_wasm.settings import names
from asgi_wasm.settings.files import shown

_VM, _CAPABILITIES, _CONF = "vm_config", "capability_restriction_config", "configuration"
# What says with which engine, and from which file of its compiled code, Envoy runs it: here `engine` and the cache do.
_IGNORED = frozenset(("runtime", "allow_precompiled"))
_NATIVE = "envoy.wasm.runtime.null"
_KNOWN = sorted({"vm_id", "code", _CONF, "environment_variables", *_IGNORED})
_HUMP = re.compile(r"(?<=[a-z0-9])([A-Z])")


def flat(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A plugin's entry under our own keys. Raises ValueError for what cannot be carried over, in a sentence."""
    given = {_snake(key) if _snake(key) in (_VM, _CAPABILITIES) else key: value for key, value in entry.items()}
    nested = {key: given.pop(key) for key in (_VM, _CAPABILITIES) if key in given}
    if _CONF in given:
        given[_CONF] = unpacked(given[_CONF])
    result = names.canonical(given, names.PLUGIN)
    for key, block in nested.items():
        if not isinstance(block, Mapping):
            raise ValueError(f"{key!r} must be a mapping, as in Envoy's PluginConfig")
        for place, ours, value in _of_vm(block) if key == _VM else _of_capabilities(block):
            if ours in result:
                raise ValueError(f"{ours!r} and {place!r} mean the same: keep one of them")
            result[ours] = value
    return result


def _snake(key: object) -> str:
    return _HUMP.sub(lambda found: f"_{found[1].lower()}", str(key))


def _of_vm(block: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Where each value stands, our own key, and the value."""
    for written, value in block.items():
        key = _snake(written)
        place = f"{_VM}.{shown(written)}"
        if key == "vm_id":
            yield place, "vm_id", value
        elif key == _CONF:
            yield place, "vm_conf", unpacked(value)
        elif key == "code":
            yield from _of_code(_mapping(value, place))
        elif key == "environment_variables":
            yield place, "env", _of_environment(_mapping(value, place))
        elif key == "env" and isinstance(value, list):
            yield place, "env", dict(_of_istio(value))
        elif key == "runtime" and value == _NATIVE:
            raise ValueError(f"{place} is {_NATIVE!r}, which is code within Envoy: there is no .wasm to run")
        elif key not in _IGNORED:
            raise ValueError(f"{place}: {names.unknown(str(written), _KNOWN)}")


def _of_code(code: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    place = f"{_VM}.code"
    if set(code) not in ({"local"}, {"remote"}):
        raise ValueError(f"{place} must be 'local' with a filename, or 'remote' with an http_uri and a sha256")
    if "local" in code:
        local = _mapping(code["local"], f"{place}.local")
        if set(local) != {"filename"}:
            raise ValueError(f"{place}.local must have a filename: code that stands inline is to be stored as a file")
        yield f"{place}.local.filename", "file", local["filename"]
        return
    remote = {_snake(key): value for key, value in _mapping(code["remote"], f"{place}.remote").items()}
    where = _mapping(remote.get("http_uri") or remote.get("http_url") or {}, f"{place}.remote.http_uri")
    if "uri" not in where:
        raise ValueError(f"{place}.remote.http_uri.uri is missing: it is where the code is fetched from")
    # `cluster`, `timeout` and `retry_policy` are of Envoy's own client.
    yield f"{place}.remote.http_uri.uri", "file", where["uri"]
    if remote.get("sha256"):
        yield f"{place}.remote.sha256", "sha256", remote["sha256"]


def _of_environment(block: Mapping[str, Any]) -> Any:
    given = {_snake(key): value for key, value in block.items()}
    if given.pop("host_env_keys", None):
        raise ValueError(
            f"{_VM}.environment_variables.host_env_keys has no counterpart: give the values under env, since no plugin"
            " sees the process's environment"
        )
    values = given.pop("key_values", {})
    if given:
        raise ValueError(
            f"{_VM}.environment_variables has key_values, and not {shown(next(iter(given)))!r}; without vm_config, env"
            " is the mapping itself"
        )
    return values


def _of_istio(variables: list[Any]) -> Iterator[tuple[str, str]]:
    for variable in variables:
        entry = _mapping(variable, f"{_VM}.env[]")
        if entry.get("valueFrom", "INLINE") != "INLINE":
            raise ValueError(
                f"{_VM}.env: {shown(entry.get('name'))!r} comes from the host: give its value, since no plugin sees the"
                " process's environment"
            )
        yield str(entry.get("name")), str(entry.get("value", ""))


def _of_capabilities(block: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    for written, value in block.items():
        if _snake(written) != "allowed_capabilities":
            raise ValueError(f"{_CAPABILITIES}: {names.unknown(str(written), ['allowed_capabilities'])}")
        # By name, each with an empty configuration.
        yield f"{_CAPABILITIES}.{written}", "allowed_capabilities", sorted(value) if value else []


def unpacked(value: Any) -> Any:
    """What Envoy packs into an Any: the text of a StringValue, the bytes of a BytesValue (base64), or a Struct.

    Raises ValueError.
    """
    if not (isinstance(value, Mapping) and str(value.get("@type", "")).startswith("type.googleapis.com/")):
        return value
    if "value" not in value:
        return {key: item for key, item in value.items() if key != "@type"}
    if not value["@type"].endswith("/google.protobuf.BytesValue"):
        return value["value"]
    try:
        content = b64decode(str(value["value"]), validate=True)
    except ValueError:
        raise ValueError("a google.protobuf.BytesValue must be base64") from None
    try:
        # As text it can be read, where it is text.
        return content.decode()
    except UnicodeDecodeError:
        return content


def _mapping(value: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{place} must be a mapping, as in Envoy's VmConfig")
    return value
