"""What Grafana's own code makes of the dashboards."""
