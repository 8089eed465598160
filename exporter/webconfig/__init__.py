"""The web configuration file: TLS, authentication and limits in exporter-toolkit's format.

The format: https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md.
All of its keys are known and mean the same here; settings that Python's TLS cannot implement are
refused rather than weakened. `docs/web-configuration.md` has the table.

The file, certificates and keys are checked before each use and reloaded after a change. An invalid
change has no effect. Nor has one that weakens the protection, as a half-written file might: that
needs a forced reload (SIGHUP) or a restart.
"""

from exporter.webconfig.basicauth import BasicAuth
from exporter.webconfig.file import WebConfigFile
from exporter.webconfig.section import WebConfigError

__all__ = ["BasicAuth", "WebConfigError", "WebConfigFile"]
