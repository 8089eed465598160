"""Proxies and certificate authorities from the environment."""

import base64
import os
import ssl
from pathlib import Path

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from exporter.cavatica.environment import (
    Authorities,
    AuthoritiesError,
    Proxy,
    ProxySettingsError,
    find_errors,
    find_proxy,
)

PROXY = {"HTTPS_PROXY": "http://proxy.example:3128"}


class TestProxy:
    """The proxy for connections to a host."""

    @pytest.mark.parametrize(
        ("environ", "found"),
        [
            ({}, None),
            ({"HTTPS_PROXY": ""}, None),
            ({"HTTP_PROXY": "http://plain.example:1"}, None),
            (PROXY, ("http", "proxy.example", 3128, "HTTPS_PROXY")),
            ({"https_proxy": "http://a:1", **PROXY}, ("http", "a", 1, "https_proxy")),
            ({"ALL_PROXY": "http://a:1", **PROXY}, ("http", "proxy.example", 3128, "HTTPS_PROXY")),
            ({"ALL_PROXY": "http://a:1"}, ("http", "a", 1, "ALL_PROXY")),
            ({"HTTPS_PROXY": "proxy.example:3128"}, ("http", "proxy.example", 3128, "HTTPS_PROXY")),
            ({"HTTPS_PROXY": "http://a"}, ("http", "a", 80, "HTTPS_PROXY")),
            ({"HTTPS_PROXY": "https://a/"}, ("https", "a", 443, "HTTPS_PROXY")),
            ({"HTTPS_PROXY": "http://[::1]:8080"}, ("http", "::1", 8080, "HTTPS_PROXY")),
            ({"HTTPS_PROXY": " http://a:1\r\n"}, ("http", "a", 1, "HTTPS_PROXY")),
        ],
        ids=[
            "no variable",
            "empty value",
            "HTTP_PROXY is not used",
            "HTTPS_PROXY",
            "https_proxy before HTTPS_PROXY",
            "HTTPS_PROXY before ALL_PROXY",
            "ALL_PROXY",
            "no scheme",
            "no port, HTTP",
            "no port, HTTPS",
            "IPv6",
            "white space",
        ],
    )
    def test_is_the_first_variable_that_is_not_empty(
        self, environ: dict[str, str], found: tuple[str, str, int, str] | None
    ) -> None:
        """Lowercase names take precedence, as for curl; white space around a value is ignored."""
        proxy = find_proxy("api.example", 443, environ)
        shown = proxy and (proxy.scheme, proxy.host, proxy.port, proxy.variable)
        assert shown == found

    @pytest.mark.parametrize(
        "url",
        [
            "socks5h://me:a-secret@proxy.example:1080",
            "ftp://me:a-secret@proxy.example",
            "http://me:a-secret@proxy.example:port",
            "http://me:a-secret@proxy.example:99999",
            "http://me:a-secret@[::1",
            "http://",
            "http://two words/",
            "http://pröxy.example",
        ],
    )
    def test_that_is_not_valid_is_an_error_with_its_variable(self, url: str) -> None:
        """The error names the variable and the valid form, and shows no password."""
        with pytest.raises(ProxySettingsError) as caught:
            find_proxy("api.example", 443, {"https_proxy": url})
        assert str(caught.value) == (
            "https_proxy: not a valid proxy URL (use http://HOST:PORT or https://HOST:PORT)"
        )

    @pytest.mark.parametrize(
        ("user", "sent"),
        [
            ("me:secret", "me:secret"),
            ("me", "me:"),
            ("me:p%40ss%3A%2F", "me:p@ss:/"),
            ("m%C4%85:pä", "mą:pä"),
            # The byte E9: escaped, and unescaped as Python decodes it from the environment.
            ("me:p%E9", "me:p\udce9"),
            ("me:p\udce9", "me:p\udce9"),
        ],
    )
    def test_has_a_user_and_a_password_that_repr_hides(self, user: str, sent: str) -> None:
        """User and password may have `%XX` escapes and any encoding; `repr` shows neither."""
        proxy = find_proxy("api.example", 443, {"HTTPS_PROXY": f"http://{user}@a:1"})
        assert proxy is not None
        value = base64.b64encode(sent.encode(errors="surrogateescape")).decode()
        assert proxy.headers == {"Proxy-Authorization": f"Basic {value}"}
        assert value not in repr(proxy)

    @pytest.mark.parametrize(
        ("no_proxy", "host", "is_direct"),
        [
            ("*", "api.example", True),
            ("api.example", "api.example", True),
            ("API.Example", "api.example.", True),
            ("example", "api.example", True),
            (".example", "api.example", True),
            ("*.example", "api.example", True),
            ("other, api.example ,last", "api.example", True),
            ("other api.example", "api.example", True),
            ("api.example:443", "api.example", True),
            ("api.example:8443", "api.example", False),
            ("pi.example", "api.example", False),
            ("api.example.org", "api.example", False),
            ("", "api.example", False),
            (" , .", "api.example", False),
            ("10.0.0.0/8", "10.1.2.3", True),
            ("10.1.2.3", "10.1.2.3", True),
            ("10.0.0.0/16", "10.1.2.3", False),
            ("10.0.0.0/99", "10.1.2.3", False),
            ("fd00::/8", "fd12::1", True),
            ("[fd12::1]:443", "fd12::1", True),
            ("[fd12::1]", "fd12::1", True),
            ("fd12::2", "fd12::1", False),
        ],
    )
    @pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
    def test_is_not_used_for_hosts_in_no_proxy(
        self, name: str, no_proxy: str, host: str, *, is_direct: bool
    ) -> None:
        """NO_PROXY lists hosts, domains with subdomains, and networks, for one port or all."""
        found = find_proxy(host, 443, {**PROXY, name: no_proxy})
        assert (found is None) is is_direct

    @given(st.text(max_size=30), st.text(max_size=30))
    def test_any_text_is_a_proxy_or_an_error(self, url: str, no_proxy: str) -> None:
        """Any value of the variables is a proxy, no proxy or a `ProxySettingsError`."""
        try:
            found = find_proxy("api.example", 443, {"HTTPS_PROXY": url, "NO_PROXY": no_proxy})
        except ProxySettingsError:
            return
        assert found is None or isinstance(found, Proxy)


class TestAuthorities:
    """The trusted certificate authorities."""

    @pytest.fixture
    def bundle(self, tmp_path: Path) -> Path:
        """Return a file with a private authority's certificate."""
        trustme.CA().cert_pem.write_to_path(str(tmp_path / "private.pem"))
        return tmp_path / "private.pem"

    @pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
    def test_are_only_those_of_a_bundle(self, variable: str, bundle: Path) -> None:
        """With a bundle an institution can trust its own authority, and no other."""
        context = Authorities().context({variable: f"{bundle}\n"}, 5)
        assert len(context.get_ca_certs()) == 1
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)

    def test_are_the_public_ones_without_a_variable(self) -> None:
        """By default the authorities of the system and of the package certifi are trusted."""
        assert len(Authorities().context({}, 5).get_ca_certs()) > 50

    def test_include_those_of_a_file(self, bundle: Path) -> None:
        """SSL_CERT_FILE adds its authorities to the public ones."""
        context = Authorities().context({"SSL_CERT_FILE": str(bundle)}, 5)
        names = [str(each["subject"]) for each in context.get_ca_certs()]
        assert len(names) > 50
        assert any("trustme" in name for name in names)

    def test_may_be_a_directory(self, bundle: Path) -> None:
        """The bundle may be a directory of certificates with names made by `openssl rehash`."""
        environ = {"REQUESTS_CA_BUNDLE": str(bundle.parent)}
        with pytest.raises(AuthoritiesError, match="no certificates under the names that openssl"):
            Authorities().context(environ, 5)
        bundle.rename(bundle.with_name("0123abcd.0"))
        assert Authorities().context(environ, 5).get_ca_certs() == []

    @pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
    def test_that_cannot_be_read_are_named_by_their_variable(
        self, variable: str, tmp_path: Path
    ) -> None:
        """The error names the variable, the path and the reason."""
        (tmp_path / "text").write_text("not a certificate", encoding="utf-8")
        for name, problem in [
            ("text", "holds no certificates (PEM)"),
            ("nowhere", "cannot be read: No such file or directory"),
        ]:
            path = tmp_path / name
            with pytest.raises(AuthoritiesError) as caught:
                Authorities().context({variable: str(path)}, 5)
            assert str(caught.value) == f"{variable}: {path} {problem}"

    def test_are_read_again_when_the_file_changes(self, bundle: Path) -> None:
        """A changed file is read again without a restart; an unchanged one is not read."""
        authorities = Authorities()
        environ = {"REQUESTS_CA_BUNDLE": str(bundle)}
        before = authorities.context(environ, 5)
        assert authorities.context(environ, 5) is before
        trustme.CA().cert_pem.write_to_path(str(bundle))
        # A system's clock for files may stand still for 10 ms.
        os.utime(bundle, (1, 1))
        after = authorities.context(environ, 5)
        assert after.get_ca_certs() != before.get_ca_certs()

    def test_are_not_waited_for_beyond_the_deadline(self) -> None:
        """A call does not wait beyond its deadline for another call that reads the files."""
        authorities = Authorities()
        with authorities._lock, pytest.raises(TimeoutError):  # noqa: SLF001 # as another thread
            authorities.context({}, 0.05)


def test_errors_are_found_without_a_call(tmp_path: Path) -> None:
    """Errors of proxies and authorities have the words of a call's; plain HTTP uses neither."""
    environ = {"ALL_PROXY": "socks5://a:1", "SSL_CERT_FILE": str(tmp_path / "nowhere")}
    assert [*find_errors("https://api.example/v2", environ)] == [
        "ALL_PROXY: not a valid proxy URL (use http://HOST:PORT or https://HOST:PORT)",
        f"SSL_CERT_FILE: {tmp_path}/nowhere cannot be read: No such file or directory",
    ]
    assert [*find_errors("http://localhost:1/v2", environ)] == []
    environ = {"HTTPS_PROXY": "a:1"}
    assert [*find_errors("https://api.example/v2", environ)] == []
    environ = {"HTTPS_PROXY": "socks5://a:1", "NO_PROXY": "api.example:8443"}
    assert [*find_errors("https://api.example:8443/v2", environ)] == []
