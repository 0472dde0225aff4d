"""An evaluator of OpenEvolve, in the form of its examples: import the program, call it, score what it returns."""

import importlib.util
import math

from common import validation


def rmse(found, right):
    return math.sqrt(sum((a - b) ** 2 for a, b in zip(found, right)) / len(right))


def evaluate(program_path):
    """Return the metrics; a higher combined_score is better."""
    try:
        spec = importlib.util.spec_from_file_location("program", program_path)
        program = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(program)
        slope, intercept = program.run_experiment()
        asked, right = validation()
        return {"combined_score": -rmse([slope * x + intercept for x in asked], right)}
    except Exception as error:
        return {"combined_score": -1e9, "error": str(error)}
