"""Envoy's foreign functions for expressions in CEL: what they answer, and what an expression sees."""

from __future__ import annotations

from tests.conformance.probe.script import Request, Script, in_phase, quoted

_REQUEST = Request(
    "POST",
    "/path/to?a=1&body=response",
    [("x-one", "1"), ("x-two", "a"), ("X-Two", "b"), ("user-agent", "probe"), ("referer", "http://r/")],
    b"request",
)
# Of a request, and of what comes later.
_AT_REQUEST = (
    *("request.path", "request.url_path", "request.host == ''", "request.scheme", "request.method", "request.query"),
    *("request.headers['x-one']", "request.headers['X-One']", "request.headers['x-two']", "request.headers['x-none']"),
    *("request.headers['x-none'] == '1'", "'x-one' in request.headers", "'x-none' in request.headers"),
    *("has(request.headers.none)", "request.useragent", "request.referer", "request.protocol", "request.size"),
    *("request.none", "request.time > timestamp('2020-01-01T00:00:00Z')", "type(request.time)", "request.duration"),
    *("type(request.headers)", "type(request.size)", "response.code", "response.headers", "size(response.trailers)"),
    *("source.address == ''", "type(source.port)", "type(destination.port)", "connection.mtls", "connection.none"),
    *("connection.requested_server_name", "plugin_name", "plugin_root_id", "none", "request", "metadata.none"),
    *(
        "filter_state['wasm.mine']",
        "filter_state['wasm.none']",
        "mine",
        "request.headers.size() > 4",
        "request.path.size()",
    ),
)
_AT_RESPONSE = (
    *("response.code", "response.code + 1", "response.headers['content-length']", "response.code_details"),
    *("response.flags", "type(response.size)", "response.grpc_status", "request.path", "request.headers['x-one']"),
    *("has(response.code)", "has(request.path)", "type(request.duration)", "type(request.total_size)", "none == 1"),
)
_VALUES = (
    *("1", "-1", "1u", "1.5", "true", "'text'", "b'by\\x01'", "'é'", "null", "[1, 'a', true]", "[]", "{}"),
    *("{'a': 'b'}", "{'b': b'2'}", "{1: 'b'}", "duration('1.5s')", "timestamp('2020-01-01T00:00:00Z')"),
    *("1 / 0", "1 + 'a'", "9223372036854775807 + 1", "'a'.matches('a|b')", "'a'.matches('[')", "'a'.startsWith('a')"),
    *(
        "[1, 2].exists(x, x > 1)",
        "[1, 2].map(x, x + 1)",
        "int('7')",
        "string(7)",
        "size('é')",
        "size(b'ab')",
        "type(1)",
    ),
    *("1 < 2u", "1 == 1.0", "dyn(1)", "'abc'[0]", "[1][3]", "true || 1 / 0 > 0", "false ? none : 3", "[[1], [2]]"),
)
_WRONG = (
    *("", " ", "1 +", "(", "'a", "x y", "1 === 1", "has(a)", "a..b", "none(1)", "none.none(1)", "1.none()", "\\xff"),
    *("(" * 20 + "1" + ")" * 20, "(" * 400 + "1" + ")" * 400, "[1].map(x)", "if", "{'a' 1}", "request.path.none()"),
)


_NAME = "call_foreign_function"


def _token(number: int) -> str:
    return quoted(number.to_bytes(4, "little"))


def _evaluated(expressions: tuple[str, ...], first: int = 0) -> str:
    """Each made and evaluated; the first token is 0."""
    return "\n".join(
        f'{_NAME} "expr_create" {quoted(text.encode())}\n{_NAME} "expr_evaluate" {_token(number)}'
        for number, text in enumerate(expressions, first)
    )


SCRIPTS = [
    Script(
        "cel-request", in_phase("request_headers", f'set_property "mine" "own"\n{_evaluated(_AT_REQUEST)}'), [_REQUEST]
    ),
    Script("cel-values", in_phase("request_headers", _evaluated(_VALUES))),
    Script(
        "cel-wrong",
        in_phase(
            "request_headers",
            "\n".join(f'{_NAME} "expr_create" {quoted(text.encode())}' for text in _WRONG)
            + f'\n{_NAME} "expr_create" "7"\n'
            + "\n".join(f'{_NAME} "expr_evaluate" {_token(number)}' for number in range(len(_WRONG))),
        ),
    ),
    Script(
        "cel-tokens",
        in_phase("configure", _evaluated(("1", "request.path", "plugin_name")))
        + in_phase(
            "request_headers",
            f"""
            {_NAME} "expr_evaluate" {_token(1)}
            {_NAME} "expr_evaluate" {_token(9)}
            {_NAME} "expr_evaluate" ""
            {_NAME} "expr_evaluate" "\\x01"
            {_NAME} "expr_evaluate" "\\x01\\x00\\x00\\x00\\x00"
            {_NAME} "expr_delete" {_token(1)}
            {_NAME} "expr_evaluate" {_token(1)}
            {_NAME} "expr_delete" {_token(1)}
            {_NAME} "expr_delete" ""
            {_NAME} "expr_create" "'next'"
            {_NAME} "expr_evaluate" {_token(3)}
            set_effective_context %root
            {_NAME} "expr_evaluate" {_token(2)}
            {_NAME} "expr_create" "request.method"
            {_NAME} "expr_evaluate" {_token(4)}
            """,
        )
        + in_phase("log", f'{_NAME} "expr_evaluate" {_token(2)}\n{_NAME} "expr_evaluate" {_token(4)}'),
        others=[in_phase("request_headers", f'{_NAME} "expr_evaluate" {_token(2)}')],
    ),
    Script(
        "cel-response",
        in_phase("configure", "\n".join(f'{_NAME} "expr_create" {quoted(each.encode())}' for each in _AT_RESPONSE))
        + "".join(
            in_phase(phase, "\n".join(f'{_NAME} "expr_evaluate" {_token(n)}' for n in range(len(_AT_RESPONSE))))
            for phase in ("stream_create", "request_headers", "response_headers", "log", "done")
        ),
    ),
]
