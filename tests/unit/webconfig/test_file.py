"""The web configuration file: valid and invalid content, and the effect of changes."""

import contextlib
import logging
import os
import resource
import shutil
import ssl
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter import background
from exporter.webconfig import WebConfigError, WebConfigFile
from exporter.webconfig import file as webconfig_file
from tests.support.timing import within
from tests.support.waits import wait_until

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

DATA = Path(__file__).parents[3] / "tests/data" / "webconfig"
TLS = "tls_server_config: {cert_file: server.crt, key_file: server.key}\n"
ALICE = "$2y$05$b4NQLD0vgzawXl56ps3QfeKSlwyQs6zH4Nq1PIeDTI90XPnQi4oFe"
NO_HTTP2 = "http_server_config: {http2: false}\n"
USERS = f"basic_auth_users: {{alice: {ALICE}}}\n"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with the files that the examples name."""
    directory = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    server = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(str(directory / "ca.crt"))
    server.cert_chain_pems[0].write_to_path(str(directory / "server.crt"))
    server.private_key_pem.write_to_path(str(directory / "server.key"))
    authority.issue_cert("other").private_key_pem.write_to_path(str(directory / "other.key"))
    key = load_pem_private_key(server.private_key_pem.bytes(), None)
    (directory / "encrypted.key").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    )
    (directory / "garbage").write_text("garbage", encoding="utf-8")
    return directory


@pytest.fixture
def directory(certificates: Path, tmp_path: Path) -> Path:
    """Return a copy of that directory, which a test may change."""
    shutil.copytree(certificates, tmp_path, dirs_exist_ok=True)
    return tmp_path


def write(directory: Path, text: str) -> Path:
    """Write the configuration to a new file, so that its signature always changes."""
    new = directory / "new.yml"
    new.write_text(text, encoding="utf-8")
    return new.replace(directory / "web.yml")


def context_of(file: WebConfigFile) -> ssl.SSLContext:
    """Return the TLS context of a file, which must configure TLS."""
    context = file.ssl_context()
    assert context
    return context


def errors_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the logged errors of invalid changes; no other error must be logged."""
    records = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert {record.getMessage() for record in records} <= {
        "Web configuration is not valid; the previous one stays in effect"
    }
    return [vars(record)["err"] for record in records]


# What is valid


def test_example_like_that_of_exporter_toolkit_is_accepted(directory: Path) -> None:
    """A file with a certificate, a key and users is accepted."""
    file = WebConfigFile(Path(shutil.copy(DATA / "example.yml", directory)))
    assert context_of(file).minimum_version == ssl.TLSVersion.TLSv1_2
    assert context_of(file).verify_mode == ssl.CERT_NONE
    assert file.users() == {b"alice": ALICE.encode()}


def test_all_settings_can_be_combined(directory: Path) -> None:
    """One file may have all keys that are supported."""
    file = WebConfigFile(Path(shutil.copy(DATA / "full.yml", directory)))
    context = context_of(file)
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.maximum_version == ssl.TLSVersion.TLSv1_3
    assert [each["name"] for each in context.get_ciphers() if each["protocol"] == "TLSv1.2"] == [
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES128-GCM-SHA256",
    ]
    assert file.users() == {"a b\u00e4".encode(): ALICE.encode()}


@pytest.mark.parametrize("name", ["nothing", "nothing-but-keys"])
def test_file_without_content_sets_nothing(name: str) -> None:
    """An empty file, and keys without values, mean neither TLS nor authentication."""
    file = WebConfigFile(DATA / f"{name}.yml")
    assert file.ssl_context() is None
    assert file.users() == {}


def test_tls_keys_without_values_are_ignored(directory: Path) -> None:
    """A key of `tls_server_config` without a value has its default."""
    file = WebConfigFile(Path(shutil.copy(DATA / "nothing-in-tls.yml", directory)))
    assert context_of(file).verify_mode == ssl.CERT_NONE


@pytest.mark.parametrize("name", ["ECDHE_RSA", "ECDHE_ECDSA"])
@pytest.mark.parametrize(
    "rest",
    [
        "AES_128_CBC_SHA",
        "AES_256_CBC_SHA",
        "AES_128_GCM_SHA256",
        "AES_256_GCM_SHA384",
        "CHACHA20_POLY1305_SHA256",
    ],
)
def test_every_suite_of_go_has_an_openssl_suite(directory: Path, name: str, rest: str) -> None:
    """Each suite of TLS 1.2 that Go considers secure is mapped to the one of OpenSSL."""
    suite = f"TLS_{name}_WITH_{rest}"
    text = TLS.replace("}", f", cipher_suites: [{suite}], max_version: TLS12}}") + NO_HTTP2
    old = [
        each
        for each in context_of(WebConfigFile(write(directory, text))).get_ciphers()
        if each["protocol"] != "TLSv1.3"
    ]
    (found,) = old
    words = found["name"].replace("AES", "AES-").split("-")
    assert set(words) - {""} <= {*suite.replace("_SHA256", "").split("_"), "SHA256"}


def test_list_of_tls_1_3_suites_excludes_tls_1_2(directory: Path) -> None:
    """As in Go, a list without a suite of TLS 1.2 means that only TLS 1.3 is accepted."""
    text = TLS.replace("}", ", cipher_suites: [TLS_AES_128_GCM_SHA256]}")
    file = WebConfigFile(write(directory, text))
    assert context_of(file).minimum_version == ssl.TLSVersion.TLSv1_3


@pytest.mark.parametrize(
    ("wanted", "mode"),
    [
        ("NoClientCert", ssl.CERT_NONE),
        ("RequestClientCert", ssl.CERT_NONE),
        ("VerifyClientCertIfGiven", ssl.CERT_OPTIONAL),
        ("RequireAndVerifyClientCert", ssl.CERT_REQUIRED),
    ],
)
def test_type_of_client_authentication_sets_the_verification(
    directory: Path, wanted: str, mode: ssl.VerifyMode
) -> None:
    """Each `client_auth_type` sets the `verify_mode` that it needs."""
    authority = ", client_ca_file: ca.crt" if wanted != "NoClientCert" else ""
    text = TLS.replace("}", f", client_auth_type: {wanted}{authority}}}")
    assert context_of(WebConfigFile(write(directory, text))).verify_mode == mode


def test_absolute_paths_are_used_as_they_are(directory: Path, tmp_path: Path) -> None:
    """An absolute path is not relative to the directory of the file."""
    (tmp_path / "elsewhere").mkdir()
    text = TLS.replace("server.", f"{directory}/server.")
    assert context_of(WebConfigFile(write(tmp_path / "elsewhere", text)))


# What is not valid

INVALID = {
    "alias": "3: aliases are not supported: write the value out",
    "ca-garbage": "5: client_ca_file in tls_server_config has no certificate in PEM",
    "ca-without-client-auth": (
        "4: client_ca_file in tls_server_config has no effect without client_auth_type"
        " RequireAndVerifyClientCert"
    ),
    "cert-directory": "2: cert_file in tls_server_config cannot be read: .: Is a directory",
    "cert-garbage": (
        "2: cert_file in tls_server_config or key_file is not PEM, or the key is encrypted"
    ),
    "cert-list": "3: cert_file in tls_server_config must be text",
    "cert-missing": (
        "3: cert_file in tls_server_config cannot be read: nowhere.crt: No such file or directory"
    ),
    "cert-nul": (
        "2: cert_file in tls_server_config cannot be read: server\\x00.crt: the name contains a NUL"
    ),
    "cert-null": "3: cert_file in tls_server_config is missing",
    "cipher": (
        "4: cipher_suites in tls_server_config cannot be TLS_RSA_WITH_RC4_128_SHA; did you"
        " mean TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA?"
    ),
    "cipher-text": "4: cipher_suites in tls_server_config must be a list of texts",
    "cipher-version": (
        "5: cipher_suites in tls_server_config has only suites of TLS 1.3, but max_version is"
        " TLS12: add a suite of TLS 1.2"
    ),
    "client-auth": (
        "4: client_auth_type in tls_server_config cannot be RequireAndVerifyClientCerts; did"
        " you mean RequireAndVerifyClientCert?"
    ),
    "colon": (
        "2: a name in basic_auth_users must not contain a colon (write NAME: HASH, with"
        " a space after the colon)"
    ),
    "curve-alone": (
        "4: curve_preferences in tls_server_config has no curve that Python's TLS supports"
        " here: add CurveP256"
    ),
    "curves": (
        "4: curve_preferences in tls_server_config cannot be CurveP257; did you mean CurveP256?"
    ),
    "encoding": "2: not UTF-8 text: save it as UTF-8",
    "encrypted-key": (
        "2: cert_file in tls_server_config or key_file is not PEM, or the key is encrypted"
    ),
    "hash-cost": (
        "2: alice in basic_auth_users must be a bcrypt hash, as `htpasswd -nBC 10 ''` makes it"
    ),
    "hash-cost-high": "2: alice in basic_auth_users must have a cost of at most 18: use 10",
    "header-case": "3: X-Content-Type-Options in headers cannot be NoSniff; did you mean nosniff?",
    "header-lines": "3: Content-Security-Policy in headers must be one line of printable ASCII",
    "header-list": "2: headers in http_server_config must be a mapping",
    "header-value": "3: X-Frame-Options in headers cannot be allow; use one of deny, sameorigin",
    "headers": "3: unknown key Content-Type in headers; did you mean X-Content-Type-Options?",
    "http-key": "2: unknown key http3 in http_server_config; did you mean http2?",
    "http2": "2: http2 in http_server_config cannot be maybe; use one of true, false",
    "http2-suites": (
        "4: cipher_suites in tls_server_config must have"
        " TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 or TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"
        " unless http2 is false"
    ),
    "inline-and-file": "4: cert in tls_server_config excludes cert_file: remove one of them",
    "inline-ca-garbage": "5: client_ca in tls_server_config has no certificate in PEM",
    "inline-ca-without-client-auth": (
        "4: client_ca in tls_server_config has no effect without client_auth_type"
        " RequireAndVerifyClientCert"
    ),
    "inline-garbage": "2: cert in tls_server_config or key is not PEM, or the key is encrypted",
    "list": (
        "2: must be a mapping of tls_server_config, http_server_config, basic_auth_users,"
        " rate_limit"
    ),
    "no-cert": "3: cert_file in tls_server_config is missing",
    "no-key": "2: key_file in tls_server_config is missing",
    "no-password": (
        "2: alice in basic_auth_users must be a bcrypt hash, as `htpasswd -nBC 10 ''` makes it"
    ),
    "old-version": (
        "4: min_version in tls_server_config must be TLS12 or TLS13: older versions are broken"
    ),
    "other-key": "2: cert_file in tls_server_config and key_file do not match",
    "password": (
        "3: bob in basic_auth_users must be a bcrypt hash, as `htpasswd -nBC 10 ''` makes it"
    ),
    "password-list": "2: alice in basic_auth_users must be text",
    "prefer": (
        "4: prefer_server_cipher_suites in tls_server_config cannot be perhaps; use one of"
        " true, false"
    ),
    "rate-burst": "3: burst in rate_limit must be a whole number",
    "rate-interval": (
        "2: interval in rate_limit must be a duration such as 500ms, 1s or 1m30s, or 0"
    ),
    "rate-key": "2: unknown key intervall in rate_limit; did you mean interval?",
    "repeated-key": "3: a key is repeated",
    "sans": (
        "4: client_allowed_sans in tls_server_config needs client_auth_type"
        " RequireAndVerifyClientCert"
    ),
    "sans-empty": "6: client_allowed_sans in tls_server_config is empty: no client could connect",
    "sans-null": "6: client_allowed_sans in tls_server_config must be a list of texts",
    "sans-optional": (
        "6: client_allowed_sans in tls_server_config needs client_auth_type"
        " RequireAndVerifyClientCert"
    ),
    "strange-key": (
        "1: unknown key strange\\n in the file; use one of tls_server_config,"
        " http_server_config, basic_auth_users, rate_limit"
    ),
    "text": (
        "1: must be a mapping of tls_server_config, http_server_config, basic_auth_users,"
        " rate_limit"
    ),
    "tls-key": "2: unknown key cert_fil in tls_server_config; did you mean cert_file?",
    "tls-list": "1: tls_server_config in the file must be a mapping",
    "unknown-key": "2: unknown key tls_config in the file; did you mean tls_server_config?",
    "users-list": "1: basic_auth_users in the file must be a mapping",
    "version": "4: min_version in tls_server_config cannot be TLS1.2; did you mean TLS12?",
    "version-order": "5: max_version in tls_server_config must not be lower than min_version",
    "yaml": (
        "3: not YAML: did not find expected ',' or ']', while parsing a flow sequence that"
        " begins in line 2"
    ),
}


@pytest.mark.parametrize("name", INVALID)
def test_invalid_file_is_refused(directory: Path, name: str) -> None:
    """The error of an invalid file names the file, the line, the key and the remedy."""
    path = Path(shutil.copy(DATA / f"invalid-{name}.yml", directory))
    with pytest.raises(WebConfigError) as error:
        WebConfigFile(path)
    assert str(error.value) == f"{path}:{INVALID[name]}"


@pytest.mark.parametrize(
    ("name", "key"), [("server.crt", "cert"), ("server.key", "key"), ("ca.crt", "client_ca")]
)
def test_pem_in_place_of_its_file_is_not_shown(directory: Path, name: str, key: str) -> None:
    """It may be a private key, so the error shows nothing of it."""
    pem = "-----BEGIN PRIVATE KEY-----\\nc2VjcmV0\\n-----END PRIVATE KEY-----\\n"
    authority = ", client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.crt}"
    text = TLS.replace("}", authority).replace(name, f'"{pem}"')
    with pytest.raises(WebConfigError) as error:
        WebConfigFile(write(directory, text))
    problem = f"{key}_file in tls_server_config holds the PEM itself: name its file, or use {key}"
    assert str(error.value).endswith(f": {problem}")


def test_a_long_name_of_a_file_is_cut(directory: Path) -> None:
    """The error shows the beginning of whatever stands there."""
    with pytest.raises(WebConfigError) as error:
        WebConfigFile(write(directory, TLS.replace("server.key", "k" * 5000)))
    assert str(error.value).endswith(f"cannot be read: {'k' * 64}: File name too long")


def test_every_invalid_example_has_its_message() -> None:
    """Every example of an invalid file has its error in the table."""
    files = {path.stem.removeprefix("invalid-") for path in DATA.glob("invalid-*.yml")}
    assert files == set(INVALID)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    """A missing file is an error that names it."""
    with pytest.raises(WebConfigError, match=r"web\.yml: No such file or directory$"):
        WebConfigFile(tmp_path / "web.yml")


def test_huge_file_is_refused(tmp_path: Path) -> None:
    """A file that is too large for a web configuration is not read to its end."""
    with pytest.raises(WebConfigError, match=r"web\.yml: larger than 1048576 bytes$"):
        WebConfigFile(write(tmp_path, " " * 1_048_577))


def test_named_pipe_is_refused_at_once(directory: Path) -> None:
    """A pipe is not waited for: every connection checks the file, and would wait as well."""
    os.mkfifo(directory / "pipe")
    with pytest.raises(WebConfigError, match=r"pipe: not a regular file$"):
        WebConfigFile(directory / "pipe")
    text = TLS.replace(
        "}", ", client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.crt}"
    )
    for name in ("server.crt", "server.key", "ca.crt"):
        with pytest.raises(WebConfigError, match=r"cannot be read: .*pipe: not a regular file$"):
            WebConfigFile(write(directory, text.replace(name, "pipe")))


def test_pipe_that_replaces_the_file_has_no_effect(directory: Path) -> None:
    """If a named pipe replaces the file, the last configuration stays in effect."""
    path = write(directory, USERS)
    file = WebConfigFile(path)
    path.unlink()
    os.mkfifo(path)
    assert set(file.users()) == {b"alice"}


def test_huge_certificate_is_refused(directory: Path) -> None:
    """A file of more than a megabyte is not passed to OpenSSL."""
    os.truncate(directory / "server.crt", 1_048_577)
    with pytest.raises(WebConfigError, match=r"server\.crt: larger than 1048576 bytes$"):
        WebConfigFile(write(directory, TLS))


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    """Deep nesting is an error before it exhausts the parser's stack."""
    with pytest.raises(WebConfigError, match=r"web\.yml:1: nested more than 50 levels deep$"):
        WebConfigFile(write(tmp_path, "[" * 100_000))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_content_is_accepted_or_refused(tmp_path: Path, data: bytes) -> None:
    """Any bytes are a configuration, or raise `WebConfigError` and no other exception."""
    path = tmp_path / "web.yml"
    path.write_bytes(data)
    with contextlib.suppress(WebConfigError):
        WebConfigFile(path)


# The effect of changes


def test_unchanged_files_are_not_read_again(directory: Path) -> None:
    """Connections share a TLS context while no file changes."""
    file = WebConfigFile(write(directory, TLS))
    assert file.ssl_context() is file.ssl_context()


@pytest.mark.parametrize("name", ["web.yml", "server.crt", "server.key"])
def test_changed_file_is_read_again(
    directory: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A change of the file, the certificate or the key takes effect, and is logged."""
    caplog.set_level(logging.INFO)
    path = write(directory, TLS)
    file = WebConfigFile(path)
    before = file.ssl_context()
    os.utime(directory / name, (1, 1))
    assert file.ssl_context() is not before
    assert caplog.messages == ["Web configuration reloaded"]
    assert vars(caplog.records[0])["file"] == str(path)


def test_users_change_without_a_restart(directory: Path) -> None:
    """A user that was added may send the next request, one that was removed may not."""
    file = WebConfigFile(write(directory, USERS))
    write(directory, USERS.replace("alice", "bob"))
    assert set(file.users()) == {b"bob"}


def test_protection_can_be_added_without_a_restart(directory: Path) -> None:
    """TLS and passwords are in effect as soon as the file configures them."""
    file = WebConfigFile(write(directory, ""))
    write(directory, TLS + USERS)
    assert file.ssl_context()
    assert file.users()


def test_invalid_change_has_no_effect(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    """After an invalid change, the last configuration stays in effect; it is logged once."""
    path = write(directory, TLS + USERS)
    file = WebConfigFile(path)
    before = file.ssl_context()
    write(directory, "tls_server_config: {cert_fil: x}\n")
    for _ in range(3):
        assert file.ssl_context() is before
        assert file.users()
    assert errors_in(caplog) == [
        f"{path}:1: unknown key cert_fil in tls_server_config; did you mean cert_file?"
    ]
    write(directory, TLS + USERS)
    assert file.ssl_context() is not before


def test_removed_file_has_no_effect(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The file may be removed and written again, so its absence changes nothing."""
    file = WebConfigFile(write(directory, USERS))
    (directory / "web.yml").unlink()
    assert file.users()
    assert len(caplog.messages) == 1
    write(directory, USERS.replace("alice", "bob"))
    assert set(file.users()) == {b"bob"}


def test_certificate_without_its_key_has_no_effect(directory: Path) -> None:
    """While certificate and key are replaced one after the other, the old pair stays in use."""
    file = WebConfigFile(write(directory, TLS))
    before = file.ssl_context()
    new = trustme.CA().issue_cert("localhost")
    new.cert_chain_pems[0].write_to_path(str(directory / "server.crt"))
    assert file.ssl_context() is before
    new.private_key_pem.write_to_path(str(directory / "server.key"))
    assert file.ssl_context() is not before


VERIFIED = "client_auth_type: RequireAndVerifyClientCert"
CLIENTS = TLS.replace("}", f", {VERIFIED}, client_ca_file: ca.crt}}")
HEADERS = "http_server_config: {headers: {X-Frame-Options: deny, X-XSS-Protection: 0}}\n"
RATE = "rate_limit: {interval: 1s, burst: 9}\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (USERS, HEADERS),
        (USERS, TLS),
        (TLS, USERS),
        (TLS + USERS, TLS),
        (CLIENTS, TLS),
        (CLIENTS, CLIENTS.replace("RequireAndVerifyClientCert", "VerifyClientCertIfGiven")),
        (CLIENTS, CLIENTS.replace("RequireAndVerifyClientCert", "RequireAnyClientCert")),
        (CLIENTS, TLS.replace("}", f", {VERIFIED}}}")),
        (CLIENTS.replace("}", ", client_allowed_sans: [a]}"), CLIENTS),
        (TLS.replace("}", ", min_version: TLS13}"), TLS),
        (HEADERS, HEADERS.replace(", X-XSS-Protection: 0", "")),
        (RATE, HEADERS),
    ],
)
def test_weaker_protection_needs_a_forced_reload(
    directory: Path, caplog: pytest.LogCaptureFixture, before: str, after: str
) -> None:
    """A weaker configuration needs a forced reload, because a half-written file looks the same."""
    path = write(directory, before)
    file = WebConfigFile(path, pause=lambda _: None)
    had_tls, had_users, had_headers = file.ssl_context(), file.users(), file.headers()
    write(directory, after)
    file.reload()
    assert (file.ssl_context(), file.users(), file.headers()) == (had_tls, had_users, had_headers)
    assert errors_in(caplog) == [
        f"{path}: protects less than before; if intended, send SIGHUP or restart"
    ]
    file.reload(force=True)
    assert (bool(file.ssl_context()), bool(file.users())) == ("tls_" in after, "users" in after)
    assert ("X-Frame-Options", "deny") in file.headers() or "headers" not in after


@pytest.mark.parametrize(
    ("now", "warns"), [(TLS + USERS.replace("alice", "bob"), False), (TLS, True)]
)
def test_half_written_file_has_no_effect_on_a_forced_reload(
    directory: Path, caplog: pytest.LogCaptureFixture, now: str, *, warns: bool
) -> None:
    """A weaker file must stay the same for two seconds; a stronger one takes effect at once."""
    paused: list[float] = []

    def go_on(seconds: float) -> None:
        paused.append(seconds)
        write(directory, now)

    path = write(directory, TLS + USERS)
    file = WebConfigFile(path, pause=go_on)
    write(directory, TLS)
    file.reload(force=True)
    assert paused == [2.0]
    assert errors_in(caplog) == [
        f"{path}: protects less than before, and changed again; if intended, send SIGHUP again"
    ]
    caplog.clear()
    assert set(file.users()) == {b"alice" if warns else b"bob"}
    assert (
        errors_in(caplog)
        == [f"{path}: protects less than before; if intended, send SIGHUP or restart"] * warns
    )
    write(directory, TLS + HEADERS + USERS)
    file.reload(force=True)
    assert paused == [2.0]
    assert set(file.users()) == {b"alice"}


@pytest.mark.parametrize("before", [TLS, USERS, HEADERS, RATE, TLS + USERS])
@pytest.mark.parametrize(
    "after", ["", "# nothing yet\n", "{}", "tls_server_config:\n", "http_server_config: {}\n"]
)
@pytest.mark.parametrize("force", [False, True])
def test_emptied_file_has_no_effect(
    directory: Path, caplog: pytest.LogCaptureFixture, before: str, after: str, *, force: bool
) -> None:
    """An editor may empty the file before it writes it, and SIGHUP may be sent at that moment."""
    path = write(directory, before)
    file = WebConfigFile(path)
    had_tls, had_users, had_headers = file.ssl_context(), file.users(), file.headers()
    write(directory, after)
    file.reload(force=force)
    assert (file.ssl_context(), file.users(), file.headers()) == (had_tls, had_users, had_headers)
    assert errors_in(caplog) == [f"{path}: empty or without any setting; if intended, restart"]
    write(directory, TLS + USERS.replace("alice", "bob"))
    file.reload(force=True)
    assert file.ssl_context() not in {None, had_tls}
    assert set(file.users()) == {b"bob"}


@pytest.mark.parametrize("before", ["", "http_server_config: {http2: false}\n"])
def test_file_without_settings_may_be_emptied(
    directory: Path, caplog: pytest.LogCaptureFixture, before: str
) -> None:
    """It is not an error to empty a file that protects nothing."""
    file = WebConfigFile(write(directory, before))
    write(directory, "# nothing\n")
    file.reload()
    assert (file.ssl_context(), file.users(), errors_in(caplog)) == (None, {}, [])


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("server.crt", "is not PEM, or the key is encrypted"),
        ("server.key", "is not PEM, or the key is encrypted"),
        ("ca.crt", "has no certificate in PEM"),
    ],
)
def test_emptied_certificate_or_key_has_no_effect(
    directory: Path, caplog: pytest.LogCaptureFixture, name: str, problem: str
) -> None:
    """An emptied file of a certificate or key has no effect, not even with SIGHUP."""
    file = WebConfigFile(write(directory, CLIENTS))
    before = file.ssl_context()
    (directory / name).write_bytes(b"")
    file.reload(force=True)
    assert file.ssl_context() is before
    [error] = errors_in(caplog)
    assert error.endswith(problem)


@pytest.mark.parametrize("after", ["", "tls_server_confg: {}\n", "basic_auth_users: [\n"])
def test_forced_reload_always_logs_its_result(
    directory: Path, caplog: pytest.LogCaptureFixture, after: str
) -> None:
    """SIGHUP logs its result, even if a request has logged the same error before."""
    file = WebConfigFile(write(directory, USERS))
    write(directory, after)
    assert file.users()
    [error] = errors_in(caplog)
    for _ in range(2):
        caplog.clear()
        file.reload(force=True)
        assert errors_in(caplog) == [error]
    caplog.clear()
    assert file.users()
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (TLS, CLIENTS),
        (CLIENTS, CLIENTS.replace("}", ", client_allowed_sans: [a]}")),
        (CLIENTS + USERS, USERS.replace("alice", "bob") + CLIENTS),
        (HEADERS, HEADERS.replace("deny", "sameorigin")),
        (RATE, RATE.replace("9", "10")),
        (TLS, TLS.replace("}", f", {VERIFIED}}}")),
    ],
)
def test_equal_or_stronger_protection_needs_no_signal(
    directory: Path, caplog: pytest.LogCaptureFixture, before: str, after: str
) -> None:
    """Settings that are added, or replaced by equally strong ones, take effect at once."""
    file = WebConfigFile(write(directory, before))
    write(directory, after)
    file.reload()
    assert errors_in(caplog) == []


def test_forced_reload_reads_unchanged_files(directory: Path) -> None:
    """SIGHUP reads all files, even if they look unchanged."""
    file = WebConfigFile(write(directory, TLS))
    before = file.ssl_context()
    file.reload(force=True)
    assert file.ssl_context() is not before


def test_missing_key_file_has_no_effect(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    """While the key file is missing, the last configuration stays in effect, even on SIGHUP."""
    file = WebConfigFile(write(directory, TLS))
    before = file.ssl_context()
    key = (directory / "server.key").read_bytes()
    (directory / "server.key").unlink()
    for _ in range(2):
        file.reload(force=True)
        assert file.ssl_context() is before
    error, repeated = errors_in(caplog)
    assert error.endswith("cannot be read: server.key: No such file or directory")
    assert repeated == error
    (directory / "server.key").write_bytes(key)
    assert file.ssl_context() is not before


def test_reloads_survive_files_that_change_all_the_time(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A valid configuration is always in effect, even if files change while they are read."""
    file = WebConfigFile(write(directory, TLS))
    pairs = [
        ((directory / "server.crt").read_bytes(), (directory / "server.key").read_bytes()),
        (b"", b""),
    ]
    is_over = threading.Event()

    def replace() -> None:
        number = 0
        while not is_over.is_set():
            number += 1
            for name, content in zip(("server.crt", "server.key"), pairs[number % 2], strict=True):
                (directory / "new").write_bytes(content)
                (directory / "new").replace(directory / name)
                (directory / name).unlink()
                (directory / name).write_bytes(content)

    thread = threading.Thread(target=replace)
    thread.start()
    try:
        for _ in range(100):
            file.reload(force=True)
            assert file.ssl_context()
    finally:
        is_over.set()
        thread.join()
    assert set(caplog.messages) <= {
        "Web configuration is not valid; the previous one stays in effect",
        "Web configuration reloaded",
    }


def test_last_configuration_is_kept_if_no_thread_can_be_started(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a thread, a connection reads no file, because that could hang; a later one does."""
    caplog.set_level(logging.INFO)
    path = write(directory, USERS)
    file = WebConfigFile(path)
    write(directory, USERS.replace("alice", "bob"))

    def refuse(*_: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(background, "start", refuse)
        for _ in range(3):
            assert set(file.users()) == {b"alice"}
    [message] = caplog.messages
    assert message == (
        "Web configuration not checked, as no thread can be started; the previous one stays in"
        " effect"
    )
    assert vars(caplog.records[0])["file"] == str(path)
    assert set(file.users()) == {b"bob"}
    assert caplog.messages[1:] == [
        "Web configuration reloaded",
        "Web configuration checked in time again",
    ]


def test_hanging_file_server_delays_no_connection(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The last configuration stays in effect until the files can be read."""
    monkeypatch.setattr(webconfig_file, "_WAIT_SECONDS", 0.2)
    caplog.set_level(logging.INFO)
    file = WebConfigFile(write(directory, TLS + USERS))
    before = file.ssl_context()
    write(directory, TLS + USERS.replace("alice", "bob"))
    answers = threading.Event()
    stat = Path.stat

    def hang(path: Path, **options: bool) -> os.stat_result:
        if path.is_relative_to(directory):
            answers.wait(10)
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", hang)
    try:
        with within(5):
            assert file.ssl_context() is before
            assert b"alice" in file.users()
    finally:
        answers.set()
    wait_until(lambda: b"bob" in file.users(), "the change is in effect", 5)
    wait_until(lambda: bool(file.users()) and len(caplog.messages) == 3, "the end is logged", 5)
    assert caplog.messages[0] == (
        "Web configuration not checked in time; the previous one stays in effect"
    )
    assert sorted(caplog.messages[1:]) == [
        "Web configuration checked in time again",
        "Web configuration reloaded",
    ]


class Clock:
    """A clock that is set by the test."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def test_error_that_no_file_change_ends_is_tried_again(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """After too many open files, the change is read ten seconds later, without another change."""
    clock = Clock()
    file = WebConfigFile(write(directory, USERS), clock)
    write(directory, USERS.replace("alice", "bob"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        assert set(file.users()) == {b"alice"}
        clock.now = 10
        assert set(file.users()) == {b"alice"}
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert [error.rpartition(": ")[2] for error in errors_in(caplog)] == ["Too many open files"]
    clock.now = 19
    assert set(file.users()) == {b"alice"}
    clock.now = 20
    assert set(file.users()) == {b"bob"}


def test_slow_reload_delays_no_other_request(directory: Path) -> None:
    """While one request reads the files, others use the configuration in effect."""
    path = write(directory, USERS)
    file = WebConfigFile(path, clock := HeldClock())
    path.unlink()
    assert file.users()
    clock.is_held = True
    first = threading.Thread(target=file.users)
    first.start()
    try:
        assert clock.asked.wait(5)
        assert set(file.users()) == {b"alice"}
    finally:
        clock.go.set()
        first.join()


class HeldClock:
    """A clock that hangs while `is_held` is true, so that a reload takes that long."""

    def __init__(self) -> None:
        self.is_held = False
        self.asked = threading.Event()
        self.go = threading.Event()

    def __call__(self) -> float:
        """Return the time; while the clock is held, wait for `go` first."""
        if self.is_held:
            self.asked.set()
            assert self.go.wait(5)
        return 0.0


@pytest.mark.parametrize("is_directory", [False, True])
def test_system_has_authorities_in_a_file_or_a_directory(
    directory: Path, monkeypatch: pytest.MonkeyPatch, *, is_directory: bool
) -> None:
    """If clients need a certificate, a system without any authority is an error."""
    path = write(directory, TLS.replace("}", f", {VERIFIED}}}"))
    monkeypatch.setenv("SSL_CERT_FILE", str(directory / "nowhere"))
    monkeypatch.setenv("SSL_CERT_DIR", str(directory / "nowhere"))
    with pytest.raises(WebConfigError, match="this system has no authorities"):
        WebConfigFile(path)
    (directory / "empty").mkdir()
    monkeypatch.setenv("SSL_CERT_DIR", str(directory / "empty"))
    with pytest.raises(WebConfigError, match="this system has no authorities"):
        WebConfigFile(path)
    if is_directory:
        shutil.copy(directory / "ca.crt", directory / "empty" / "12345678.0")
    else:
        monkeypatch.setenv("SSL_CERT_FILE", str(directory / "ca.crt"))
    assert context_of(WebConfigFile(path)).verify_mode == ssl.CERT_REQUIRED


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        (
            TLS.replace("}", f", {VERIFIED}}}"),
            "Clients with a certificate from any of the system's authorities may connect",
        ),
        (
            TLS.replace("}", ", curve_preferences: [X25519MLKEM768, CurveP256]}"),
            "Skipping unsupported curve",
        ),
        ("", "Web configuration sets nothing: no TLS, no users"),
        ("rate_limit: {interval: 1s}", "Every request is refused: rate_limit has no burst"),
    ],
)
def test_probable_mistakes_are_warnings(
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    text: str,
    warning: str,
) -> None:
    """Settings that are valid, but probably not intended, are logged as warnings."""
    monkeypatch.setenv("SSL_CERT_FILE", str(directory / "ca.crt"))
    WebConfigFile(write(directory, text))
    assert caplog.messages == [warning]


def test_key_is_in_an_unnamed_file_without_memfd_create(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On systems without `memfd_create`, OpenSSL reads the key from an unnamed temporary file."""
    monkeypatch.delattr(os, "memfd_create")
    assert context_of(WebConfigFile(write(directory, TLS)))


def test_missing_temporary_directory_is_an_error_at_the_start(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If no temporary file can be created for the key, the start fails with a plain error."""
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr("tempfile.tempdir", str(directory / "nowhere"))
    with pytest.raises(WebConfigError, match="No such file or directory"):
        WebConfigFile(write(directory, TLS))


@pytest.mark.parametrize("word", ["true", "True", "TRUE", "yes", "Yes", "y", "on", "On", "ON"])
def test_every_word_of_yaml_for_true_is_accepted(tmp_path: Path, word: str) -> None:
    """All words of YAML 1.1 for true are accepted, as in exporter-toolkit."""
    WebConfigFile(write(tmp_path, f"http_server_config: {{http2: {word}}}"))


def test_context_that_accepts_any_certificate_is_new_for_each_connection(directory: Path) -> None:
    """A shared context would trust the certificates of all earlier connections."""
    text = TLS.replace("}", ", client_auth_type: RequireAnyClientCert}")
    file = WebConfigFile(write(directory, text))
    assert file.ssl_context() is not file.ssl_context()


def test_reload_does_not_refill_the_token_bucket(directory: Path) -> None:
    """A reload keeps the token bucket, unless the rate changed."""
    rate = "rate_limit: {interval: 1h, burst: 2}\n"
    file = WebConfigFile(write(directory, rate))
    app = file.wrap(answer)
    assert [status_of(app) for _ in range(3)] == ["200 OK", "200 OK", "429 Too Many Requests"]
    write(directory, rate + HEADERS)
    assert status_of(app) == "429 Too Many Requests"
    write(directory, rate.replace("2", "3") + HEADERS)
    assert status_of(app) == "200 OK"


def answer(_environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    """Answer every request."""
    start_response("200 OK", [])
    return []


def status_of(app: "WSGIApplication") -> str:
    """Send a request, and return the status of the answer."""
    started: list[str] = []

    def start_response(status: str, _headers: object, _: object = None) -> Callable[[bytes], None]:
        started.append(status)
        return lambda _data: None

    app({}, start_response)
    return started[0]
