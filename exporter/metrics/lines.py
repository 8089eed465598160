"""The lines of the text formats; samples look the same in both."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from prometheus_client.utils import floatToGoString

from exporter.metrics.export_families import EXPORT_LABELS
from exporter.metrics.families import BATCH_FAMILIES, BATCH_LABELS
from exporter.metrics.family import Family, Samples
from exporter.tracker.snapshot import Batch, Block, WatchedExport

# Placeholder for the labels of an export. No label contains it: control characters are replaced or
# refused on input.
_PLACEHOLDER: Final = "\0"
_BATCH, _EXPORT_ID = EXPORT_LABELS
# Formats a number as prometheus_client does.
_number: Callable[[float], str] = floatToGoString


def family_header(family: Family[Any]) -> str:
    """Return the HELP and TYPE lines."""
    return f"# HELP {family.name} {family.help}\n# TYPE {family.name} gauge\n"


def sample_lines(family: Family[Any], samples: Samples, common_labels: str = "") -> str:
    """Return one line for each sample; `common_labels` come first."""
    lines = []
    for values, value in samples:
        own = map(_label, family.labels, values)
        labels = ",".join((common_labels, *own) if common_labels else own)
        braced = f"{{{labels}}}" if labels else ""
        lines.append(f"{family.name}{braced} {_number(value)}\n")
    return "".join(lines)


def batch_lines(batch: Batch) -> tuple[str, ...]:
    """Return the lines of a batch's totals, in the order of `BATCH_FAMILIES`."""
    common_labels = _label(*BATCH_LABELS, batch.name)
    return tuple(
        sample_lines(family, family.samples(batch), common_labels) for family in BATCH_FAMILIES
    )


def export_samples(family: Family[WatchedExport], watched: WatchedExport) -> Samples:
    """Return the samples of an export; a retired one has none."""
    return () if watched.retired else family.samples(watched)


def export_labels(block: Block) -> list[str]:
    """Return the labels that all series of an export share, for each export of the block."""
    batch = _label(_BATCH, block.batch)
    return [f"{batch},{_label(_EXPORT_ID, watched.id)}" for watched in block.exports]


def export_lines(
    family: Family[WatchedExport], exports: Sequence[WatchedExport], common_labels: Sequence[str]
) -> str:
    """Return a family's lines for `exports`, each with its `common_labels`.

    Most exports have the same samples, so the text around their labels is written once and reused.
    """
    templates: dict[Samples, list[str]] = {}
    lines = []
    for watched, labels in zip(exports, common_labels, strict=True):
        if not (samples := export_samples(family, watched)):
            continue
        if not family.labels:
            lines += [f"{family.name}{{{labels}}} {_number(value)}\n" for _, value in samples]
            continue
        if (template := templates.get(samples)) is None:
            template = sample_lines(family, samples, _PLACEHOLDER).split(_PLACEHOLDER)
            templates[samples] = template
        lines.append(labels.join(template))
    return "".join(lines)


def _label(name: str, value: str) -> str:
    escaped = value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    return f'{name}="{escaped}"'
