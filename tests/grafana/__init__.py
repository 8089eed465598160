"""Tests of the dashboards, rendered by Grafana's own libraries."""
