"""gRPC over TLS: a server that grpcio's roots vouch for, and one that they do not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
import trustme

from tests.driving import Response, request, run
from tests.grpc_server import grpc_server
from tests.plugins.test_grpc_auth import ALICE, guarded
from tests.serving import ROOT

_SECONDS = 60.0


def main(key: bytes, certificate: bytes) -> Response:
    """One request that a plugin asks a TLS server about."""

    async def call() -> Response:
        credentials = grpc.ssl_server_credentials([(key, certificate)])
        async with (
            grpc_server(credentials=credentials) as server,
            guarded(f"https://127.0.0.1:{server.port}", timeout_ms=20_000) as middleware,
        ):
            return await request(middleware, headers=ALICE)

    response: Response = run(call)
    return response


@pytest.mark.parametrize(("is_known", "status"), [(True, 200), (False, 403)], ids=["known", "unknown"])
def test_authority(tmp_path: Path, is_known: bool, status: int) -> None:
    authority, other = trustme.CA(), trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    roots, key, certificate = (tmp_path / name for name in ("roots.pem", "key.pem", "certificate.pem"))
    (authority if is_known else other).cert_pem.write_to_path(str(roots))
    issued.private_key_pem.write_to_path(str(key))
    issued.cert_chain_pems[0].write_to_path(str(certificate))
    # In a process of its own, because grpcio reads its roots once.
    command = [sys.executable, "-m", "tests.plugins.test_grpc_tls", str(key), str(certificate)]
    environment = {**os.environ, "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(roots)}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, timeout=_SECONDS, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == [str(status)], done.stderr


if __name__ == "__main__":
    print(main(Path(sys.argv[1]).read_bytes(), Path(sys.argv[2]).read_bytes()).status)
