"""Python functions and Envoy's own, called by a plugin through `proxy_call_foreign_function`.

The expected answers of Envoy's functions are those that the real Envoy gave to the same plugin.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import sys
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import wasmtime
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from asgi_wasm import ForeignFunctionError, ProxyStatus, SettingsError, WasmMiddleware, foreign_function
from asgi_wasm.asgi.types import Receive, Scope, Send
from asgi_wasm.foreign import envoy
from asgi_wasm.host.codecs.protobuf import encode
from tests.driving import answering, request, until
from tests.plugins.callouts import conf, foreign, get, http, plugged, put, said
from tests.upstreams import raw

OK, NOT_FOUND, BAD_ARGUMENT, SERIALIZATION_FAILURE, INTERNAL_FAILURE = 0, 1, 2, 3, 10


@pytest.fixture(autouse=True)
def _logs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


@foreign_function("upper")
def upper(arguments: bytes) -> bytes:
    return arguments.upper()


@foreign_function("later")
async def later(arguments: bytes) -> bytes:
    await asyncio.sleep(0)
    return arguments[::-1]


def results(caplog: pytest.LogCaptureFixture, callback: str = "configure") -> list[tuple[int, bytes]]:
    """Status and result of each foreign function and property step of a callback."""
    found = []
    for line in said(caplog, f"^{callback} (foreign|get|set) "):
        status, _, result = line.partition(" = ")[2].partition(" ")
        found.append((int(status), bytes.fromhex(result)))
    return found


def answers(caplog: pytest.LogCaptureFixture) -> list[str]:
    return said(caplog, "^foreign_function ")


async def configured(caplog: pytest.LogCaptureFixture, *steps: str, functions: Any = ()) -> list[tuple[int, bytes]]:
    """What the steps of `on_configure` give."""
    async with plugged(conf(configure=steps), foreign_functions=functions):
        pass
    return results(caplog)


# --- Python functions


async def test_decorated_function_answers_at_once(caplog: pytest.LogCaptureFixture) -> None:
    steps = [foreign("upper", b"a\0\xff"), foreign("upper"), foreign("lower", b"A")]
    assert await configured(caplog, *steps, functions=[upper]) == [(OK, b"A\0\xff"), (OK, b""), (NOT_FOUND, b"")]
    assert upper(b"still a function") == b"STILL A FUNCTION"


async def test_mapping_of_any_callables(caplog: pytest.LogCaptureFixture) -> None:
    class Prefix:
        def __init__(self, prefix: bytes) -> None:
            self.prefix = prefix

        @foreign_function("unused")
        def add(self, arguments: bytes) -> bytes:
            return self.prefix + arguments

        __call__ = add

    functions = {
        "method": Prefix(b"m").add,
        "object": Prefix(b"o"),
        "partial": functools.partial(Prefix.add, Prefix(b"p")),
        "none": lambda arguments: None,
        "view": memoryview,
        "array": bytearray,
    }
    got = await configured(caplog, *(foreign(name, b"x") for name in functions), functions=functions)
    assert got == [(OK, b"mx"), (OK, b"ox"), (OK, b"px"), (OK, b""), (OK, b"x"), (OK, b"x")]


async def test_ours_win_over_envoys(caplog: pytest.LogCaptureFixture) -> None:
    assert await configured(caplog, foreign("compress", b"a"), functions={"compress": upper}) == [(OK, b"A")]


async def test_functions_that_fail(caplog: pytest.LogCaptureFixture) -> None:
    def broken(arguments: bytes) -> bytes:
        raise ValueError("the shelf is empty")

    def text(arguments: bytes) -> bytes:
        return arguments.decode()  # type: ignore[return-value]

    def refusing(status: int) -> Any:
        def refuse(arguments: bytes) -> bytes:
            raise ForeignFunctionError(status, "no such key")

        return refuse

    functions = {
        "broken": broken,
        "text": text,
        "not_found": refusing(ProxyStatus.NOT_FOUND),
        "as_number": refusing(3),
        "ok": refusing(0),
        "no_status": refusing(99),
    }
    got = await configured(caplog, *(foreign(name, b"x") for name in functions), functions=functions)
    assert [status for status, _ in got] == [10, 10, 1, 3, 10, 10]
    assert {result for _, result in got} == {b""}
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert told == [
        "plugin 'callouts': foreign function 'broken' raised ValueError: the shelf is empty",
        "plugin 'callouts': foreign function 'text' raised TypeError: it returned str, not bytes or None",
    ]


async def test_async_function_answers_later(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        script = conf(configure=[foreign("later", b"ab"), foreign("later"), foreign("later", b"cd")])
        async with plugged(script, foreign_functions=[later, upper]):
            # The ids are known, and nothing was answered while the callback ran.
            assert results(caplog) == [(OK, b"\1\0\0\0"), (OK, b"\2\0\0\0"), (OK, b"\3\0\0\0")]
            assert answers(caplog) == []
            await until(lambda: len(answers(caplog)) == 6)

    await main()
    assert answers(caplog) == [
        "foreign_function 1 2 = 0 6261",
        "foreign_function status 0 ",
        "foreign_function 2 0 = 0 ",
        "foreign_function status 0 ",
        "foreign_function 3 2 = 0 6463",
        "foreign_function status 0 ",
    ]


async def test_async_functions_of_all_kinds(caplog: pytest.LogCaptureFixture) -> None:
    class Callable:
        async def __call__(self, arguments: bytes) -> None:
            return None

    async def add(prefix: bytes, arguments: bytes) -> bytes:
        return prefix + arguments

    async def main() -> None:
        functions = {"object": Callable(), "partial": functools.partial(add, b"p")}
        script = conf(configure=[foreign("object", b"x"), foreign("partial", b"x")])
        async with plugged(script, foreign_functions=functions):
            await until(lambda: len(answers(caplog)) == 4)

    await main()
    assert answers(caplog)[::2] == ["foreign_function 1 0 = 0 ", "foreign_function 2 2 = 0 7078"]


async def test_failure_of_an_async_function_can_be_told_from_an_empty_answer(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(arguments: bytes) -> bytes:
        raise ValueError("the shelf is empty")

    async def text(arguments: bytes) -> bytes:
        return arguments.decode()  # type: ignore[return-value]

    async def refusing(arguments: bytes) -> bytes:
        raise ForeignFunctionError(ProxyStatus.NOT_FOUND, "no such key")

    async def main() -> None:
        functions = {"broken": broken, "text": text, "refusing": refusing, "later": later}
        async with plugged(conf(configure=[foreign(name) for name in functions]), foreign_functions=functions):
            await until(lambda: len(answers(caplog)) == 8)

    await main()
    assert sorted(answers(caplog)[:-2]) + answers(caplog)[-2:] == [
        "foreign_function 1 0 = 0 ",
        "foreign_function 2 0 = 0 ",
        "foreign_function 3 0 = 0 ",
        "foreign_function status 1 no such key",
        "foreign_function status 10 ",
        "foreign_function status 10 ",
        "foreign_function 4 0 = 0 ",
        "foreign_function status 0 ",
    ]
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert told == [
        "plugin 'callouts': foreign function 'broken' raised ValueError: the shelf is empty",
        "plugin 'callouts': foreign function 'text' raised TypeError: it returned str, not bytes or None",
    ]


async def test_status_of_a_callout_outlives_a_foreign_answer(caplog: pytest.LogCaptureFixture) -> None:
    def answer(line: bytes, headers: dict[bytes, bytes], body: bytes) -> bytes:
        cut = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"
        return cut if b"/cut" in line else b"HTTP/1.1 204 OK\r\n\r\n"

    async def main() -> None:
        script = conf(configure=[http(b"/cut")], answer=[foreign("later")], foreign_function=[http(b"/ok")])
        async with raw(answer, closes=True) as (port, _), plugged(script, port, foreign_functions=[later]):
            await until(lambda: len(said(caplog, "^answer status")) >= 2)

    await main()
    assert said(caplog, "^answer status")[:2] == ["answer status 11 reset", "answer status 11 "]
    assert "foreign_function status 0 " in answers(caplog)


async def test_paused_stream_is_resumed_by_the_answer_and_nobody_else_waits(caplog: pytest.LogCaptureFixture) -> None:
    gate = asyncio.Event()

    async def wait(arguments: bytes) -> bytes:
        await gate.wait()
        return b"go"

    script = conf(request_headers=[foreign("wait"), "pause"], foreign_function=["stream", "resume 0"])
    async with plugged([script, ""], foreign_functions={"wait": wait}) as middleware:
        waiting = asyncio.ensure_future(request(middleware))
        await until(lambda: results(caplog, "request_headers"))
        await asyncio.sleep(0.02)
        assert not waiting.done()
        gate.set()
        assert (await waiting).body == b"app"


async def test_pending_functions_are_cancelled_and_awaited_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    ended: list[bytes] = []

    async def endless(arguments: bytes) -> bytes:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.02)
            ended.append(arguments)
        raise AssertionError("it was not cancelled")

    async def main() -> None:
        script = conf(
            configure=[foreign("endless", b"1"), foreign("endless", b"2")], root_done=[foreign("endless", b"3")]
        )
        async with plugged(script, foreign_functions={"endless": endless}):
            await asyncio.sleep(0.02)
        assert sorted(ended) == [b"1", b"2"]

    await main()
    assert answers(caplog) == []
    # Asked for while the plugin was told of its end: it got an id, and that was all.
    assert results(caplog, "root_done") == [(OK, b"\3\0\0\0")]


async def test_function_that_does_not_let_itself_be_cancelled(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asgi_wasm.services.tasks.STOP_SECONDS", 0.05)
    release = asyncio.Event()

    async def stubborn(arguments: bytes) -> bytes:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        return b""

    async def main() -> None:
        async with plugged(conf(configure=[foreign("stubborn")]), foreign_functions={"stubborn": stubborn}):
            await asyncio.sleep(0.02)
        release.set()
        await asyncio.sleep(0.02)

    await main()
    assert "1 calls of plugins went on for 0.05 s after they were cancelled" in caplog.text
    assert answers(caplog) == []


async def test_answer_to_a_failed_vm_is_dropped_and_ids_begin_anew_in_the_next(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        gate = asyncio.Event()

        async def wait(arguments: bytes) -> bytes:
            await gate.wait()
            return b"late"

        script = conf(configure=[foreign("wait")], request_headers=["trap"])
        async with plugged(script, foreign_functions={"wait": wait}) as middleware:
            for _ in range(2):
                assert (await request(middleware)).status == 503
            gate.set()
            await asyncio.sleep(0.05)

    await main()
    # Both VMs failed before the answers came.
    assert results(caplog) == [(OK, b"\1\0\0\0")] * 2
    assert answers(caplog) == []


async def test_functions_of_a_failed_vm_are_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody is there to answer; else a plugin that fails and fails again would have any number of them."""
    began, cancelled = 0, 0

    async def endless(_: bytes) -> bytes:
        nonlocal began, cancelled
        began += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled += 1
            raise
        return b""

    script = conf(configure=[foreign("endless")], request_headers=["trap"])
    async with plugged(script, foreign_functions={"endless": endless}) as middleware:
        await until(lambda: began == 1)
        assert (await request(middleware)).status == 503
        await until(lambda: cancelled == 1)
    assert answers(caplog) == []


@pytest.mark.parametrize(
    ("functions", "problem"),
    [
        ([len, upper], "argument foreign_functions[0]: <built-in function len> has no name: decorate it"),
        ([upper, upper], "argument foreign_functions: 'upper' is there twice"),
        ({"five": 5}, "argument foreign_functions: 5 is no function"),
        ({5: upper}, "argument foreign_functions[0]: <function upper"),
    ],
    ids=["no-name", "twice", "no-function", "name-is-no-text"],
)
async def test_mistakes(functions: Any, problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        await WasmMiddleware(answering(), settings={}, foreign_functions=functions).start()
    assert str(caught.value).startswith(problem)


def test_decorator_without_a_name() -> None:
    with pytest.raises(TypeError, match='@foreign_function\\("name"\\)'):
        foreign_function(upper)  # type: ignore[arg-type]


NULL_POINTERS = """
(module
  (import "env" "proxy_call_foreign_function" (func $call (param i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "upper")
  (data (i32.const 32) "abc")
  (func (export "proxy_abi_version_0_2_1"))
  ;; Nothing may be allocated for results that nobody wants.
  (func (export "malloc") (param i32) (result i32) unreachable)
  (func (export "proxy_on_configure") (param i32 i32) (result i32)
    (if (call $call (i32.const 16) (i32.const 5) (i32.const 32) (i32.const 3) (i32.const 0) (i32.const 0))
      (then (return (i32.const 0))))
    (if (call $call (i32.const 16) (i32.const 5) (i32.const 32) (i32.const 3) (i32.const 0) (i32.const 64))
      (then (return (i32.const 0))))
    (i32.and
      (i32.eq (i32.load (i32.const 0)) (i32.const 0))
      (i32.eq (i32.load (i32.const 64)) (i32.const 3)))))
"""


async def test_result_that_the_plugin_does_not_want(tmp_path: Path) -> None:
    file = tmp_path / "null_pointers.wasm"
    file.write_bytes(wasmtime.wat2wasm(NULL_POINTERS))

    settings = {"plugins": [{"name": "p", "file": file}]}
    middleware = WasmMiddleware(answering(), settings=settings, foreign_functions=[upper])
    await middleware.start()
    await middleware.stop()


# --- Envoy's


async def test_compress_and_uncompress(caplog: pytest.LogCaptureFixture) -> None:
    packed = zlib.compress(b"hello" * 100)
    got = await configured(
        caplog,
        foreign("compress", b"hello" * 100),
        foreign("compress"),
        foreign("uncompress", packed),
        foreign("uncompress", packed + b"tail"),
        foreign("uncompress", zlib.compress(b"")),
        foreign("uncompress"),
        foreign("uncompress", b"junk"),
        foreign("uncompress", packed[:-4]),
        foreign("uncompress", packed[:10]),
    )
    assert [status for status, _ in got] == [OK] * 5 + [SERIALIZATION_FAILURE] * 4
    assert zlib.decompress(got[0][1]) == b"hello" * 100
    assert got[1:5] == [(OK, zlib.compress(b"")), (OK, b"hello" * 100), (OK, b"hello" * 100), (OK, b"")]


async def test_uncompress_is_bounded(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envoy, "MAX_UNCOMPRESSED_BYTES", 1000)
    fits, bomb = zlib.compress(bytes(1000)), zlib.compress(bytes(1001))
    got = await configured(caplog, foreign("uncompress", fits), foreign("uncompress", bomb))
    assert got == [(OK, bytes(1000)), (SERIALIZATION_FAILURE, b"")]


async def test_route_cache(caplog: pytest.LogCaptureFixture) -> None:
    assert await configured(caplog, foreign("clear_route_cache"), foreign("clear_route_cache", b"x")) == [(OK, b"")] * 2


def declaration(name: bytes, *, read_only: bool = False, kind: int = 0, span: int = 0) -> str:
    return foreign("declare_property", encode([(1, name), (2, int(read_only)), (3, kind), (4, b"schema"), (5, span)]))


async def during_a_request(
    caplog: pytest.LogCaptureFixture, request_steps: Iterable[str], configure_steps: Iterable[str] = (), **steps: Any
) -> tuple[list[tuple[int, bytes]], dict[str, bytes]]:
    """What the steps of `on_request_headers` give, and the properties that the app sees."""
    seen: list[dict[str, bytes]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(dict(scope["asgi_wasm"]))
        await answering()(scope, receive, send)

    script = conf(configure=list(configure_steps), request_headers=list(request_steps), **steps)
    async with plugged(script, app=app) as middleware:
        await request(middleware)
    return results(caplog, "request_headers"), seen[0]


async def test_declared_properties(caplog: pytest.LogCaptureFixture) -> None:
    declared = [
        declaration(b"once", read_only=True),
        declaration(b"once"),
        *(declaration(b"kind%d" % kind, kind=kind, span=kind) for kind in (1, 2, 3, 9)),
        foreign("declare_property", b"\xff"),
        foreign("declare_property", encode([(1, b"\xff\xfe")])),
        foreign("declare_property", encode([(1, 7)])),
        foreign("declare_property", encode([(1, b"odd"), (2, b"true")])),
        foreign("declare_property"),
    ]
    set_and_get = [
        put(b"once", b"1"),
        put(b"once", b"2"),
        get(b"once"),
        put(b"kind3", b"1"),
        put(b"kind3", b"2"),
        get(b"kind3"),
    ]
    got, seen = await during_a_request(caplog, [get(b"once"), *set_and_get], declared)
    assert [status for status, _ in results(caplog)] == [OK, BAD_ARGUMENT, OK, OK, OK, OK, *[BAD_ARGUMENT] * 4, OK]
    assert got == [
        (NOT_FOUND, b""),
        (OK, b""),
        (BAD_ARGUMENT, b""),
        (OK, b"1"),
        (OK, b""),
        (OK, b""),
        (OK, b"2"),
    ]
    assert seen == {"once": b"1", "kind3": b"2"}


async def test_property_declared_by_a_stream_is_not_read_only(caplog: pytest.LogCaptureFixture) -> None:
    """Envoy keeps the declaration at the stream's context, and looks for it at the root's."""
    steps = [declaration(b"p", read_only=True), declaration(b"p"), put(b"p", b"1"), put(b"p", b"2"), get(b"p")]
    got, _ = await during_a_request(caplog, steps)
    assert got == [(OK, b""), (BAD_ARGUMENT, b""), (OK, b""), (OK, b""), (OK, b"2")]


async def test_property_declared_after_it_was_set_stays_writable(caplog: pytest.LogCaptureFixture) -> None:
    """What was declared when it was first set counts, for each stream anew."""
    steps = [put(b"p", b"1"), put(b"p", b"2")]

    async def main() -> None:
        script = conf(
            request_headers=[*steps, "period 5", "pause"],
            tick=[declaration(b"p", read_only=True), "stream", *steps, "resume 0", "period 0"],
        )
        async with plugged(script) as middleware:
            await request(middleware)
            await request(middleware)

    await main()
    assert [status for status, _ in results(caplog, "request_headers")] == [OK, OK, OK, BAD_ARGUMENT]
    assert [status for status, _ in results(caplog, "tick")] == [OK, OK, OK, *[BAD_ARGUMENT] * 3]


def filter_state(key: bytes, value: bytes) -> str:
    return foreign("set_envoy_filter_state", encode([(1, key), (2, value), (3, 1)]))


async def test_filter_state(caplog: pytest.LogCaptureFixture) -> None:
    steps = [
        filter_state(b"envoy.string", b"v"),
        get(b"filter_state\0envoy.string"),
        filter_state(b"unknown", b"v"),
        filter_state(b"envoy.string", b"\xff"),
        foreign("set_envoy_filter_state", b"\xff"),
    ]
    got, _ = await during_a_request(
        caplog, steps, [filter_state(b"envoy.string", b"v")], log=[filter_state(b"envoy.string", b"")]
    )
    assert got == [(OK, b""), (OK, b"v"), (NOT_FOUND, b""), (BAD_ARGUMENT, b""), (BAD_ARGUMENT, b"")]
    assert results(caplog) == [(NOT_FOUND, b"")]  # no stream
    assert results(caplog, "log") == [(OK, b"")]


RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()
DER, PEM = serialization.Encoding.DER, serialization.Encoding.PEM


def private(key: Any, encoding: Any = DER, form: Any = serialization.PrivateFormat.PKCS8) -> bytes:
    data: bytes = key.private_bytes(encoding, form, serialization.NoEncryption())
    return data


def public(key: Any, encoding: Any = DER) -> bytes:
    data: bytes = key.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
    return data


def sign(name: bytes, text: bytes, der: bytes = b"", pem: bytes = b"") -> str:
    return foreign("sign", encode([(1, name), (2, der), (3, text), (4, pem)]))


def verify(name: bytes, signature: bytes, text: bytes, der: bytes = b"", pem: bytes = b"") -> str:
    return foreign("verify_signature", encode([(1, name), (2, der), (3, signature), (4, text), (5, pem)]))


def signed(name: str, text: bytes) -> tuple[int, bytes]:
    return OK, encode([(1, 1), (2, RSA_KEY.sign(text, padding.PKCS1v15(), getattr(hashes, name)()))])


def refused(field: int, words: bytes) -> tuple[int, bytes]:
    return OK, encode([(field, words)])


NO_KEY = b"Invalid key type: private key required for signing operation."
ENCRYPTED = RSA_KEY.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"pw"))
TRADITIONAL = serialization.PrivateFormat.TraditionalOpenSSL


@pytest.mark.parametrize(
    ("step", "answer"),
    [
        (sign(b"sha256", b"text", private(RSA_KEY)), signed("SHA256", b"text")),
        (sign(b"SHA512", b"", pem=private(RSA_KEY, PEM)), signed("SHA512", b"")),
        (sign(b"sha1", b"text", pem=private(RSA_KEY, PEM, TRADITIONAL)), signed("SHA1", b"text")),
        (sign(b"md5", b"text", private(RSA_KEY)), refused(3, b"md5 is not supported.")),
        (sign(b"md5", b"text", b"junk"), refused(3, b"md5 is not supported.")),
        (sign(b"sha256", b"text", b"junk"), refused(3, NO_KEY)),
        (sign(b"sha256", b"text", pem=b"junk"), refused(3, NO_KEY)),
        (sign(b"sha256", b"text", pem=ENCRYPTED), refused(3, NO_KEY)),
        (sign(b"sha256", b"text", public(RSA_KEY)), refused(3, NO_KEY)),
        (
            sign(b"sha256", b"text", private(ED_KEY)),
            refused(3, b"Invalid private key: key data is corrupted or malformed."),
        ),
        (sign(b"sha256", b"text"), (BAD_ARGUMENT, b"")),
        (sign(b"sha256", b"text", private(RSA_KEY), private(RSA_KEY, PEM)), (BAD_ARGUMENT, b"")),
        (sign(b"sha\xff256", b"text", private(RSA_KEY)), (BAD_ARGUMENT, b"")),
        (foreign("sign", b"\xff"), (BAD_ARGUMENT, b"")),
        (foreign("sign", encode([(2, 5)])), (BAD_ARGUMENT, b"")),
    ],
)
async def test_sign(caplog: pytest.LogCaptureFixture, step: str, answer: tuple[int, bytes]) -> None:
    assert await configured(caplog, step) == [answer]


RSA_SIGNATURE = RSA_KEY.sign(b"text", padding.PKCS1v15(), hashes.SHA256())
EC_SIGNATURE = EC_KEY.sign(b"text", ec.ECDSA(hashes.SHA256()))
NO_DIGEST = b"Failed to initialize digest verify."
WRONG = b"Failed to verify digest. Error code: 0"


@pytest.mark.parametrize(
    ("step", "answer"),
    [
        (verify(b"sha256", RSA_SIGNATURE, b"text", public(RSA_KEY)), (OK, b"\x08\x01")),
        (verify(b"sha256", RSA_SIGNATURE, b"text", pem=public(RSA_KEY, PEM)), (OK, b"\x08\x01")),
        (verify(b"sha256", EC_SIGNATURE, b"text", public(EC_KEY)), (OK, b"\x08\x01")),
        (verify(b"sha256", RSA_SIGNATURE, b"other", public(RSA_KEY)), refused(2, WRONG)),
        (verify(b"sha1", RSA_SIGNATURE, b"text", public(RSA_KEY)), refused(2, WRONG)),
        (verify(b"sha256", RSA_SIGNATURE, b"text", public(EC_KEY)), refused(2, WRONG)),
        (verify(b"nope", RSA_SIGNATURE, b"text", public(RSA_KEY)), refused(2, b"nope is not supported.")),
        (verify(b"sha256", RSA_SIGNATURE, b"text", b"junk"), refused(2, NO_DIGEST)),
        (verify(b"sha256", RSA_SIGNATURE, b"text", public(ED_KEY)), refused(2, NO_DIGEST)),
        (verify(b"sha256", RSA_SIGNATURE, b"text"), (BAD_ARGUMENT, b"")),
        (verify(b"sha256", RSA_SIGNATURE, b"text", public(RSA_KEY), public(RSA_KEY, PEM)), (BAD_ARGUMENT, b"")),
        (foreign("verify_signature", b"\xff"), (BAD_ARGUMENT, b"")),
    ],
)
async def test_verify_signature(caplog: pytest.LogCaptureFixture, step: str, answer: tuple[int, bytes]) -> None:
    assert await configured(caplog, step) == [answer]


async def test_signature_of_an_elliptic_curve(caplog: pytest.LogCaptureFixture) -> None:
    ((status, result),) = await configured(caplog, sign(b"sha384", b"text", private(EC_KEY)))
    assert (status, result[:3]) == (OK, b"\x08\x01\x12")
    EC_KEY.public_key().verify(result[4:], b"text", ec.ECDSA(hashes.SHA384()))


async def test_without_the_extra(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    step = verify(b"sha256", RSA_SIGNATURE, b"text", public(RSA_KEY))
    assert await configured(caplog, step, step, sign(b"sha256", b"", b"x")) == [(NOT_FOUND, b"")] * 3
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert told == [
        "plugin 'callouts': calls sign or verify_signature, which need cryptography: pip install 'asgi-wasm[crypto]'"
    ]
