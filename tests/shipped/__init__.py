"""Tests of files that are shipped with the code: alerts, dashboards, pages, archives, deploy/."""
