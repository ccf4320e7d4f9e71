"""Reads plugin tests in the format of Google's service-extensions tester: text protobuf, or the same as YAML.

The messages are described here by name alone, since text has no numbers; their meaning is in `testing.suites.suite`.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from asgi_wasm.errors import MissingExtraError, SettingsError

# Message -> fields: name, type, and ``*`` where it may come several times, or ``/`` and the group that has one of them.
_MESSAGES = {
    "StringMatcher": "invert:bool exact:bytes/matcher regex:string/matcher file:string/matcher",
    "Header": "key:string value:bytes",
    "Input": "header:Header* content:bytes file:string",
    "Immediate": "http_status:uint32 grpc_status:uint32 details:string",
    "Expectation": (
        "has_header:Header* no_header:Header* headers:StringMatcher* body:StringMatcher* immediate:Immediate "
        "log:StringMatcher*"
    ),
    "Invocation": "input:Input result:Expectation",
    "Property": "path:string value:bytes",
    "Test": (
        "name:string benchmark:bool num_chunks:int32/plan chunk_size:int64/plan properties:Property* "
        "request_headers:Invocation request_body:Invocation* response_headers:Invocation response_body:Invocation* "
        "plugin_init:Expectation stream_init:Expectation stream_destroy:Expectation"
    ),
    # `min_log_level` and `runtime` are what the format called them first.
    "Env": (
        "test_path:string wasm_path:string config_path:string log_level:LogLevel min_log_level:LogLevel "
        "log_path:string time_secs:uint64 num_additional_streams:uint64 additional_stream_advance_rate:uint64"
    ),
    "TestSuite": "env:Env runtime:Env test:Test*",
}
_LEVELS = ("UNDEFINED", "TRACE", "DEBUG", "INFO", "WARN", "ERROR", "CRITICAL")
_PACKAGE = "asgi_wasm.testing"


def read_suite(path: Path) -> Any:
    """The ``TestSuite`` of a file. Raises `SettingsError`, `MissingExtraError`."""
    if find_spec("google.protobuf") is None:
        raise MissingExtraError("plugin tests need the package protobuf: pip install 'asgi-wasm[cli]'")
    from google.protobuf import text_format

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    suite = _suite()
    if path.suffix in (".yaml", ".yml"):
        _fill_from_yaml(suite, text, path)
        return suite
    try:
        return text_format.Parse(text, suite)
    except text_format.ParseError as error:
        raise SettingsError(f"{path}: {error}") from None


def _suite() -> Any:
    """An empty message. Its classes are made anew, in a pool of their own: nothing else can be in their way."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="suite.proto", package=_PACKAGE, syntax="proto2")
    levels = file.enum_type.add(name="LogLevel")
    for number, level in enumerate(_LEVELS):
        levels.value.add(name=level, number=number)
    kind = descriptor_pb2.FieldDescriptorProto
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, text in enumerate(fields.split(), 1):
            field_name, _, type_name = text.partition(":")
            type_name, _, group = type_name.partition("/")
            label = kind.LABEL_REPEATED if type_name.endswith("*") else kind.LABEL_OPTIONAL
            field = message.field.add(name=field_name, number=number, label=label)
            type_name = type_name.removesuffix("*")
            if group:
                if not message.oneof_decl:
                    message.oneof_decl.add(name=group)
                field.oneof_index = 0
            if type_name == "LogLevel":
                field.type, field.type_name = kind.TYPE_ENUM, f".{_PACKAGE}.LogLevel"
            elif type_name in _MESSAGES:
                field.type, field.type_name = kind.TYPE_MESSAGE, f".{_PACKAGE}.{type_name}"
            else:
                field.type = getattr(kind, f"TYPE_{type_name.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.TestSuite"))()


def _fill_from_yaml(suite: Any, text: str, path: Path) -> None:
    import yaml

    try:
        data = yaml.safe_load(text)
        _fill(suite, data or {})
    except (yaml.YAMLError, ValueError, TypeError, KeyError) as error:
        raise SettingsError(f"{path}: {' '.join(str(error).split())}") from None


def _fill(message: Any, data: Any) -> None:
    """Texts are bytes where the message has bytes; raises ValueError, TypeError or KeyError."""
    if not isinstance(data, dict):
        raise TypeError(f"{message.DESCRIPTOR.name} must be a mapping, not {data!r}")
    for key, value in data.items():
        field = message.DESCRIPTOR.fields_by_name.get(key)
        if field is None:
            raise ValueError(f"{message.DESCRIPTOR.name} has no field {key!r}")
        group = field.containing_oneof
        if group is not None and message.WhichOneof(group.name) not in (None, key):
            raise ValueError(f"{key!r} and {message.WhichOneof(group.name)!r} exclude each other")
        many = isinstance(getattr(message, key), Sequence) and field.message_type is not None
        for item in value if isinstance(value, list) else [value]:
            if field.message_type is not None:
                _fill(getattr(message, key).add() if many else getattr(message, key), item)
                if not many:
                    # An empty message is there, too.
                    getattr(message, key).SetInParent()
            else:
                setattr(message, key, _scalar(field, item))


def _scalar(field: Any, item: Any) -> Any:
    if field.enum_type is not None:
        return field.enum_type.values_by_name[str(item)].number
    text = str(item)
    if field.type == field.TYPE_BYTES:
        return text.encode()
    if field.type == field.TYPE_BOOL:
        # Quoted as well: 'true'.
        return {"true": True, "false": False}[text.lower()]
    return text if field.type == field.TYPE_STRING else int(text)
