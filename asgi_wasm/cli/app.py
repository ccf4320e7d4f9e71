"""The command line: which commands there are, with their options and examples. What each does is a module of its own.

Modules are imported by the command that needs them, so that ``--help`` and completion come at once.
"""

from __future__ import annotations

import json as json_text  # options have that name
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from asgi_wasm.cli import options, progress
from asgi_wasm.cli.options import Conf, Data, Engine, Headers, Json, Method, PluginFile, RootId, SettingsFile
from asgi_wasm.logs import get_logger

app = typer.Typer(
    help="Look at, check, run and test Proxy-Wasm plugins.",
    no_args_is_help=True,
    # Plain help: it is the same at every width of a terminal that can show it, and in the documents.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def run_command(arguments: Sequence[str]) -> int:
    """Run the command; its exit status. Raises `AsgiWasmError`."""
    # What is wrong is told by the command itself; without any handler, logging would write it a second time.
    get_logger("asgi_wasm").addHandler(logging.NullHandler())
    try:
        with progress.shown(arguments):
            status = typer.main.get_command(app).main(args=[*arguments], prog_name="asgi-wasm", standalone_mode=False)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except Exception as error:
        return _wrong_command_line(error, as_json="--json" in arguments)
    return int(status or 0)


def _wrong_command_line(error: Exception, *, as_json: bool) -> int:
    """Tell it as typer does, whose exception is named by none of its public modules; raises any other exception."""
    tell, message = getattr(error, "show", None), getattr(error, "format_message", None)
    if tell is None or message is None:
        raise error
    if as_json:
        typer.echo(json_text.dumps({"error": message()}, indent=2, ensure_ascii=False))
    tell()
    return int(getattr(error, "exit_code", 2))


@app.callback()
def command(version: options.Version = False) -> None:
    """All commands; what they have in common is done before any of them."""


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


@app.command()
def request(
    plugin: PluginFile,
    target: Annotated[str, typer.Argument(help="Path and query.")] = "/",
    method: Method = "",
    header: Headers = None,
    data: Data = None,
    conf: Conf = None,
    root_id: RootId = "",
    response_status: options.ResponseStatus = 200,
    response_header: Annotated[list[str] | None, typer.Option(help="'name: value'", metavar="TEXT")] = None,
    response_body: Annotated[str, typer.Option(help="Its body; @FILE reads it.", metavar="TEXT")] = "",
    upstream: Annotated[
        list[str] | None,
        typer.Option(help="What an upstream answers: NAME=STATUS:BODY, NAME=fail, NAME=timeout.", metavar="TEXT"),
    ] = None,
    json: Json = False,
    engine: Engine = "auto",
) -> None:
    """Send one request through a plugin, without a server.

    Prints every callback and hostcall with its time, what the app saw and what the client got.

    \b
    Examples:
      asgi-wasm request waf.wasm /admin -H 'x-user: eve' --conf '{"block": ["/admin"]}'
      asgi-wasm request auth.wasm -d hello --upstream auth=200:ok --response-status 404
    """
    from asgi_wasm.cli.requesting import Wanted, send_request

    chosen = method or ("GET" if data is None else "POST")
    answer = response_status, response_header or (), response_body
    wanted = Wanted(chosen, target, header or (), data, *answer, upstream or ())
    raise typer.Exit(send_request(plugin, wanted, conf, as_json=json, engine=engine, root_id=root_id))


@app.command()
def run(
    plugins: options.PluginFiles = None,
    conf: options.Confs = None,
    root_id: options.RootIds = None,
    settings: options.RunSettings = None,
    app: options.App = None,
    upstream: options.Upstream = None,
    callout: options.Callouts = None,
    trace: options.Trace = False,
    watch: options.Watch = False,
    build: options.Build = None,
    host: options.Host = "127.0.0.1",
    port: options.Port = 8000,
    log_level: options.Level = "info",
    engine: Engine = "auto",
) -> None:
    """Serve plugins before an app, an HTTP server or an echo.

    Prints each request and its verdict as it happens.

    \b
    Examples:
      asgi-wasm run waf.wasm --conf '{"block": ["/admin"]}' --trace
      asgi-wasm run waf.wasm --upstream http://127.0.0.1:3000
      asgi-wasm run waf.wasm auth.wasm --app main:app --callout auth=http://127.0.0.1:9000
      asgi-wasm run target/wasm32-wasip1/release/waf.wasm --build 'cargo build --release --target wasm32-wasip1'
    """
    from asgi_wasm.cli.run.serving import Run, serve

    wanted = Run(
        *(plugins or (), conf or (), root_id or (), settings, app, upstream, callout or ()),
        *(trace, watch, build, host, port, engine, log_level),
    )
    raise typer.Exit(serve(wanted))


@app.command()
def new(
    language: options.Language,
    name: Annotated[str, typer.Argument(help="The plugin's name, and the folder's.")],
    folder: Annotated[Path, typer.Option(help="Where to make the folder.", metavar="FOLDER")] = Path(),
) -> None:
    """Make a folder with a plugin that builds and is tested.

    With tests in pytest and in the format of Google's tester, a README and a CI file.

    \b
    Example:
      asgi-wasm new rust my-plugin && cd my-plugin && ./build && pytest
    """
    from asgi_wasm.cli.creating import create

    raise typer.Exit(create(language, name, folder))


@app.command(name="test")
def run_tests(
    paths: options.TestPaths,
    plugin: options.TestPlugin = None,
    conf: Conf = None,
    root_id: RootId = "",
    junit: options.JUnit = None,
    update: options.Update = False,
    tolerance: options.Tolerance = 2.0,
    json: Json = False,
    engine: Engine = "auto",
) -> None:
    """Run plugin tests in the format of Google's tester.

    The exit status is 1 if any fails, or if a benchmark costs more than its baseline.

    \b
    Examples:
      asgi-wasm test tests.textpb --plugin waf.wasm --conf '{"block": ["/admin"]}'
      asgi-wasm test plugins/ --junit report.xml
      asgi-wasm test plugins/ --update
    """
    from asgi_wasm.cli.suites import Chosen, run_suites

    chosen = Chosen(plugin, conf, root_id, engine, junit, update=update, tolerance=tolerance)
    raise typer.Exit(run_suites(paths, chosen, as_json=json))


@app.command()
def bench(
    plugin: PluginFile,
    target: Annotated[str, typer.Argument(help="Path and query.")] = "/",
    method: Method = "",
    header: Headers = None,
    data: Data = None,
    conf: Conf = None,
    root_id: RootId = "",
    json: Json = False,
    engine: Engine = "auto",
) -> None:
    """Measure what a plugin costs: a request, calls, memory.

    In process, without a server: what it adds to an app that answers at once.

    \b
    Example:
      asgi-wasm bench waf.wasm /admin -H 'x-user: eve' --conf '{"block": ["/admin"]}'
    """
    from asgi_wasm.cli import given
    from asgi_wasm.cli.benching import Sent
    from asgi_wasm.cli.benching import bench as measure

    chosen = method or ("GET" if data is None else "POST")
    sent = Sent(chosen, target, header or (), b"" if data is None else given.content(data))
    raise typer.Exit(measure(plugin, sent, conf, engine=engine, root_id=root_id, as_json=json))


@app.command(name="import")
def import_(files: Annotated[list[Path], typer.Argument(help="YAML or JSON files of Envoy, Istio or APISIX.")]) -> None:
    """Print settings made from Envoy's, Istio's or APISIX's.

    From HTTP filters, WasmPlugin, TrafficExtension or EnvoyExtensionPolicy resources, or a wasm section with routes;
    as YAML or JSON, also within a ConfigMap. What cannot be carried over is told on standard error.

    \b
    Examples:
      asgi-wasm import envoy.yaml > asgi-wasm.yaml && asgi-wasm check
      asgi-wasm import config.yaml apisix.yaml > asgi-wasm.yaml
    """
    from asgi_wasm.cli.importing import import_settings

    raise typer.Exit(import_settings(files))


@app.command(name="compile")
def compile_(settings: SettingsFile = None) -> None:
    """Compile the settings' plugins into the cache.

    So an image that is built with it starts at once.

    \b
    Example, in a Dockerfile:
      RUN asgi-wasm compile deploy/asgi-wasm.yaml
    """
    from asgi_wasm.cli.compiling import compile_settings

    with progress.steps("compiling the plugins"):
        status = compile_settings(settings)
    raise typer.Exit(status)


@app.command()
def cache(
    settings: SettingsFile = None,
    prune: options.Prune = None,
    clear: options.Clear = False,
    json: Json = False,
) -> None:
    """Tell, and remove, what is kept on this machine.

    Compiled code and fetched plugins. A start compiles and fetches what it needs again.

    \b
    Examples:
      asgi-wasm cache
      asgi-wasm cache --prune 30
    """
    from asgi_wasm.cli.caching import show_cache

    raise typer.Exit(show_cache(settings, prune=prune, clear=clear, as_json=json))
