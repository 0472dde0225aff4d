"""OpenEvolve: its run_evolution, a model on loopback, one worker, full rewrites; its log says what became the best."""

import os
import re
from pathlib import Path

from common import Report, candidates, work
from openevolve import run_evolution
from openevolve.config import Config, LLMModelConfig


def main() -> None:
    """Run one session: an iteration for each candidate after the baseline."""
    found, report = candidates(), Report()
    config = Config()
    config.max_iterations = len(found) - 1
    config.diff_based_evolution = False
    config.random_seed = 1
    config.llm.api_base = os.environ["MODEL_URL"]
    config.llm.models = [LLMModelConfig(name="scripted", api_key="none", api_base=os.environ["MODEL_URL"], weight=1.0)]
    config.llm.evaluator_models = config.llm.models
    for model in config.llm.models:
        model.timeout, model.retries, model.retry_delay, model.max_tokens = 60, 0, 0, 4096
        model.temperature, model.top_p = 0.7, 0.95
    config.evaluator.parallel_evaluations = 1
    config.evaluator.cascade_evaluation = False
    config.database.num_islands = 1
    config.log_dir = str(Path(work(), "logs"))
    initial = Path(work(), "candidates", f"{found[0][0]}.py")
    evaluator = Path(__file__).with_name("evaluator_openevolve.py")
    run_evolution(str(initial), str(evaluator), config=config, output_dir=str(Path(work(), "out")), cleanup=False)
    log = "".join(path.read_text(encoding="utf-8") for path in Path(work(), "logs").glob("*.log"))
    best = set(re.findall(r"New best program (\S+) replaces", log))
    scores = dict(re.findall(r"Evaluated program (\S+) in \S+s: .*?combined_score=(\S+?)(?:,|$)", log, re.MULTILINE))
    baseline = re.search(r"Evaluated program (\S+) in", log)
    tried = [baseline[1] if baseline else "", *re.findall(r"Iteration \d+: Program (\S+)", log)]
    for (name, _), program in zip(found, tried, strict=True):
        report.end(name, -float(scores[program]), kept=program in best)
    report.finish()


if __name__ == "__main__":
    main()
