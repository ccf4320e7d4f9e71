"""Options and arguments that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def _print_versions(wanted: bool) -> None:
    if not wanted:
        return
    from asgi_wasm.cli.versions import versions

    typer.echo(versions())
    raise typer.Exit


def whole(text: str) -> int:
    """A whole number; typer's own words would not say of what."""
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no whole number") from None


def times(text: str) -> float:
    """A number that is not negative."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise typer.BadParameter(f"{text!r} is no number from 0 on")
    return number


Version = Annotated[
    bool, typer.Option("--version", help="Print what is installed, and exit.", callback=_print_versions, is_eager=True)
]
PluginFile = Annotated[
    str,
    typer.Argument(
        help="A .wasm file, asgi_wasm:fault_injection, https://…#sha256=… or oci://…@sha256:…",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text for people.")]
# What is refused otherwise is refused by the command, in its own words: these are for completion alone.
Engine = Annotated[
    str,
    typer.Option(
        help="wasmtime or wasmer; auto is wasmtime.",
        metavar="NAME",
        autocompletion=lambda: ["auto", "wasmtime", "wasmer"],
    ),
]
Language = Annotated[
    str,
    typer.Argument(help="rust, go, c or assemblyscript.", autocompletion=lambda: ["rust", "go", "c", "assemblyscript"]),
]
SettingsFile = Annotated[
    Path | None,
    typer.Argument(help="A settings file; else they are found as the middleware does.", show_default=False),
]
Conf = Annotated[str | None, typer.Option("--conf", help="The plugin's configuration; @FILE reads it.", metavar="TEXT")]
RootId = Annotated[str, typer.Option(help="Which root context inside the module.", metavar="NAME")]
Method = Annotated[str, typer.Option("-X", "--method", help="Else GET; POST where there is a body.", metavar="NAME")]
Headers = Annotated[list[str] | None, typer.Option("-H", "--header", help="'name: value'", metavar="TEXT")]
Data = Annotated[str | None, typer.Option("-d", "--data", help="The body; @FILE reads it.", metavar="TEXT")]

# --- of `request`

ResponseStatus = Annotated[int, typer.Option(help="What the app answers.", metavar="NUMBER", parser=whole)]

# --- of `test`

TestPaths = Annotated[list[Path], typer.Argument(help="Files, or folders with *.textpb and *tests.yaml.")]
TestPlugin = Annotated[str | None, typer.Option(help="In place of the file's wasm_path.", metavar="PLUGIN")]
JUnit = Annotated[Path | None, typer.Option(help="Write JUnit's XML there.", metavar="FILE")]
Update = Annotated[bool, typer.Option("--update", help="Write baselines of benchmarks, beside each suite.")]
Tolerance = Annotated[
    float,
    typer.Option(help="A benchmark may take so many times its baseline's time; 0: any.", metavar="TIMES", parser=times),
]

# --- of `cache`

Prune = Annotated[
    int | None, typer.Option(help="Remove what was not used for so many days.", metavar="DAYS", parser=whole)
]
Clear = Annotated[bool, typer.Option("--clear", help="Remove all of it.")]

# --- of `run`

PluginFiles = Annotated[list[str] | None, typer.Argument(help="Plugins' .wasm files; the first runs first.")]
Confs = Annotated[
    list[str] | None, typer.Option("--conf", help="A plugin's configuration, in their order.", metavar="TEXT")
]
RootIds = Annotated[list[str] | None, typer.Option(help="A plugin's root id, in their order.", metavar="NAME")]
RunSettings = Annotated[Path | None, typer.Option(help="A settings file; else none is read.", metavar="FILE")]
App = Annotated[str | None, typer.Option(help="An ASGI app to serve, as module:app.", metavar="TEXT")]
Upstream = Annotated[str | None, typer.Option(help="An HTTP server to pass requests on to.", metavar="URL")]
Callouts = Annotated[
    list[str] | None, typer.Option(help="An upstream that plugins may call, NAME=URL.", metavar="TEXT")
]
Trace = Annotated[bool, typer.Option("--trace", help="Print every callback and hostcall.")]
Watch = Annotated[
    bool,
    typer.Option(
        "--watch", help="Reload when a plugin's file changes; runs ./build, if there is one, when a source does."
    ),
]
Build = Annotated[str | None, typer.Option(help="Run this in place of ./build.", metavar="TEXT")]
Host = Annotated[str, typer.Option(help="Address to listen on.", metavar="NAME")]
Port = Annotated[int, typer.Option(help="Port to listen on.", metavar="NUMBER", parser=whole)]
Level = Annotated[
    str,
    typer.Option(
        help="debug, info, warning or error.",
        metavar="NAME",
        autocompletion=lambda: ["debug", "info", "warning", "error"],
    ),
]
