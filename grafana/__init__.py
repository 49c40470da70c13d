"""What Grafana shows: dashboards and alerts written in Python, committed as JSON, and the files that provision them."""
