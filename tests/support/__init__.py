"""Helpers for tests; choose the lowest one that can show the behaviour.

- `fakes`: a fake clock and a fake API, for logic.
- `exporter.simulator`: a simulated CAVATICA, for the behaviour of the API.
- `raw_server`: a server that sends bytes as they are, for what happens on the wire.
- `exporter_process`: the exporter inside the test's process, or as a process of its own.
- `servers`: real Prometheus and Alertmanager, promtool and amtool.
- `inbox`: where Alertmanager's messages arrive: webhook, Slack and mail.
- `deploy_tools`: the programs that read deploy/.
- `alert_files`: the bundled rules and routes; `time_scaling`: the same with shorter durations.
- `dashboard_rules`: rules for dashboards; `hypothesis_examples`: number of examples of properties.
"""
