"""The commit that the installed exporter was built from."""

import importlib.metadata
import json
from pathlib import Path

# Written into archives by the build hook (hatch_build.py).
_FILE = Path(__file__).parents[1] / "_revision"


def find_revision() -> str:
    """Return the commit recorded by pip (PEP 610) or by the build, or an empty string."""
    try:
        text = importlib.metadata.distribution("cavatica-export-exporter").read_text(
            "direct_url.json"
        )
    except importlib.metadata.PackageNotFoundError:
        text = None
    revision = json.loads(text or "{}").get("vcs_info", {}).get("commit_id", "")
    if not revision and _FILE.exists():
        return _FILE.read_text(encoding="utf-8").strip()
    return str(revision)
