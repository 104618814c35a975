"""The table of what is loaded."""

from deploy.grafana.panels import Json, table
from deploy.grafana.queries import CREATED

BY = ("model", "version", "runtime", "variant")


def versions() -> Json:
    by, on = ", ".join(BY), "on (job, instance, model, version) group_left ()"
    columns = {
        "replicas": f"count by ({by}) (hornpipe_model_info)",
        "age": f"max by ({by}) (hornpipe_model_info * {on} (time() - {CREATED}))",
        "learned from rows": f"max by ({by}) (hornpipe_model_info * {on} hornpipe_baseline_rows)",
    }
    units = {"replicas": "short", "age": "s", "learned from rows": "short"}
    return table("Versions", columns, BY, "What is loaded, and where it runs.", units=units)
