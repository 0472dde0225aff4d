"""An evaluation script of ShinkaEvolve, in the form of its README: run_shinka_eval with an aggregate function."""

import argparse
import math

from common import validation
from shinka.core import run_shinka_eval


def rmse(found, right):
    return math.sqrt(sum((a - b) ** 2 for a, b in zip(found, right)) / len(right))


def aggregate(results):
    """Return the metrics; a higher combined_score is better."""
    slope, intercept = results[0]
    asked, right = validation()
    return {"combined_score": -rmse([slope * x + intercept for x in asked], right), "public": {}, "private": {}}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--program_path", required=True)
    parser.add_argument("--results_dir", required=True)
    options = parser.parse_args()
    run_shinka_eval(
        program_path=options.program_path,
        results_dir=options.results_dir,
        experiment_fn_name="run_experiment",
        num_runs=1,
        get_experiment_kwargs=lambda _: {},
        aggregate_metrics_fn=aggregate,
    )
