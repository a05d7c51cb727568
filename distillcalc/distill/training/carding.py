"""From a finished run to the card that its student carries."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def write_card(folder: Path, recipe: Any, run: Any, fitted: Any, material: Any) -> None:
    """Write README.md beside a student's weights."""
