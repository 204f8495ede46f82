"""User and source code of a study, as tags of its MLflow runs."""

import getpass
import subprocess
from functools import cache
from pathlib import Path


@cache
def origin_tags() -> dict[str, str]:
    """Return tags with the user, and with the commit if whichloss runs from a checkout."""
    tags = {}
    try:
        tags["mlflow.user"] = getpass.getuser()
    except (OSError, KeyError):
        tags["mlflow.user"] = "unknown"
    checkout = Path(__file__).parents[2]
    if (checkout / ".git").exists():
        command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
        try:
            answer = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
            tags["mlflow.source.git.commit"] = answer.stdout.strip()
        except (OSError, subprocess.SubprocessError):
            pass
    return tags
