"""The command line: which commands there are, with their options and examples. What each does is a module of its own.

Modules are imported by the command that needs them, so that ``--help`` and completion come at once.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from asgi_wasm.logs import get_logger

app = typer.Typer(
    help="Look at, check, run and test Proxy-Wasm plugins.",
    no_args_is_help=True,
    # Plain help: it is the same at every width of a terminal that can show it, and in the documents.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

PluginFile = Annotated[Path, typer.Argument(help="The plugin's .wasm file.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text for people.")]
Engine = Annotated[str, typer.Option(help="wasmtime or wasmer; auto is wasmtime.", metavar="NAME")]
SettingsFile = Annotated[
    Path | None,
    typer.Argument(help="A settings file; else they are found as the middleware does.", show_default=False),
]


def run(arguments: Sequence[str]) -> int:
    """Run the command; its exit status. Raises `AsgiWasmError`."""
    # What is wrong is told by the command itself; without any handler, logging would write it a second time.
    get_logger("asgi_wasm").addHandler(logging.NullHandler())
    try:
        typer.main.get_command(app)(args=[*arguments], prog_name="asgi-wasm")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    return 0


@app.command()
def inspect(plugin: PluginFile, json: Json = False, engine: Engine = "auto") -> None:
    """Tell what a plugin is, needs and can do, without running it.

    \b
    Examples:
      asgi-wasm inspect waf.wasm
      asgi-wasm inspect waf.wasm --json | jq .unknown_imports
    """
    from asgi_wasm.cli.inspecting import inspect_plugin

    raise typer.Exit(inspect_plugin(plugin, as_json=json, engine=engine))


@app.command()
def check(
    settings: SettingsFile = None,
    start: Annotated[bool, typer.Option("--start/--no-start", help="Also load, start and configure plugins.")] = True,
    json: Json = False,
) -> None:
    """Tell all that a server would refuse at its start.

    The exit status is 1 if there is anything.

    \b
    Examples:
      asgi-wasm check
      asgi-wasm check deploy/asgi-wasm.yaml --no-start
    """
    from asgi_wasm.cli.checking import check_settings

    raise typer.Exit(check_settings(settings, start=start, as_json=json))


@app.command(name="compile")
def compile_(settings: SettingsFile = None) -> None:
    """Compile the settings' plugins into the cache.

    So an image that is built with it starts at once.

    \b
    Example, in a Dockerfile:
      RUN asgi-wasm compile deploy/asgi-wasm.yaml
    """
    from asgi_wasm.cli.compiling import compile_settings

    raise typer.Exit(compile_settings(settings))
