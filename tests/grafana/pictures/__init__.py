"""Pictures of the dashboards, drawn by Grafana's own components: a maintainer's command."""
