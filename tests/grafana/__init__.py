"""How Grafana's own code renders the dashboards."""
