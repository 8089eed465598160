"""The scenarios for which the dashboards are rendered, each with its own Prometheus jobs."""

from collections.abc import Iterator, Mapping, Sequence

from exporter.cavatica import codes
from tests.grafana.scenario import DAY, HOUR, MINUTE, Export, Replica

MEANINGS = {code: (each.meaning, each.retry) for code, each in codes.MEANINGS.items()}


def target(job: str, instance: str = "exporter:10036", **others: str) -> Mapping[str, str]:
    """Return the labels of a target."""
    return {"job": job, "instance": instance, **others}


def ids(prefix: str, count: int) -> Iterator[str]:
    """Yield IDs that look like CAVATICA's and sort by number."""
    return (
        f"{prefix}{number:05}{'CG411ac0SbNkaUE0SNRK4H0Sxyz'[: 27 - len(prefix)]}"
        for number in range(count)
    )


def completed(batch: str, count: int, *, every: int = MINUTE, ago: int = MINUTE) -> list[Export]:
    """Return exports that took an hour each and ended one every `every` seconds."""
    return [
        Export(name, batch, "COMPLETED", ago + every * i + HOUR, ago + every * i, size=2**31)
        for i, name in enumerate(ids(f"c{batch[:3]}", count))
    ]


def failed(
    name: str,
    batch: str,
    code: str,
    ago: int,
    *,
    acknowledged: bool = False,
    superseded: bool = False,
) -> Export:
    """Return an export that failed after an hour."""
    return Export(
        f"{name}CG411ac0SbNkaUE0SNRK4H0Sxyz"[:32],
        batch,
        "FAILED",
        ago + HOUR,
        ago,
        code=code,
        acknowledged=acknowledged,
        superseded=superseded,
    )


def _demo() -> list[Replica]:
    exports = [
        *completed("tcga-7", 40, every=5 * MINUTE, ago=3 * MINUTE),
        failed("fNewest", "tcga-7", "9103", HOUR // 2),
        failed("fOlder", "tcga-7", "9107", 8 * HOUR),
        *(Export(i, "tcga-7", "RUNNING", 50 * MINUTE) for i in ids("rTcga", 6)),
        *(Export(i, "tcga-7", "PENDING") for i in ids("pTcga", 4)),
        *completed("trios", 12, every=20 * MINUTE, ago=30 * MINUTE),
        Export("rStuckCG411ac0SbNkaUE0SNRK4H0Sxy", "trios", "RUNNING", 31 * HOUR),
        *completed("archive-2025", 60, every=HOUR, ago=5 * DAY),
        failed("fOld", "archive-2025", "9999", 5 * DAY),
        failed("fDealtWith", "archive-2025", "9103", 5 * DAY, acknowledged=True),
        failed("fMadeGood", "archive-2025", "9100", 5 * DAY, superseded=True),
        failed("fBoth", "archive-2025", "9100", 5 * DAY, acknowledged=True, superseded=True),
        Export("an-export-of-another-account", "archive-2025", "UNKNOWN", code="9008"),
    ]
    return [
        Replica(
            target("demo"),
            exports,
            since=90 * MINUTE,
            refused={("tcga-7", "9006"): 3, ("refused-only", "none"): 2, ("trios", "9006"): 1},
            refusals_acknowledged=frozenset({"trios"}),
            expected={"tcga-7": 60, "trios": 14},
            meanings=MEANINGS,
            files={"tcga-7.json": False, "trios.yml": False, "archive.yml": True},
        )
    ]


ODD_NAMES = (
    "Kohorte-Übergröße-日本",
    'it\'s "quoted"',
    "a.b+c(d)*",
    "lab/2026/run#7?x=1&y=2",
    "back\\slash,{brace}|pipe",
    "-dash",
)


def _odd() -> list[Replica]:
    exports = [
        export
        for number, name in enumerate(ODD_NAMES)
        for export in (
            Export(f"odd{number}", name, "FAILED", 2 * HOUR, HOUR + number, volume='l\'ab/"é"'),
            Export(f"run{number}", name, "RUNNING", HOUR),
        )
    ]
    exports.append(Export("aborted", "-dash", "ABORTED", 3 * HOUR))
    return [Replica(target("odd job+1"), exports, files={"ä b.yml": False})]


def weekly(count: int, *, acknowledged: bool) -> list[Export]:
    """Return a batch whose name and IDs can be the same in two jobs."""
    return [
        *(
            failed(f"f{number:05}", "weekly", "9103", HOUR, acknowledged=acknowledged)
            for number in range(count)
        ),
        # They ended longer ago than Prometheus' lookback, so no sample shows them RUNNING.
        *completed("weekly", 10, ago=6 * MINUTE),
    ]


def _two_jobs() -> list[Replica]:
    return [
        Replica(target("lab-a"), weekly(3, acknowledged=False), meanings=MEANINGS),
        Replica(target("lab-b"), weekly(5, acknowledged=True), meanings=MEANINGS),
    ]


def _two_replicas() -> list[Replica]:
    exports = [
        *completed("cohort", 395),
        *(Export(i, "cohort", "RUNNING", HOUR) for i in ids("r", 4)),
        Export("failed", "cohort", "FAILED", 3 * HOUR, HOUR, code="9103"),
    ]
    return [
        Replica(
            target("replicas", "one:10036", pod="a"),
            exports,
            since=10 * MINUTE,
            meanings=MEANINGS,
        ),
        # It was restarted, and has no answer of the API yet.
        Replica(target("replicas", "two:10036", pod="b"), exports, since=2 * MINUTE, blind=True),
    ]


def _many() -> list[Replica]:
    exports = []
    for number in range(200):
        batch = f"batch-{number:03}"
        exports += [
            Export(f"{batch}-done-{i}", batch, "COMPLETED", 5 * HOUR, HOUR, size=2**30)
            for i in range(42)
        ]
        exports += [Export(f"{batch}-run-{i}", batch, "RUNNING", HOUR) for i in range(4)]
        exports += [Export(f"{batch}-wait-{i}", batch, "PENDING") for i in range(3)]
    exports += [
        Export(f"failed-{i}", "batch-007", "FAILED", 5 * HOUR, HOUR + i, code="9103")
        for i in range(200)
    ]
    return [Replica(target("many"), exports, since=MINUTE, meanings=MEANINGS)]


NEWEST_FAILURE = "fNewestCG411ac0SbNkaUE0SNRK4H0Sx"
"""The ID of the newest failure in the scenario `demo`."""

SCENARIOS: Mapping[str, Sequence[Replica]] = {
    "demo": _demo(),
    "odd": _odd(),
    "two jobs": _two_jobs(),
    "two replicas": _two_replicas(),
    "blind": [
        Replica(
            target("blind"),
            [Export(i, "all-done", "COMPLETED", DAY, HOUR) for i in ids("b", 20)],
            blind=True,
        )
    ],
    "blind again": [
        Replica(
            target("blind-again"),
            [
                *completed("mixed", 8),
                failed("f1", "mixed", "9103", HOUR),
                failed("f2", "mixed", "9103", HOUR, acknowledged=True),
                failed("f3", "dealt", "9103", HOUR, acknowledged=True),
            ],
            blind=True,
        )
    ],
    "blind, all acknowledged": [
        Replica(
            target("blind-acknowledged"),
            [failed("f", "dealt", "9103", HOUR, acknowledged=True)],
            blind=True,
        )
    ],
    "lookup errors": [
        Replica(
            target("lookup-errors"),
            [Export("strange", "strange", "UNKNOWN", code="9008", acknowledged=True)],
        )
    ],
    "some unknown": [
        Replica(
            target("some-unknown"),
            [*completed("part", 3), *(Export(i, "part", "UNKNOWN") for i in ids("u", 2))],
        )
    ],
    "waiting": [Replica(target("waiting"), [Export(i, "new", "PENDING") for i in ids("w", 5)])],
    "all failed": [
        Replica(
            target("burnt"),
            [Export(i, "burnt", "FAILED", 4 * HOUR, 2 * HOUR, code="9103") for i in ids("f", 400)],
            since=10 * MINUTE,
            meanings=MEANINGS,
        )
    ],
    "down": [Replica(target("gone"), completed("gone", 3), down_since=30 * MINUTE)],
    "one of two down": [
        Replica(target("up"), weekly(1, acknowledged=True), meanings=MEANINGS),
        Replica(target("off"), weekly(2, acknowledged=False), down_since=30 * MINUTE),
    ],
    "under way, one of two down": [
        Replica(target("under-way"), [Export(i, "begun", "RUNNING", HOUR) for i in ids("u", 2)]),
        Replica(target("away"), completed("gone", 3), down_since=30 * MINUTE),
    ],
    "late, one of two down": [
        Replica(target("overdue"), [Export("l", "late", "RUNNING", DAY)]),
        Replica(target("also-away"), completed("gone", 3), down_since=30 * MINUTE),
    ],
    "outage": [
        Replica(target("outage"), completed("b", 1), outages=[(70 * MINUTE, 30 * MINUTE)]),
    ],
    "many": _many(),
    "clocks": [
        Replica(
            target("clocks", "ahead:10036"),
            [Export(i, "b", "RUNNING", HOUR) for i in ids("r", 3)],
            clock=2 * HOUR,
            last_success=40,
            state_file_error=True,
        ),
        Replica(
            target("late", "behind:10036"), clock=-2 * HOUR, state_file_error=False, unreadable=True
        ),
    ],
}
"""Replicas by name of the scenario; any other name, such as `nobody`, has no exporter."""
