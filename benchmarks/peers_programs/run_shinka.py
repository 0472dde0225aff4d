"""ShinkaEvolve: its runner, a model on loopback, one job at a time, full rewrites; its log says what is the best."""

import os
import re
import sqlite3
from pathlib import Path

from common import Report, candidates, work
from shinka.core import EvolutionConfig, ShinkaEvolveRunner
from shinka.database import DatabaseConfig
from shinka.launch import LocalJobConfig


def main() -> None:
    """Run one session: a generation for each candidate."""
    found, report = candidates(), Report()
    results = Path(work(), "out")
    model = f"local/scripted@{os.environ['MODEL_URL']}"
    runner = ShinkaEvolveRunner(
        evo_config=EvolutionConfig(
            num_generations=len(found),
            patch_types=["full"],
            patch_type_probs=[1.0],
            llm_models=[model],
            llm_dynamic_selection=None,
            llm_kwargs={"temperatures": 0.7, "max_tokens": 4096},
            meta_rec_interval=None,
            embedding_model=None,
            init_program_path=str(Path(work(), "candidates", f"{found[0][0]}.py")),
            results_dir=str(results),
        ),
        job_config=LocalJobConfig(eval_program_path=str(Path(__file__).with_name("evaluate_shinka.py"))),
        db_config=DatabaseConfig(db_path=str(results / "programs.sqlite"), num_islands=1),
        max_evaluation_jobs=1,
        max_proposal_jobs=1,
        max_db_workers=1,
    )
    runner.run()
    log = (results / "evolution_run.log").read_text(encoding="utf-8", errors="replace")
    best = set(map(int, re.findall(r"New best program: .*?\(gen: (?:\d+ → )?(\d+)", log)))
    with sqlite3.connect(results / "programs.sqlite") as database:
        rows = dict(
            database.execute("SELECT generation, combined_score FROM programs WHERE correct ORDER BY timestamp")
        )
    for generation, (name, _) in enumerate(found):
        score = rows.get(generation)
        report.end(name, None if score is None else -score, kept=generation in best)
    report.finish()


if __name__ == "__main__":
    main()
