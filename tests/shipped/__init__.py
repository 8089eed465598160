"""Tests of what is shipped beside the code: alerts, dashboards, README, architecture."""
