"""The commit that the installed exporter was built from."""

import importlib.metadata
import json


def find_revision() -> str:
    """Return the commit that pip recorded (PEP 610), or an empty text."""
    try:
        text = importlib.metadata.distribution("cavatica-export-exporter").read_text(
            "direct_url.json"
        )
    except importlib.metadata.PackageNotFoundError:
        return ""
    revision = json.loads(text or "{}").get("vcs_info", {}).get("commit_id", "")
    return str(revision)
