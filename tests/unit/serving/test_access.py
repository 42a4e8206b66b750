import pytest
from starlette.requests import Request

from captionloop.serving.access import client_address


def request(peer: str, forwarded: str = "") -> Request:
    headers = [(b"x-forwarded-for", forwarded.encode())] if forwarded else []
    return Request({"type": "http", "headers": headers, "client": (peer, 1)})


@pytest.mark.parametrize(
    ("forwarded", "trusted", "expected"),
    [
        ("", 0, "10.0.0.9"),
        ("1.1.1.1", 0, "10.0.0.9"),
        ("1.1.1.1, 2.2.2.2", 1, "2.2.2.2"),
        ("1.1.1.1, 2.2.2.2", 2, "1.1.1.1"),
        ("1.1.1.1", 2, "10.0.0.9"),
        ("nonsense", 1, "unknown"),
    ],
)
def test_only_trusted_proxies_are_believed(forwarded: str, trusted: int, expected: str) -> None:
    assert client_address(request("10.0.0.9", forwarded), trusted) == expected


def test_an_ipv6_customer_is_one_network() -> None:
    assert client_address(request("2001:db8::1"), 0) == client_address(request("2001:db8::ffff:1"), 0)
    assert client_address(request("::ffff:9.9.9.9"), 0) == "9.9.9.9"
