"""Helpers for tests. Use the first in this list that can show the behaviour.

- `fakes`: a fake clock and a fake API, for logic.
- `exporter.simulator`: a simulated CAVATICA, for the behaviour of the API.
- `raw_server`: a server that sends the bytes that a test specifies, for what happens on the wire.
- `exporter_process`: the exporter inside the test's process, or as a process of its own.
- `servers`: real Prometheus and Alertmanager, promtool and amtool.
- `inbox`: receivers of Alertmanager's messages: webhook, Slack and mail.
- `curl`, `browser`: the real curl, and Chromium.
- `deploy_tools`: the programs that the tests of deploy/ run.
- `alert_files`: the bundled rules and routes; `time_scaling`: copies with shorter durations.
- `dashboard_rules`, `dashboard_rules_own`: rules for dashboards.
- `certificates`, `curves`: certificates that trustme cannot make; curves of this Python's TLS.
- `waits`, `timing`: notice when a thread begins to wait; time limits for a busy machine.
- `preserved_signals`: the process's signal mask and handlers, restored after a test.
- `hypothesis_examples`: the number of examples for slow properties.
"""
