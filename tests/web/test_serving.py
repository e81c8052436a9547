"""The address of the server."""

from __future__ import annotations

import re
import socket

import pytest

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.web.serving import address_of, bound, token_for


def test_a_free_port_is_taken_and_its_address_is_local() -> None:
    with bound("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert port > 0 and token_for(taken) is None
        assert address_of(taken, "127.0.0.1") == f"http://127.0.0.1:{port}/"
        assert address_of(taken, "localhost") == f"http://localhost:{port}/"


def test_a_port_in_use_is_refused_before_anything_is_loaded() -> None:
    with bound("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(GenLangSplatError, match=rf"127\.0\.0\.1:{port} cannot be taken .* --port"),
            bound("127.0.0.1", port),
        ):
            pass


@pytest.mark.parametrize(
    ("host", "port", "message"),
    [("127.0.0.1", 70_000, "70000"), ("127.0.0.1", -1, "-1"), ("no.such.host.invalid", 0, "no address")],
)
def test_impossible_addresses_are_refused(host: str, port: int, message: str) -> None:
    with pytest.raises(GenLangSplatError, match=message), bound(host, port):
        pass


def test_an_address_that_others_reach_has_a_new_token_each_time() -> None:
    with bound("0.0.0.0", 0) as taken:
        tokens = {token_for(taken) for _ in range(3)}
        assert len(tokens) == 3 and all(token and len(token) >= 32 for token in tokens)
        assert re.fullmatch(rf"http://{re.escape(socket.gethostname())}:\d+/\?token=abc", address_of(taken, "", "abc"))
