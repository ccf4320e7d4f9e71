"""No password, token, header or conf in a message or a repr, from whatever source it came."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from asgi_wasm.settings import Plugin, Route, RoutePlugin, Settings, Upstream, load

S = "s3cr3t"
STORES = [
    f"redis://h/0?password={S}",
    f"redis:/u:{S}@h/0",
    f"redis:u:{S}@h",
    f"redis://u:{S}\n@h:x/0",
    f"redis://u:{S}@h:99999/0",
    f"redis://u:{S}",
    f"rediss://u:{S}@h/0?unknown=1",
    f"redis://u:{S}@h/0?timeout=never",
    f"{S}@h",
    f"memory://{S}@",
    f"lmdb://u:{S}@h/path",
]
URLS = [
    f"http://u:{S}@h",
    f"http://u:{S}@h:99999",
    f"u:{S}@h",
    f"http://h/?token={S}",
    f"http://h#{S}",
    f"http://u:{S}",
    f"ftp://u:{S}@h",
    f"http://[{S}",
]


def store(url: str) -> Any:
    return load({"shared_data": url})


def cases() -> dict[str, Callable[[], Any]]:
    upstream: Any = {"url": "http://h", "headers": {"authorization": S}}
    plugin: Any = {"name": "p", "file": "x", "conf": S, "vm_conf": S, "env": {"TOKEN": S}}
    route: Any = {"uri": "/a", "plugins": {"p": {"conf": S}}}
    return {
        **{f"store {url!r}": partial(store, url) for url in STORES},
        **{f"Settings {url!r}": partial(Settings, shared_data=url) for url in STORES},
        **{f"upstream {url!r}": partial(load, {"upstreams": {"a": url}}) for url in URLS},
        **{f"Upstream {url!r}": partial(Upstream, url=url) for url in URLS},
        "header with a line feed": lambda: Upstream(url="http://h", headers={"authorization": S + "\n"}),
        "header, loaded": lambda: load({"upstreams": {"a": {"url": "http://h", "headers": {"a": S + "\n"}}}}),
        "header of another type": lambda: Upstream(url="http://h", headers={"authorization": [S]}),  # type: ignore[dict-item]
        "unknown key": lambda: Settings(share_data=S),  # type: ignore[call-arg]
        "unknown key, loaded": lambda: load({"share_data": S}),
        "conf that JSON has not": lambda: Plugin(name="p", file="x", conf={"t": S, "a": float("nan")}),
        "conf of a type that JSON has not": lambda: load({"plugins": [{**plugin, "conf": {"t": {S}}}]}),
        "conf that is no text": lambda: Plugin(name="p", file="x", conf=S + "\ud800"),
        "env with a NUL": lambda: load({"plugins": [{**plugin, "env": {"TOKEN": S + "\0"}}]}),
        "plugin with a typo": lambda: Plugin(**{**plugin, "confg": 1}),
        "repr of Plugin": lambda: Plugin(**plugin),
        "repr of Route": lambda: Route(**route),
        "repr of RoutePlugin": lambda: RoutePlugin(conf=S),
        "repr of Upstream": lambda: Upstream(**upstream),
        "repr of Settings": lambda: Settings(
            plugins=[Plugin(**plugin)], routes=[Route(**route)], upstreams={"a": Upstream(**upstream)}
        ),
        "repr of HostSpec": lambda: load({"plugins": [plugin], "routes": [route], "upstreams": {"a": upstream}}),
        "repr of HostSpec's store": lambda: store(f"rediss://u:{S}@h/0"),
    }


@pytest.mark.parametrize("name", cases())
def test_no_secret_is_told(name: str) -> None:
    try:
        text = repr(cases()[name]())
    except Exception as error:
        text = "".join(traceback.format_exception_only(error))
    assert text
    assert S not in text


def test_no_secret_of_the_environment_is_told(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    for name, value in {
        "ASGI_WASM_SHARED_DATA": f"redis:{S}@h",
        "ASGI_WASM_UPSTREAMS__a__HEADERS__x": f"{S}\n",
        "ASGI_WASM_UPSTREAMS__a__URL": f"http://u:{S}@h",
        "ASGI_WASM_PLUGINS": f'[{{"conf": "{S}"',
    }.items():
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            with pytest.raises(Exception, match=r"ASGI_WASM|environment") as caught:
                load()
            assert S not in str(caught.value)
