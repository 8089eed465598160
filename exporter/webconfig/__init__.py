"""The web configuration file: TLS and basic authentication in exporter-toolkit's format.

The format: https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md.
Where this exporter differs, it refuses rather than protect less than the file says:

- `RequireAnyClientCert` wants a certificate that nobody verifies; Python's TLS cannot do that.
  `RequestClientCert` wants one that nobody looks at: no certificate is asked for then.
- Verifying client certificates needs a `client_ca_file`; the system's authorities vouch for web
  sites, not for who may scrape.
- Below TLS 1.2 there is nothing, and TLS settings without a certificate are an error.
- Inline certificates, `curve_preferences`, `client_allowed_sans`, `headers` and `rate_limit` are
  refused. `http2` and `prefer_server_cipher_suites` are taken and have no effect: to answer in
  HTTP/1.1, and in the server's order, is right either way (Go passes over the latter too).

The file, certificates and keys are looked at before they are used and read again when they changed.
What is broken then changes nothing; nor does a file that protects less than before, as one does
that is just being written: that takes a forced reload (SIGHUP) or a restart.
"""

from exporter.webconfig.basicauth import BasicAuth
from exporter.webconfig.file import WebConfigFile
from exporter.webconfig.section import WebConfigError

__all__ = ["BasicAuth", "WebConfigError", "WebConfigFile"]
