"""The article's claims as distributions: the page is what its command writes."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
NUMBER = re.compile(r"\d[\d,]*\.?\d*(?:e[+-]?\d+)?")


def test_the_page_is_what_the_command_writes() -> None:
    made = "\n".join(runpy.run_path(str(ROOT / "scripts/article_claims.py"))["tables"]()) + "\n"
    page = (ROOT / "docs/results/article.md").read_text(encoding="utf-8")
    assert NUMBER.sub("#", made) == NUMBER.sub("#", page)
    mine, theirs = ([float(n.replace(",", "").rstrip(".")) for n in NUMBER.findall(text)] for text in (made, page))
    # The last digit may differ where another processor rounds otherwise.
    np.testing.assert_allclose(mine, theirs, rtol=0.03, atol=0.011)
