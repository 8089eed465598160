"""What an error code of the platform means, and whether another attempt can help.

The codes are those of the official clients' tables; the texts are this project's own, never those
of an answer.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, get_args

Retry = Literal["now", "repair", "never"]
RETRIES: Final[tuple[Retry, ...]] = get_args(Retry)

Place = Literal["start", "run", "lookup", "call", "volume check"]
PLACES: Final[tuple[Place, ...]] = get_args(Place)


@dataclass(frozen=True, slots=True)
class Meaning:
    """What one code means.

    Attributes:
        code: The code, as in labels.
        http: The HTTP status that goes with it.
        meaning: A short phrase for messages: no capital, no full stop.
        places: Where the platform sends it: at the start of an export, while it runs, at a lookup
            by ID, for any call as a whole, at the check of a volume.
        retry: ``now``: the same request may work. ``repair``: it works after a change at the
            bucket, the volume, the project or the token. ``never``: another request is needed.
        action: What to do, one sentence.
    """

    code: str
    http: int
    meaning: str
    places: tuple[Place, ...]
    retry: Retry
    action: str


def explain(code: str) -> Meaning | None:
    """Return what `code` means, or None for a code that is not in the table."""
    return MEANINGS.get(code)


_WAIT = "Start the export again later."
_GRANT_PROJECT = (
    "Let an administrator of the project give the token's account permission to copy, then start"
    " the export again."
)
_GRANT_VOLUME = (
    "Let the volume's owner give the token's account write permission, then start the export again."
)
_CHECK_LOCATION = (
    "Check the prefix, the credentials and the bucket's policy of the volume, then start the export"
    " again."
)
_CHECK_VOLUME = (
    "Check the volume's name (OWNER/NAME) and whether it is still connected, then start the export"
    " again."
)
_CHECK_FILE = "Check the file's ID; a deleted file cannot be exported."
_READ_WRITE = "Connect the volume with read and write access, then start the export again."
_CHECK_REQUEST = "Correct the request that the program sends."
_CHECK_S3 = "Correct this property of the request; the volume's storage must allow it."

_Row = tuple[tuple[int, ...], int, str, tuple[Place, ...], Retry, str]

# Codes, HTTP status, meaning, where, retry class, what to do. Of the 9xxx only the statuses of 9002
# and 9006 are documented; the others are inferred.
_ROWS: Final[tuple[_Row, ...]] = (
    (
        (0,),
        503,
        "the platform is under maintenance",
        ("call",),
        "now",
        "Wait for the end of the maintenance.",
    ),
    (
        (1000,),
        429,
        "rate limit exceeded",
        ("call",),
        "now",
        "Make fewer calls: all programs that use the account share 1,000 in 5 minutes.",
    ),
    (
        (2000, 3000, 4000, 5000, 6000),
        503,
        "a service of the platform is unavailable",
        ("call", "run"),
        "now",
        _WAIT,
    ),
    (
        (2001, 3001, 4001, 5001, 6001),
        403,
        "no permission for what was asked",
        ("call", "run"),
        "repair",
        "Give the token's account the permission that it lacks, then try again.",
    ),
    (
        (2002, 3002, 4002, 5002, 6002),
        404,
        "what was asked for does not exist",
        ("call", "run"),
        "never",
        "Check the names and IDs in the request.",
    ),
    (
        (2003, 3003, 4003, 5003, 6003),
        409,
        "conflict with what exists already",
        ("call", "run"),
        "never",
        "Remove or rename what exists already, or ask for another name.",
    ),
    (
        (9000, 9100),
        503,
        "the storage service cannot be reached",
        ("start", "run", "lookup"),
        "now",
        _WAIT,
    ),
    (
        (9001,),
        403,
        "no read access to the storage",
        ("start", "volume check"),
        "repair",
        "Give the volume's credentials read access to the bucket, then start the export again.",
    ),
    (
        (9002,),
        403,
        "no cross-write access to the storage",
        ("volume check",),
        "repair",
        "Correct the bucket's policy for the volume, and check the volume again.",
    ),
    (
        (9003, 9012, 9102),
        403,
        "no access to the project, or it does not exist",
        ("start", "run"),
        "repair",
        _GRANT_PROJECT,
    ),
    (
        (9004,),
        403,
        "no access to the file",
        ("start",),
        "repair",
        "Give the token's account access to the file's project, then start the export again.",
    ),
    (
        (9005,),
        403,
        "the job belongs to another user",
        ("lookup",),
        "repair",
        "Use the token of the account that started the export.",
    ),
    (
        (9006,),
        403,
        "this kind of file cannot be exported: alias, public, archived or external",
        ("start",),
        "never",
        "Leave the file out: one that was exported before is on a volume already.",
    ),
    (
        (9007, 9104),
        404,
        "the volume does not exist",
        ("start", "run"),
        "repair",
        _CHECK_VOLUME,
    ),
    (
        (9008,),
        404,
        "the job does not exist",
        ("lookup",),
        "never",
        "Check the ID for a typing error, and whether it is from another platform.",
    ),
    (
        (9009, 9106, 9109),
        404,
        "the file does not exist or is not accessible",
        ("start", "run"),
        "never",
        _CHECK_FILE,
    ),
    (
        (9011, 90000, 90009),
        400,
        "invalid request",
        ("start", "lookup"),
        "never",
        _CHECK_REQUEST,
    ),
    (
        (9020,),
        403,
        "no access to the volume",
        ("start",),
        "repair",
        _GRANT_VOLUME,
    ),
    ((9022,), 400, "invalid canned ACL", ("start",), "never", _CHECK_S3),
    ((9024,), 400, "invalid storage class", ("start",), "never", _CHECK_S3),
    ((9025,), 400, "invalid encryption key", ("start",), "never", _CHECK_S3),
    ((9032,), 400, "invalid server-side encryption", ("start",), "never", _CHECK_S3),
    ((9026, 9101), 403, "the volume is read-only", ("start", "run"), "repair", _READ_WRITE),
    (
        (9027, 9028),
        400,
        "volume and project are in different clouds or regions",
        ("start",),
        "never",
        "Use a volume in the project's cloud and region, or copy the file to a project there.",
    ),
    (
        (9103,),
        403,
        "the volume's settings do not allow this location",
        ("run",),
        "repair",
        _CHECK_LOCATION,
    ),
    (
        (9105,),
        404,
        "the location was not found",
        ("run",),
        "repair",
        "Check that the bucket exists and the volume points to it, then start the export again.",
    ),
    (
        (9107,),
        409,
        "the location holds a file already",
        ("run",),
        "never",
        "Export to another location, or with `overwrite` if the file there may be replaced.",
    ),
    (
        (9108,),
        409,
        "the file exists already",
        ("run",),
        "never",
        "Check whether the file has arrived already; else export to another location.",
    ),
    (
        (90001,),
        401,
        "unauthorized",
        ("call",),
        "repair",
        "Renew the token: it is missing, wrong or expired.",
    ),
    (
        (90002,),
        403,
        "forbidden",
        ("call",),
        "repair",
        "Use a token of an account that may do this.",
    ),
    ((90003,), 404, "not found", ("call",), "never", "Check the URL of the API and the IDs."),
    ((90005,), 503, "service unavailable", ("call",), "now", "Try again later."),
)


def _meanings() -> Iterator[tuple[str, Meaning]]:
    for codes, http, meaning, places, retry, action in _ROWS:
        for code in map(str, codes):
            yield code, Meaning(code, http, meaning, places, retry, action)


#: By code, in ascending order.
MEANINGS: Final[Mapping[str, Meaning]] = MappingProxyType(
    dict(sorted(_meanings(), key=lambda item: int(item[0])))
)
