"""The web configuration file: TLS, authentication and limits in exporter-toolkit's format.

The format: https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md.
Every key is known, and means what it means there; what Python's TLS cannot do is refused rather
than weakened. `docs/web-configuration.md` has the table.

The file, certificates and keys are looked at before they are used and read again when they changed.
A change that is not valid has no effect; nor has one that protects less than before, as a file does
that is just being written: that takes a forced reload (SIGHUP) or a restart.
"""

from exporter.webconfig.basicauth import BasicAuth
from exporter.webconfig.file import WebConfigFile
from exporter.webconfig.section import WebConfigError

__all__ = ["BasicAuth", "WebConfigError", "WebConfigFile"]
