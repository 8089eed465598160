"""Where the API is, and the token for it."""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter import background
from exporter.cavatica import token as token_module
from exporter.cavatica.credentials import (
    CAVATICA_URL,
    Api,
    Credentials,
    find_api,
)
from exporter.cavatica.token import CredentialsError, Token, TokenFile
from exporter.files import signature_at
from tests.support.timing import within
from tests.support.waits import PATIENCE, recorded_waits, wait_until

PROFILES = """
[default]
api_endpoint = https://default.example/v2
auth_token = default-token

[cgc]
api_endpoint = https://cgc.example/v2
auth_token = cgc%token

[bare]
auth_token = bare-token

[empty]
"""


@pytest.fixture(autouse=True)
def no_check_outlives_its_test() -> Iterator[None]:
    """Wait for the checks of token files, which would use the fakes of the next test."""
    yield
    wait_until(
        lambda: "token file" not in {thread.name for thread in threading.enumerate()},
        "the last check ends",
    )


def home(tmp_path: Path, profiles: str | None = PROFILES) -> Path:
    """Return a home directory with this credentials file, or without one."""
    if profiles is not None:
        (tmp_path / ".sevenbridges").mkdir(exist_ok=True)
        (tmp_path / ".sevenbridges" / "credentials").write_text(profiles, encoding="utf-8")
    return tmp_path


def find(
    home: Path,
    environ: Mapping[str, str] | None = None,
    *,
    url: str | None = None,
    token_file: Path | None = None,
    profile: str | None = None,
) -> Api:
    """Find URL and token."""
    return find_api(
        url=url, token_file=token_file, profile=profile, environ=environ or {}, home=home
    )


@pytest.mark.parametrize(
    ("given", "token", "url"),
    [
        ("file profile variable default", "file-token", "https://cgc.example/v2"),
        ("file variable default", "file-token", CAVATICA_URL),
        ("file variable endpoint default", "file-token", "https://variable.example/v2"),
        ("profile variable endpoint default", "cgc%token", "https://cgc.example/v2"),
        ("profile url", "cgc%token", "https://flag.example/v2"),
        ("bare", "bare-token", CAVATICA_URL),
        ("bare endpoint", "bare-token", "https://variable.example/v2"),
        ("variable default", "variable-token", CAVATICA_URL),
        ("variable endpoint default", "variable-token", "https://variable.example/v2"),
        ("default", "default-token", "https://default.example/v2"),
        ("endpoint default", "default-token", "https://variable.example/v2"),
        ("url endpoint default", "default-token", "https://flag.example/v2"),
    ],
)
def test_the_first_source_is_used(given: str, token: str, url: str, tmp_path: Path) -> None:
    """Flags come first, then variables, then the default profile: its URL only with its token."""
    sources = given.split()
    token_file = tmp_path / "token"
    token_file.write_text("file-token\n", encoding="utf-8")
    environ = {}
    if "variable" in sources:
        environ["SB_AUTH_TOKEN"] = " variable-token\n"
    if "endpoint" in sources:
        environ["SB_API_ENDPOINT"] = "https://variable.example/v2/"
    api = find(
        home(tmp_path),
        environ,
        url="https://flag.example/v2/" if "url" in sources else None,
        token_file=token_file if "file" in sources else None,
        profile={"profile": "cgc", "bare": "bare"}.get(sources["file" in sources]),
    )
    assert (api.token(), api.url) == (token, url)


@pytest.mark.parametrize(
    ("environ", "origin"),
    [({}, "profile default"), ({"SB_AUTH_TOKEN": "t"}, "SB_AUTH_TOKEN")],
    ids=["profile", "variable"],
)
def test_the_origin_of_the_token_is_known(
    environ: Mapping[str, str], origin: str, tmp_path: Path
) -> None:
    """The origin is a readable text without the token."""
    assert find(home(tmp_path), environ).origin == origin


def test_the_credentials_file_is_optional(tmp_path: Path) -> None:
    """Without a credentials file, flags and environment are enough."""
    assert find(home(tmp_path, None), {"SB_AUTH_TOKEN": "t"}).url == CAVATICA_URL


def test_a_section_inherits_from_default(tmp_path: Path) -> None:
    """A section has the values of `[DEFAULT]` that it does not set, as in the official client."""
    profiles = "[DEFAULT]\napi_endpoint = https://all.example/v2\n[p]\nauth_token = t%1\n"
    api = find(home(tmp_path, profiles), profile="p")
    assert (api.token(), api.url) == ("t%1", "https://all.example/v2")


def test_a_key_may_have_no_value(tmp_path: Path) -> None:
    """A key without a value is ignored, as by the official client."""
    profiles = "[p]\nauth_token = t-1\napi_endpoint\nadvance_access\n"
    api = find(home(tmp_path, profiles), profile="p")
    assert (api.token(), api.url) == ("t-1", CAVATICA_URL)


def test_the_second_file_of_the_official_client_is_not_read(tmp_path: Path) -> None:
    """The official client's second file is not read: proxies come from the environment."""
    second = tmp_path / ".sevenbridges" / "sevenbridges-python"
    second.mkdir(parents=True)
    (second / "config").write_text("neither INI\nnor anything", encoding="utf-8")
    assert find(home(tmp_path), profile="bare").token() == "bare-token"


@pytest.mark.parametrize("space", ["\n", "\r\n", " ", "\t"])
def test_white_space_around_variables_does_not_matter(space: str, tmp_path: Path) -> None:
    """White space is removed: Kubernetes' Secrets and files of variables often end in a newline."""
    environ = {
        "SB_AUTH_TOKEN": f"{space}t-1{space}",
        "SB_API_ENDPOINT": f"{space}https://cgc.example/v2{space}",
    }
    api = find(home(tmp_path, None), environ)
    assert (api.token(), api.url) == ("t-1", "https://cgc.example/v2")
    assert find(home(tmp_path, None), environ, url=f"https://a.example{space}").url == (
        "https://a.example"
    )
    assert find(home(tmp_path, None), environ | {"SB_API_ENDPOINT": space}).url == CAVATICA_URL


@pytest.mark.parametrize(("mode", "is_logged"), [(0o600, False), (0o640, False), (0o644, True)])
def test_a_token_file_that_others_can_read_is_a_warning(
    mode: int, tmp_path: Path, caplog: pytest.LogCaptureFixture, *, is_logged: bool
) -> None:
    """A token file that every user can read is a warning; one for its group is not."""
    file = tmp_path / "token"
    file.write_text("t-1", encoding="utf-8")
    file.chmod(mode)
    assert TokenFile(file)() == "t-1"
    assert caplog.messages == ["Token file is not private"] * is_logged


def test_without_a_token_the_error_names_every_source(tmp_path: Path) -> None:
    """The error names every source of a token, and the demo."""
    with pytest.raises(CredentialsError) as error:
        find(home(tmp_path, None), {"SB_AUTH_TOKEN": "  "})
    for way in (
        "--api.token-file",
        "SB_AUTH_TOKEN",
        ".sevenbridges/credentials",
        "cavatica-exporter --demo",
    ):
        assert way in str(error.value)


@pytest.mark.parametrize(
    ("profiles", "profile", "problem"),
    [
        (PROFILES, "cavatica", "has no section [cavatica], which --api.profile names"),
        (PROFILES, "", "has no section [], which --api.profile names"),
        (PROFILES, "empty", "has no section [empty], which --api.profile names"),
        (None, "cgc", "has no section [cgc], which --api.profile names"),
        (
            "[cgc]\napi_endpoint = x",
            "cgc",
            "section [cgc], auth_token: must be the token and nothing else",
        ),
        ("[cgc]\nauth_token = a-secret b", "cgc", "section [cgc], auth_token: must be the token"),
        ("[cgc]\nauth_token: t\napi_endpoint: cgc", "cgc", "section [cgc], api_endpoint: must be"),
        ("auth_token = a-secret", None, "is not an INI file"),
        ("[default\na-secret\n", None, "is not an INI file"),
        ("[default]\na-secret\n", None, "there is no token"),
        ("[default]\nauth_token\n", None, "section [default]: must be the token and nothing else"),
        ("[default]\nx = 1\nx = 2", None, "has a section or a key twice"),
        ("[default]\nauth_token\n  a-secret\n", None, "is not an INI file"),
        ("[default]\nauth_token =", None, "section [default]: must be the token and nothing else"),
    ],
)
def test_an_unusable_profile_is_an_error(
    profiles: str | None, profile: str | None, problem: str, tmp_path: Path
) -> None:
    """The error names file, section and key, and quotes nothing from the file."""
    with pytest.raises(CredentialsError) as error:
        find(home(tmp_path, profiles), profile=profile)
    assert problem in str(error.value)
    assert "credentials" in str(error.value)
    assert "a-secret" not in f"{error.value!r} {error.value.__cause__!r}"


def test_a_credentials_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """An unreadable credentials file is an error, and is not treated as missing."""
    (tmp_path / ".sevenbridges" / "credentials").mkdir(parents=True)
    with pytest.raises(CredentialsError, match="credentials cannot be read: Is a directory"):
        find(tmp_path)


@pytest.mark.parametrize(
    "url",
    [
        "https://cavatica-api.sbgenomics.com/v2",
        "https://api.sb.biodatacatalyst.nhlbi.nih.gov:443/v2",
        "http://localhost:8080/v2",
        "http://127.0.0.1/v2",
        "http://127.8.9.1/v2",
        "http://[::1]:1/v2",
    ],
)
def test_a_url_is_https_or_of_this_machine(url: str, tmp_path: Path) -> None:
    """An https URL, or an http URL of loopback, is accepted; slashes at its end are removed."""
    environ = {"SB_AUTH_TOKEN": "t"}
    assert find(home(tmp_path), environ, url=url).url == url
    assert find(home(tmp_path), environ, url=f"{url}//").url == url


def test_the_scheme_of_a_url_is_case_insensitive(tmp_path: Path) -> None:
    """The scheme is converted to lower case, which the rest of the exporter expects."""
    api = find(home(tmp_path), {"SB_AUTH_TOKEN": "t"}, url="HTTPS://api.example/v2")
    assert api.url == "https://api.example/v2"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        (
            "http://cavatica-api.sbgenomics.com/v2",
            "must begin with https://: http:// would sho",
        ),
        ("http://localhost.example/v2", "must begin with https://"),
        ("http://127.1/v2", "must begin with https://"),
        ("http://2130706433/v2", "must begin with https://"),
        ("http://0.0.0.0/v2", "must begin with https://"),
        ("https://me:a-secret@api.example/v2", "must have no user, no ? and no #"),
        ("http://localhost@api.example/v2", "must have no user, no ? and no #"),
        ("https://api.example/v2?token=a-secret", "must have no user, no ? and no #"),
        ("https://api.example/v2#a-secret", "must have no user, no ? and no #"),
        ("https://api.example/v2?", "must have no user, no ? and no #"),
        ("api.example/v2", "must be a URL like https://cavatica-api"),
        ("ftp://api.example/v2", "must be a URL like"),
        ("https://", "must be a URL like"),
        ("https://api.example:port/v2", "must be a URL like"),
        ("https://[::1/v2", "must be a URL like"),
        ("http://[::1]example/v2", "must be a URL like"),
        ("http://[::1].example:80/v2", "must be a URL like"),
        ("http://example[::1]/v2", "must be a URL like"),
        ("https://api.example\\@other.example/v2", "must be a URL like"),
        ("https://api.example/v2\r\nX: y", "must be a URL like"),
        ("https://api. example/v2", "must be a URL like"),
        ("http://[::1]:80example/v2", "must be a URL like"),
        ("http://x.localhost/v2", "must begin with https://"),
        ("http://notlocalhost/v2", "must begin with https://"),
        ("https://äpi.example/v2", "must be a URL like"),
    ],
)
def test_no_token_is_sent_to_any_other_url(url: str, problem: str, tmp_path: Path) -> None:
    """Any other URL is refused; the error names its source and shows nothing secret."""
    with pytest.raises(CredentialsError) as error:
        find(home(tmp_path), {"SB_AUTH_TOKEN": "t", "SB_API_ENDPOINT": url})
    assert str(error.value).startswith(f"SB_API_ENDPOINT: {problem}")
    assert "a-secret" not in str(error.value)
    with pytest.raises(CredentialsError, match=r"--api\.url: must"):
        find(home(tmp_path), url=url)


@given(scheme=st.sampled_from(["", "http://", "https://"]), rest=st.text(max_size=30))
def test_any_url_is_accepted_or_a_credentials_error(scheme: str, rest: str) -> None:
    """Any URL is accepted or refused with a `CredentialsError`."""
    try:
        api = find(Path("nowhere"), {"SB_AUTH_TOKEN": "t"}, url=scheme + rest)
    except CredentialsError:
        return
    assert api.url.startswith(("https://", "http://localhost", "http://127.", "http://[::1]"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "two words",
        "two\nlines",
        "tökén",
        "\0",
        pytest.param("t" * 4097, id="4097 characters"),
    ],
)
def test_a_token_is_one_word_of_ascii(text: str) -> None:
    """A token that is not valid in a header is refused, and not shown."""
    with pytest.raises(CredentialsError, match="must be the token and nothing else") as error:
        Token(text.strip(" "), "here")
    assert not text.strip() or text not in str(error.value)


def test_repr_and_str_do_not_show_the_token(tmp_path: Path) -> None:
    """A log line or a traceback with the API or its token does not reveal the token."""
    file = tmp_path / "token"
    file.write_text("a-secret", encoding="utf-8")
    for api in (
        find(home(tmp_path, None), {"SB_AUTH_TOKEN": "a-secret"}),
        find(tmp_path, token_file=file),
    ):
        assert api.token() == "a-secret"
        assert "a-secret" not in f"{api!r} {api} {api.token!r} {api.token}"


@pytest.mark.parametrize(
    "content", [b"t-1", b"t-1\n", b" t-1 \r\n", b"\xef\xbb\xbft-1\n"], ids=repr
)
def test_white_space_around_a_token_does_not_matter(content: bytes, tmp_path: Path) -> None:
    """Line breaks, spaces and a byte order mark, which editors add, are removed."""
    (tmp_path / "token").write_bytes(content)
    assert TokenFile(tmp_path / "token")() == "t-1"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "must be the token and nothing else, but is empty"),
        (b"\n\n", "must be the token and nothing else, but is empty"),
        (b"token: a-secret\n", "must be the token and nothing else, but has other characters"),
        (b"\xff\xfea\0-\0", "must be the token and nothing else, but has other characters"),
    ],
)
def test_a_token_file_with_anything_else_is_an_error(
    content: bytes, problem: str, tmp_path: Path
) -> None:
    """The error names flag and file, and shows nothing of the content."""
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(CredentialsError) as error:
        TokenFile(tmp_path / "token")
    assert str(error.value) == f"--api.token-file {tmp_path}/token: {problem}"


def test_a_token_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """The file may be missing, a directory, a named pipe, which could block, or too large."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"a-secret\n" * 100_000)
    for name, why in [
        ("missing", "No such file or directory"),
        (".", "Is a directory"),
        ("pipe", "not a regular file"),
        ("large", "larger than 65536 bytes"),
    ]:
        with pytest.raises(CredentialsError, match=f"cannot be read: {why}"):
            TokenFile(tmp_path / name)


def test_a_new_token_is_used_at_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A new token is used whether the file is edited or replaced; the token is never logged."""
    caplog.set_level(logging.INFO)
    file = tmp_path / "token"
    file.write_text("t-1", encoding="utf-8")
    token = TokenFile(file)
    assert [token(), token()] == ["t-1", "t-1"]
    assert caplog.messages == []
    file.write_text("t-two", encoding="utf-8")
    assert token() == "t-two"
    (tmp_path / "new").write_text("t-tre", encoding="utf-8")
    (tmp_path / "new").replace(file)
    assert token() == "t-tre"
    assert caplog.messages == ["Token reloaded"] * 2


def test_the_last_token_stays_in_use_while_the_file_has_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file may be empty or missing while it is being written; this is logged once."""
    file = tmp_path / "token"
    file.write_text("t-1", encoding="utf-8")
    token = TokenFile(file)
    file.write_text("", encoding="utf-8")
    assert [token(), token()] == ["t-1", "t-1"]
    file.unlink()
    assert token() == "t-1"
    assert caplog.messages == ["Token not reloaded; the last one stays in use"]
    file.write_text("t-2", encoding="utf-8")
    assert token() == "t-2"


@pytest.mark.parametrize("length", [32, 300])
def test_the_token_in_place_of_its_file_is_not_shown(length: int) -> None:
    """The error names the flag, and says why it does not quote the name."""
    token = "0a" * (length // 2)
    with pytest.raises(CredentialsError, match=r"^--api\.token-file must name a file") as error:
        TokenFile(Path(token))
    assert "0a0a" not in str(error.value)


def test_the_name_of_a_token_file_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that cannot be a token is quoted, and so is that of a file that exists."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").touch()
    (tmp_path / "directory").mkdir()
    for name in ("token.txt", "keys/token", "empty", "directory"):
        with pytest.raises(CredentialsError, match=f"^--api\\.token-file {name}"):
            TokenFile(Path(name))


def test_a_missing_token_file_is_logged_with_its_flag(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A missing file is logged once until it is back, in the words of the error at the start."""
    file = tmp_path / "token"
    file.write_text("t-1", encoding="utf-8")
    token = TokenFile(file)
    file.unlink()
    assert [token(), token()] == ["t-1", "t-1"]
    (record,) = caplog.records
    problem = f"--api.token-file {file} cannot be read: No such file or directory"
    assert record.__dict__["err"] == problem


def test_concurrent_calls_have_the_same_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """While one call reads the new token, the others wait; none uses the old token."""
    caplog.set_level(logging.INFO)
    file = tmp_path / "token"
    file.write_text("t-1", encoding="utf-8")
    token = TokenFile(file)
    file.write_text("t-two", encoding="utf-8")

    opened: list[str] = []

    def open_slowly(path: str, flags: int, *, real: Callable[[str, int], int] = os.open) -> int:
        opened.append(path)
        time.sleep(0.02)
        return real(path, flags)

    monkeypatch.setattr("os.open", open_slowly)
    seen: list[str] = []
    threads = [threading.Thread(target=lambda: seen.append(token())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == ["t-two"] * 4
    assert [str(path) for path in opened] == [str(file)]
    assert caplog.messages == ["Token reloaded"]


def test_while_the_token_file_hangs_the_last_token_stays_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Only one call waits, and only one thread hangs; afterwards the new token is used."""
    file = tmp_path / "token"
    file.write_text("t-1", encoding="utf-8")
    token = TokenFile(file)
    answering = threading.Event()
    readings = []

    def hang(path: Path) -> tuple[int, ...] | None:
        readings.append(path)
        answering.wait()
        return signature_at(path)

    monkeypatch.setattr(token_module, "signature_at", hang)
    monkeypatch.setattr(token_module, "_WAIT_SECONDS", 0.05)
    assert token() == "t-1"
    monkeypatch.setattr(token_module, "_WAIT_SECONDS", PATIENCE)
    with within(PATIENCE):
        assert [token() for _ in range(5)] == ["t-1"] * 5
    wait_until(lambda: readings, "the file is read")
    assert readings == [file]
    assert [(record.getMessage(), vars(record)["file"]) for record in caplog.records] == [
        ("Token file not read in time; the last token stays in use", file)
    ]
    file.write_text("t-two", encoding="utf-8")
    answering.set()
    wait_until(lambda: token() == "t-two", "the new token is used")


def test_concurrent_calls_log_a_hanging_token_file_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The concurrent calls of a scrape log the hanging file only once."""
    file = tmp_path / "token"
    file.write_text("t-1", encoding="utf-8")
    token = TokenFile(file)
    answering = threading.Event()
    monkeypatch.setattr(token_module, "signature_at", lambda _: answering.wait())
    monkeypatch.setattr(token_module, "_WAIT_SECONDS", 0.2)
    calls = [background.start(token, "call") for _ in range(4)]
    assert [call.result(PATIENCE) for call in calls] == ["t-1"] * 4
    assert len(caplog.records) == 1
    answering.set()


def test_any_number_of_calls_share_two_checks_of_the_token_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Calls during a check share the next one, as this one may have missed the latest change."""
    file = tmp_path / "token"
    file.write_text("t-1", encoding="utf-8")
    token = TokenFile(file)
    checks = Checks(monkeypatch)
    waiting = recorded_waits(monkeypatch)
    first = background.start(token, "call")
    assert checks.began.acquire(timeout=PATIENCE)
    file.write_text("t-two", encoding="utf-8")
    calls = [background.start(token, "call") for _ in range(9)]
    assert all(waiting.acquire(timeout=PATIENCE) for _ in (first, *calls))
    checks.may_end.release(99)
    assert [call.result(PATIENCE) for call in calls] == ["t-two"] * 9
    first.result(PATIENCE)
    assert checks.number == 2
    assert caplog.messages == []


def test_a_check_that_began_late_does_not_count_as_hanging(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A call that waits for two checks does not treat the second, which began late, as hanging."""
    caplog.set_level(logging.INFO)
    file = tmp_path / "token"
    file.write_text("t-1", encoding="utf-8")
    token = TokenFile(file)
    checks = Checks(monkeypatch)
    waiting = recorded_waits(monkeypatch)
    monkeypatch.setattr(token_module, "_WAIT_SECONDS", 0.5)
    first = background.start(token, "call")
    assert checks.began.acquire(timeout=PATIENCE)
    late = background.start(token, "call")
    assert all(waiting.acquire(timeout=PATIENCE) for _ in range(2))
    checks.may_end.release()
    assert (first.result(PATIENCE), late.result(PATIENCE)) == ("t-1", "t-1")
    assert checks.began.acquire(timeout=PATIENCE)
    monkeypatch.setattr(token_module, "_WAIT_SECONDS", PATIENCE)
    file.write_text("t-two", encoding="utf-8")
    call = background.start(token, "call")
    assert waiting.acquire(timeout=PATIENCE)
    checks.may_end.release(2)
    assert call.result(PATIENCE) == "t-two"
    assert [message for message in caplog.messages if message != "Token reloaded"] == [
        "Token file not read in time; the last token stays in use",
        "Token file checked in time again",
    ]


def test_without_a_thread_the_last_token_stays_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a thread there is no check: in the calling thread it could hang, and block others."""
    caplog.set_level(logging.INFO)
    file = tmp_path / "token"
    file.write_text("t-1", encoding="utf-8")
    token = TokenFile(file)
    file.write_text("t-two", encoding="utf-8")
    start = background.start

    def refuse(*_: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as patch:
        checks = Checks(patch)
        patch.setattr(background, "start", refuse)
        calls = [start(token, "call") for _ in range(3)]
        assert [call.result(PATIENCE) for call in calls] == ["t-1"] * 3
        assert checks.number == 0
    assert caplog.messages == [
        "Token file not read, as no thread can be started; the last token stays in use"
    ]
    assert token() == "t-two"
    assert caplog.messages[1:] == ["Token reloaded", "Token file checked in time again"]


class Checks:
    """Checks of the token file that end when the test allows it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.number = 0
        self.began = threading.Semaphore(0)
        self.may_end = threading.Semaphore(0)
        monkeypatch.setattr(token_module, "signature_at", self)

    def __call__(self, path: Path) -> tuple[int, ...] | None:
        """Return the signature that the file had when the check began."""
        self.number += 1
        seen = signature_at(path)
        self.began.release()
        assert self.may_end.acquire(timeout=PATIENCE)
        return seen


class TestCredentials:
    """The API and its token, which a reload searches for again."""

    @pytest.fixture
    def found(self) -> list[Api | CredentialsError]:
        """Return the results of successive lookups, in order."""
        return [Api("https://a.example/v2", Token("t-1", "here"), "here")]

    @pytest.fixture
    def credentials(self, found: list[Api | CredentialsError]) -> Credentials:
        """Return credentials whose lookups have these results."""

        def find() -> Api:
            result = found.pop(0)
            if isinstance(result, CredentialsError):
                raise result
            return result

        return Credentials(find)

    def test_have_the_new_token_of_the_same_api(
        self,
        credentials: Credentials,
        found: list[Api | CredentialsError],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """After a reload, the next request uses the new token of the same API; this is logged."""
        caplog.set_level(logging.INFO)
        found.append(Api("https://a.example/v2", Token("t-2", "there"), "there"))
        before = credentials.token()
        credentials.reload()
        assert (before, credentials.token(), credentials.api.origin) == ("t-1", "t-2", "there")
        assert caplog.messages == ["Token reloaded"]
        assert vars(caplog.records[0])["token"] == "there"

    def test_do_not_use_the_token_of_another_api(
        self,
        credentials: Credentials,
        found: list[Api | CredentialsError],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """For another URL neither URL nor token changes: one API's token must not go to another."""
        found.append(Api("https://b.example/v2", Token("t-2", "there"), "there"))
        credentials.reload()
        assert (credentials.token(), credentials.api.url) == ("t-1", "https://a.example/v2")
        assert caplog.messages == ["API URL changed; restart to apply"]

    def test_keep_the_last_token_if_none_is_found(
        self,
        credentials: Credentials,
        found: list[Api | CredentialsError],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """A reload while the environment or the file is being changed only logs a warning."""
        found.append(CredentialsError("there is no token"))
        credentials.reload()
        assert credentials.token() == "t-1"
        assert caplog.messages == ["Token not reloaded; the last one stays in use"]
