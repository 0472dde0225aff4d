"""What a train.py can do wrong: each ends in its own status, with a message that says what to fix."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from attacks.scores.run import BUDGET, Outcome, run
from orchestrator.types import Status

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

LOAD = """
def load_model(path, device):
    return lambda tokens: torch.zeros(*tokens.shape, prepare.VOCAB_SIZE)
"""
SAVE = 'prepare.CHECKPOINT.write_bytes(b"weights")'


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A train.py with one thing wrong, how it ends and what the message must say."""

    status: Status | None
    says: str
    load: str = LOAD
    save: str = SAVE
    more: tuple[tuple[str, float], ...] = ()

    @property
    def source(self) -> str:
        """The whole file."""
        body = "\n    ".join(self.save.splitlines())
        return f'import time\nimport prepare\nimport torch\n{self.load}\nif __name__ == "__main__":\n    {body}\n'


def answers(what: str) -> str:
    """A load_model whose model returns that."""
    return f"def load_model(path, device):\n    return lambda tokens: {what}"


CASES = {
    "nothing wrong": Case(status=None, says=""),
    "no load_model": Case(status=Status.CRASH, says="offers no load_model(path, device)", load=""),
    "load_model raises": Case(
        status=Status.CRASH, says="KeyError: 'blocks.0'",
        load='def load_model(path, device):\n    raise KeyError("blocks.0")',
    ),
    "wrong shape": Case(
        status=Status.CRASH, says="must return logits [32, 128, 512]", load=answers("torch.zeros(*tokens.shape, 7)")
    ),
    "wrong dtype": Case(
        status=Status.CRASH, says="must return a floating-point tensor",
        load=answers("tokens[..., None].expand(-1, -1, 512)"),
    ),
    "padded vocabulary": Case(
        status=Status.CRASH, says="cut a padded vocabulary off, logits[..., :512]",
        load=answers("torch.zeros(*tokens.shape, 576)"),
    ),
    "a token has probability 0": Case(
        status=Status.CRASH, says="give every token but BOS a finite logit",
        load=answers("torch.zeros(*tokens.shape, 512).index_fill(-1, torch.tensor([7]), -torch.inf)"),
    ),
    "dropout left on": Case(
        status=Status.CHEAT, says="call model.eval()",
        load=answers("torch.nn.Dropout()(torch.nn.functional.one_hot(tokens, 512).float() * 9)"),
    ),
    "batch statistics left on": Case(
        status=Status.CHEAT, says="call model.eval()",
        load=answers("torch.nn.functional.one_hot(tokens, 512) * tokens.float().mean()"),
    ),
    "no tensor": Case(status=Status.CRASH, says="tensor, got list", load=answers("[1.0]")),
    "diverged": Case(
        status=Status.CRASH, says="did the training diverge?",
        load=answers('torch.full((*tokens.shape, 512), float("nan"))'),
    ),
    "never answers": Case(
        status=Status.TIMEOUT, says="for load_model, with 3 s on top", load=answers("time.sleep(3600)"),
        more=(("time_budget_s", 20.0),),
    ),
    "trained late, loads slowly": Case(
        status=Status.TIMEOUT, says="of its 20 s, and what it leaves is for load_model, with 10 s on top: train less",
        load=LOAD.replace("return", "time.sleep(8)\n    return"), save=f"{SAVE}\ntime.sleep(prepare.time_left() + 3)",
        more=(("time_budget_s", 20.0), ("grace_s", 9.0), ("load_budget_s", 10.0)),
    ),
    "no checkpoint": Case(status=Status.CRASH, says="train.py must write /out/checkpoint.pt", save="pass"),
    "empty checkpoint": Case(status=Status.CRASH, says="no checkpoint", save="prepare.CHECKPOINT.touch()"),
    "checkpoint too large": Case(
        status=Status.CRASH, says="hint: the checkpoint must fit into 16 MiB", more=(("out_mb", 16),),
        save='prepare.CHECKPOINT.write_bytes(b"x" * (1 << 25))',
    ),
    "checkpoint of nothing but room": Case(
        status=Status.CRASH, says="no sparse files",
        save='with open(prepare.CHECKPOINT, "wb") as file:\n    file.truncate(1 << 33)',
    ),
    "half written": Case(
        status=Status.CRASH, says="load_model or the model it returns ended with exit code 1",
        load="def load_model(path, device):\n    return torch.load(path)",
        save="torch.save(torch.zeros(1000), prepare.CHECKPOINT)\nimport os\nos.truncate(prepare.CHECKPOINT, 1000)",
    ),
    "training fails": Case(status=Status.CRASH, says="ZeroDivisionError", save="1 / 0"),
    "training never ends": Case(
        status=Status.TIMEOUT, says="end before prepare.time_left() is over", save="time.sleep(3600)",
        more=(("time_budget_s", 3.0), ("grace_s", 0.5)),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """All of them, two at a time."""
    folder = tmp_path_factory.mktemp("bad-input")

    def one(name: str) -> Outcome:
        case = CASES[name]
        return run(
            case.source, folder / name.replace(" ", "-"), **{**BUDGET, "small_k": 32, "large_k": 32, **dict(case.more)}
        )

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(CASES, pool.map(one, CASES), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_ends_in_its_own_status_with_what_to_mend(outcomes: dict[str, Outcome], name: str) -> None:
    """Never as our own fault, never as a score."""
    trial = outcomes[name].trial

    assert CASES[name].status is trial.failure, trial.message
    assert CASES[name].says in trial.message
    assert (trial.score is None) is (trial.failure is not None)
