"""Options and arguments that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

PluginFile = Annotated[
    Path, typer.Argument(help="The plugin's .wasm file, or asgi_wasm:fault_injection.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text for people.")]
Engine = Annotated[str, typer.Option(help="wasmtime or wasmer; auto is wasmtime.", metavar="NAME")]
SettingsFile = Annotated[
    Path | None,
    typer.Argument(help="A settings file; else they are found as the middleware does.", show_default=False),
]
Conf = Annotated[str | None, typer.Option("--conf", help="The plugin's configuration; @FILE reads it.", metavar="TEXT")]
RootId = Annotated[str, typer.Option(help="Which root context inside the module.", metavar="NAME")]
Method = Annotated[str, typer.Option("-X", "--method", help="Else GET; POST where there is a body.", metavar="NAME")]
Headers = Annotated[list[str] | None, typer.Option("-H", "--header", help="'name: value'", metavar="TEXT")]
Data = Annotated[str | None, typer.Option("-d", "--data", help="The body; @FILE reads it.", metavar="TEXT")]
