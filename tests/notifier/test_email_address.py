import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notifier.email_address import address_of, is_address


@pytest.mark.parametrize(
    ("endpoint", "address"),
    [
        ("mailto:ann@example.org", "ann@example.org"),
        ("MAILTO:Ann.B@Example.org", "Ann.B@Example.org"),
        ("mailto:ann%2Bchat@example.org", "ann+chat@example.org"),
        ("mailto:ann+chat@example.org", "ann+chat@example.org"),
        ("mailto:50%25@example.org", "50%@example.org"),
        ("mailto:root@localhost", "root@localhost"),
    ],
)
def test_one_plain_address_is_read(endpoint: str, address: str) -> None:
    assert address_of(endpoint) == address


@pytest.mark.parametrize(
    "endpoint",
    [
        "mailto:",
        "mailto:ann",
        "mailto:@example.org",
        "mailto:ann@",
        "mailto:a@b@c",
        "mailto:ann@example.org,bob@example.org",
        "mailto:ann%2Cbob@example.org",
        "mailto:ann@example.org?subject=hi",
        "mailto:ann@example.org?cc=eve@example.org",
        "mailto:ann%0D%0ABcc:eve@example.org",
        "mailto:ann@example.org%0A",
        "mailto:ann@example.org\r\nBcc: eve@example.org",
        "mailto:ann@example.org ",
        "mailto:%",
        "mailto:a%zz@example.org",
        "mailto:Ann <ann@example.org>",
        'mailto:"a b"@example.org',
        "mailto:a..b@example.org",
        "mailto:.a@example.org",
        "mailto:ann@[127.0.0.1]",
        "mailto:ann@-example.org",
        "mailto:ann@example..org",
        "mailto:%C3%A4nn@example.org",
        "mailto:änn@example.org",
        "mailto:" + "a" * 65 + "@example.org",
        "mailto:a@" + "b" * 64 + ".org",
        "mailto:a@" + "b.c" * 90 + ".org",
        "fcm:ann@example.org",
        "ann@example.org",
    ],
)
def test_anything_else_is_refused(endpoint: str) -> None:
    assert address_of(endpoint) is None


@given(st.text())
def test_what_is_an_address_is_printable_ascii_without_separators(text: str) -> None:
    address = address_of(f"mailto:{text}")
    if address is not None:
        assert is_address(address)
        assert address.isascii()
        assert address.isprintable()
        assert not set(address) & set(' ,;:<>()[]\\"')
