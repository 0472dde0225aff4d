"""AIDE: its Experiment on a folder of data, the model on loopback writes the code and reads what was printed."""

from pathlib import Path

import aide
from aide.journal import Journal
from common import Report, candidates, work


def main() -> None:
    """Run a step for each candidate."""
    found, report = candidates(), Report()
    experiment = aide.Experiment(
        data_dir=str(Path(work(), "data")), goal="Fit a line.", eval="val_rmse, lower is better"
    )
    agent = experiment.agent.acfg
    agent.code.model = agent.feedback.model = "scripted"
    experiment.run(steps=len(found))
    nodes = list(experiment.journal.nodes)
    best = [Journal(nodes=nodes[: count + 1]).get_best_node() for count in range(len(nodes))]
    for (name, _), node, now in zip(found, nodes, best, strict=True):
        report.end(name, None if node.is_buggy else node.metric.value, kept=now is not None and now.id == node.id)
    report.finish()


if __name__ == "__main__":
    main()
