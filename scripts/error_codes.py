"""Write docs/error-codes.md from the table of codes: `python -m scripts.error_codes`."""

from pathlib import Path

from exporter.cavatica.codes import MEANINGS, Meaning

PAGE = Path(__file__).parents[1] / "docs" / "error-codes.md"

_HEAD = """\
# Error codes

What the codes of the platform mean in `cavatica_export_errors`, `cavatica_refused_exports` and
`cavatica_export_lookup_errors`, in alerts, and in what `cavatica-exports` prints. This page is made
from `exporter/cavatica/codes.py` by `python -m scripts.error_codes`.

**Where**: *start*: the API refused to start the export, so it has no ID. *run*: the export FAILED.
*lookup*: the API answered an error for this ID. *call*: a whole call failed. *volume check*: a
volume was connected or tested.

**Retry**: *now*: the same request may work. *repair*: it works after a change at the bucket, the
volume, the project or the token. *never*: another request is needed.

The HTTP statuses of 9xxx codes are inferred, except for 9002 and 9006. A code that is not here is
shown as its number; `none` stands for an error without a code. Of both, ask CAVATICA's support,
and name the export's ID.

| code | HTTP | meaning | where | retry | what to do |
|---|---|---|---|---|---|
"""


def render() -> str:
    """Return the page; codes with the same meaning share a row."""

    def row(meaning: Meaning) -> tuple[str, ...]:
        return (
            str(meaning.http),
            meaning.meaning,
            ", ".join(meaning.places),
            meaning.retry,
            meaning.action,
        )

    codes: dict[tuple[str, ...], list[str]] = {}
    for meaning in MEANINGS.values():
        codes.setdefault(row(meaning), []).append(meaning.code)
    lines = (
        f"| {' | '.join((', '.join(f'`{code}`' for code in same), *columns))} |\n"
        for columns, same in codes.items()
    )
    return _HEAD + "".join(lines)


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
