"""Translates older and misspelt keys to today's names.

Upstream's service ignores most of these silently, although its documentation and older releases name them. We
apply them and report it.
"""

from typing import Any

RENAMED: dict[str, str] = {
    "log_level": "logging.level",
    "s3": "storage.s3",
    "azure": "storage.azure",
    "gcp": "storage.gcp",
    "alioss": "storage.alioss",
    "aliOSS": "storage.alioss",
    "storage.aliOSS": "storage.alioss",
    "backup.aliOSS": "backup.alioss",
    "backup_storage": "backup.local.storage_dir",
    "redis.use_tls": "redis.tls.enabled",
    "max_concurrent_web": "cpu_cost.max_concurrent_web",
    "latency.rtpmaxallowedtsdiff": "latency.rtp_max_allowed_ts_diff",
    "latency.rtpmaxdriftadjustment": "latency.rtp_max_drift_adjustment",
    "latency.rtpdriftadjustmentwindowpercent": "latency.rtp_drift_adjustment_window_percent",
    "storage.s3.proxy": "storage.s3.proxy_config",
    "storage.gcp.proxy": "storage.gcp.proxy_config",
    "storage.gcp.credentials": "storage.gcp.credentials_json",
    "storage.azure.container": "storage.azure.container_name",
    "backup.s3.proxy": "backup.s3.proxy_config",
    "backup.gcp.proxy": "backup.gcp.proxy_config",
    "backup.gcp.credentials": "backup.gcp.credentials_json",
    "backup.azure.container": "backup.azure.container_name",
}
"""Today's path by the old one. They are applied in this order, so that a block that moved has its own keys
renamed afterwards."""


def modernise(tree: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Returns a copy of the tree with today's keys, and a warning for each renamed one."""
    tree = _copy(tree)
    warnings = []
    for old, new in RENAMED.items():
        parent = _find(tree, old.split(".")[:-1])
        key = old.rpartition(".")[2]
        if parent is None or key not in parent:
            continue
        value = parent.pop(key)
        target = _find(tree, new.split(".")[:-1], create=True)
        if target is None or target.get(new.rpartition(".")[2]) is not None:
            warnings.append(f"{old}: ignored, because {new} is set too")
        else:
            target[new.rpartition(".")[2]] = value
            warnings.append(f"{old}: is called {new} today")
    return tree, warnings


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return value


def _find(tree: dict[str, Any], path: list[str], create: bool = False) -> dict[str, Any] | None:
    for key in path:
        if create and tree.get(key) is None:
            tree[key] = {}
        below = tree.get(key)
        if not isinstance(below, dict):
            return None
        tree = below
    return tree
