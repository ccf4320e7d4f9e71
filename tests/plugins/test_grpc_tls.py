"""gRPC over TLS: a server that the settings' certificates vouch for, and one that they do not."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
import trustme

from tests.driving import Response, request
from tests.grpc_server import grpc_server
from tests.plugins.test_grpc_auth import ALICE, guarded


@pytest.mark.parametrize(
    ("is_known", "verify", "status"),
    [(True, True, 200), (False, True, 403), (False, False, 200)],
    ids=["known", "unknown", "unknown-and-not-verified"],
)
async def test_authority(tmp_path: Path, is_known: bool, verify: bool, status: int) -> None:
    authority, other = trustme.CA(), trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    roots = tmp_path / "roots.pem"
    (authority if is_known else other).cert_pem.write_to_path(str(roots))
    credentials = grpc.ssl_server_credentials([(issued.private_key_pem.bytes(), issued.cert_chain_pems[0].bytes())])

    async def main() -> Response:
        async with (
            grpc_server(credentials=credentials) as server,
            guarded(
                f"https://127.0.0.1:{server.port}",
                settings={"verify": str(roots) if verify else False},
                timeout_ms=20_000,
            ) as middleware,
        ):
            return await request(middleware, headers=ALICE)

    assert (await main()).status == status
