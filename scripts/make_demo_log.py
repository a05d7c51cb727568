"""Write the demo's sample log: one week of a web shop's requests to a big model, made up, and said to be so.

    python scripts/make_demo_log.py [--file data/demo/requests.parquet]

Lengths and moments only, no texts. Each request carries an instruction of 420 tokens, which all share, 20 labelled
examples that were looked up for its message (960 tokens on average, standard deviation 110), and the customer's
message, whose length is that of the messages in data/demo/messages.csv (words x 1.35 tokens); the answer is a word.
The week has a working day's cycle, quiet nights and a slower weekend; an hour's traffic varies by 8% beyond a Poisson
process (gamma); four requests in a thousand fail, as APIs do.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

DATA = Path(__file__).resolve().parents[1] / "data" / "demo"
SEED = 20261102
MONDAY = pd.Timestamp("2026-11-02", tz="UTC")
PER_DAY = (45_300, 44_100, 42_600, 41_500, 43_600, 33_200, 30_100)
BY_HOUR = (4, 3, 2, 2, 3, 6, 14, 30, 55, 74, 82, 84, 78, 76, 80, 78, 72, 66, 68, 76, 74, 52, 28, 12)
VARIATION = 0.08  # standard deviation of an hour's traffic, relative
INSTRUCTION_TOKENS = 420
EXAMPLES_TOKENS = 960, 110  # mean, standard deviation
TOKENS_PER_WORD = 1.35
FAILED = 0.004


def make_log(seed: int = SEED) -> pd.DataFrame:
    """The week, in order of time."""
    random = np.random.default_rng(seed)
    shape = np.array(BY_HOUR) / sum(BY_HOUR)
    moments = []
    for day, total in enumerate(PER_DAY):
        for hour, share in enumerate(shape):
            mean = total * share * random.gamma(1 / VARIATION**2, VARIATION**2)
            start = (day * 24 + hour) * 3_600_000
            moments.append(start + random.integers(0, 3_600_000, random.poisson(mean)))
    at = np.sort(np.concatenate(moments))
    words = pd.read_csv(DATA / "messages.csv")["text"].str.split().str.len().to_numpy()
    message = np.maximum(np.round(random.choice(words, len(at)) * TOKENS_PER_WORD), 2)
    examples = np.maximum(random.normal(*EXAMPLES_TOKENS, len(at)), 300)
    failed = random.random(len(at)) < FAILED
    return pd.DataFrame(
        {
            "created_at": (MONDAY + pd.to_timedelta(at, unit="ms")).astype("datetime64[ms, UTC]"),
            "model": "gpt-6-sol",
            "status": np.where(failed, random.choice([429, 500, 503], len(at)), 200).astype(np.int16),
            "prompt_tokens": (INSTRUCTION_TOKENS + np.round(examples) + message).astype(np.int32),
            "completion_tokens": np.where(failed, 0, random.choice([1, 2, 3], len(at), p=[0.86, 0.12, 0.02])).astype(
                np.int32
            ),
        }
    )


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, default=DATA / "requests.parquet")
    asked = parser.parse_args()
    log = make_log()
    encoded = {"created_at": "DELTA_BINARY_PACKED"}
    others = ["model", "status", "prompt_tokens", "completion_tokens"]
    log.to_parquet(asked.file, compression="zstd", index=False, use_dictionary=others, column_encoding=encoded)
    print(f"wrote {len(log):,} requests ({asked.file.stat().st_size / 1e3:.0f} kB)")


if __name__ == "__main__":
    main()
