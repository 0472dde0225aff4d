"""Proposals from a user's program: it reads the prompt on stdin and prints the answer.

It runs on the host with the user's rights, outside of any container: an agent's command line, a script, a person at an
editor. It gets an empty working folder and an allowlist of variables. Its output is data, parsed like an answer of the
API.
"""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import IO, Any, Self

import tenacity

from orchestrator.errors import ConfigError, PatchRejected, ProposerUnavailable
from orchestrator.logger import log
from orchestrator.propose import answer, prompt_text
from orchestrator.propose.budget import Bill, Budget
from orchestrator.propose.models import Answer
from orchestrator.propose.prompt import Prompt, PromptBuilder
from orchestrator.propose.retry import RetryableError, call_with_retry
from orchestrator.settings import Command
from orchestrator.types import Context, Proposal, Reply, Usage

NAME = "command"
TRIES = 3  # runs that fail in a row, and answers in a row without a proposal
FIRST_WAIT_S, LONGEST_WAIT_S = 5.0, 60.0
POLL_S = 0.05
ASKED_FOR_S = 300.0  # for an answer that is no proposal, at most: the next proposal waits for it
TERMINATE_S = 5.0  # between SIGTERM and SIGKILL
MAX_BYTES = 16 * 1024 * 1024
PASSED_ON = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "TZ")
COUNTS = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")


@dataclass(slots=True, kw_only=True)
class CommandProposer:
    """Runs the program once per idea."""

    command: Command
    prompts: PromptBuilder
    budget: Budget
    environment: Mapping[str, str]
    waiting: Callable[[str], None] = lambda _reason: None
    name: str = NAME
    first_wait_s: float = FIRST_WAIT_S
    _stopped: threading.Event = field(default_factory=threading.Event, repr=False)
    _running: list[subprocess.Popen[bytes]] = field(default_factory=list, repr=False)
    _one_at_a_time: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _unanswered: int = 0

    @classmethod
    def open(
        cls,
        command: Command,
        prompts: PromptBuilder,
        budget: Budget,
        environment: Mapping[str, str],
        waiting: Callable[[str], None] = lambda _reason: None,
    ) -> Self:
        """Check that the program exists. Raises ConfigError."""
        if not command.argv:
            raise ConfigError(
                'task.toml: [command] argv is missing; name the program that proposes: argv = ["program", "argument"]'
            )
        if shutil.which(command.argv[0], path=environment.get("PATH")) is None:
            raise ConfigError(f"task.toml: [command] argv: {command.argv[0]!r} is not a program on PATH; fix it")
        passed_on = {name: environment[name] for name in (*PASSED_ON, *command.variables) if name in environment}
        return cls(command=command, prompts=prompts, budget=budget, environment=passed_on, waiting=waiting)

    def ask(self, context: Context) -> Reply:
        """Run the program and return its output. Raises ProposerUnavailable or BudgetExhausted."""
        prompt, bill = self.prompts.build(context, Answer.TEXT), Bill(self.budget)
        tell = (lambda _reason: None) if context.in_flight else self.waiting
        try:
            text = call_with_retry(
                lambda: self._run(prompt.text, bill, self.command.timeout_s), tenacity.stop_after_attempt(TRIES), tell,
                first_s=self.first_wait_s, longest_s=LONGEST_WAIT_S, stopped=self._stopped,
            )  # fmt: skip
        except RetryableError as error:
            raise ProposerUnavailable(f"{self.command.argv[0]}: failed {TRIES} times in a row: {error}") from None
        self._count(text)
        return replace(self._reply(prompt, text, bill), parent_id=context.champion.id)

    def ask_for(self, wanted: answer.Wanted, build: Callable[[Answer], Prompt], *, beside_loop: bool) -> Reply:  # noqa: ARG002 - in the prompt
        """Run the program once for something else than a proposal. Raises ProposerUnavailable or BudgetExhausted."""
        prompt, bill = build(Answer.TEXT), Bill(self.budget)
        try:
            text = self._run(prompt.text, bill, min(self.command.timeout_s, ASKED_FOR_S))
        except RetryableError as error:
            raise ProposerUnavailable(f"{self.command.argv[0]}: {error}") from None
        return self._reply(prompt, text, bill)

    def read_as(self, wanted: answer.Wanted, reply: Reply) -> object:
        """Return the object in the program's output, unchecked. Raises PatchRejected."""
        return answer.find_object(answer_in(reply.text), wanted)

    def _reply(self, prompt: Prompt, text: str, bill: Bill) -> Reply:
        usage = usage_in(text)
        return Reply(
            proposer=self.name, model=PurePath(self.command.argv[0]).name, prompt=prompt.text, text=text,
            usage=usage or Usage(), calls=tuple(bill.calls), cost_known=usage is not None,
        )  # fmt: skip

    def read(self, reply: Reply) -> Proposal:
        """Parse the program's output. Raises PatchRejected with what to fix."""
        return answer.read_text(answer_in(reply.text))

    def stop(self) -> None:
        """End the program, from another thread; returns when it has ended."""
        self._stopped.set()
        for process in tuple(self._running):
            _end(process)

    def _run(self, prompt: str, bill: Bill, timeout_s: float) -> str:
        """Run the program, one at a time. Raises RetryableError if it fails, or takes or prints too much."""
        with self._one_at_a_time:
            if self._stopped.is_set():
                raise ProposerUnavailable("stopped while a program of [command] ran")
            with bill.charge(Usage()) as charge:
                text = self._output(prompt, timeout_s)
                charge.usage = usage_in(text) or Usage()
        return text

    def _output(self, given: str, timeout_s: float) -> str:
        """Return the program's output; it runs in an empty folder, removed afterwards. Raises RetryableError."""
        with (
            tempfile.TemporaryDirectory(prefix="autoresearch-proposal-", ignore_cleanup_errors=True) as folder,
            tempfile.TemporaryFile() as printed,
            tempfile.TemporaryFile() as complained,
            tempfile.TemporaryFile() as prompt,
        ):
            prompt.write(given.encode("utf-8", "replace"))
            prompt.seek(0)
            process = subprocess.Popen(  # noqa: S603 - the user's own program
                self.command.argv, cwd=folder, env=dict(self.environment), stdin=prompt, stdout=printed,
                stderr=complained, start_new_session=True,
            )  # fmt: skip
            self._running.append(process)
            try:
                _wait(process, timeout_s, self._stopped)
            finally:
                _end(process)
                self._running.remove(process)
            if self._stopped.is_set():
                raise ProposerUnavailable("stopped while a program of [command] ran")
            if process.returncode != 0:
                end = prompt_text.line(_read(complained) or _read(printed), 300)
                raise RetryableError(f"exit code {process.returncode}: {end}", usage=Usage())
            return _read(printed)

    def _count(self, text: str) -> None:
        """Count answers in a row without a proposal. Raises ProposerUnavailable at the last one that is allowed."""
        try:
            answer.read_text(answer_in(text))
        except answer.NoProposal as error:
            self._unanswered += 1
            log.warning("proposal.missing", model=self.command.argv[0], reason=str(error))
            if self._unanswered >= TRIES:
                raise ProposerUnavailable(
                    f"{self.command.argv[0]}: {TRIES} answers in a row without a proposal: {error}"
                ) from None
        except PatchRejected:
            self._unanswered = 0
        else:
            self._unanswered = 0


def answer_in(text: str) -> str:
    """Return the answer: the whole output, or the `result` of a JSON object around it."""
    envelope = _envelope(text)
    return text if envelope is None else str(envelope["result"])


def usage_in(text: str) -> Usage | None:
    """Return the usage that the program reports; None if it reports none."""
    envelope = _envelope(text)
    cost = envelope.get("total_cost_usd") if envelope else None
    if envelope is None or not isinstance(cost, int | float) or not 0 <= cost < float("inf"):
        return None
    counts = envelope.get("usage")
    counts = counts if isinstance(counts, dict) else {}
    return Usage(
        **{name: max(0, counts[name]) for name in COUNTS if isinstance(counts.get(name), int)}, cost_usd=float(cost)
    )


def _envelope(text: str) -> dict[str, Any] | None:
    """Parse the object that agents print around their answer: {"result": "...", "total_cost_usd": 0.05}."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and isinstance(value.get("result"), str) else None


def _wait(process: subprocess.Popen[bytes], timeout_s: float, stopped: threading.Event) -> None:
    """Wait until a program ends or the session stops. Raises RetryableError when its time is up."""
    deadline = time.monotonic() + timeout_s
    while process.poll() is None and not stopped.wait(POLL_S):
        if time.monotonic() > deadline:
            raise RetryableError(f"no answer within {timeout_s:g} s ([command] timeout_s)", usage=Usage())


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program that still runs, and everything that it left in its process group."""
    if process.poll() is None:
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(TERMINATE_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _read(file: IO[bytes]) -> str:
    """Return a file from its start. Raises RetryableError if it is far too large."""
    file.seek(0)
    data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise RetryableError(f"printed more than {MAX_BYTES} bytes", usage=Usage())
    return data.decode("utf-8", "replace")
