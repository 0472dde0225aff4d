"""From a reply to a candidate: ask, store the reply, read it, apply it, refuse what was tried before."""

import difflib
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from orchestrator import files, patch
from orchestrator.errors import JournalError, PatchRejected
from orchestrator.events import ReplyReceived, ReplyRejected
from orchestrator.propose import similarity
from orchestrator.propose.history import FullHistory, select_history
from orchestrator.propose.prefetch import ProposalPrefetcher
from orchestrator.protocols import Proposer
from orchestrator.record import experiment_dir
from orchestrator.record.claims import describe_elsewhere, smallest_gain
from orchestrator.record.journal import Journal
from orchestrator.settings import Noise
from orchestrator.types import Candidate, Champion, Context, Environment, Experiment, Proposal, Reply, Status

SIMILAR = 8  # earlier experiments that share words with a proposal and are compared with it
SETTLED = (Status.DISCARD, Status.CHEAT)  # a failure may be fixed, and fixing it stays close to it


@dataclass(frozen=True, slots=True, kw_only=True)
class Remaining:
    """What the limits leave to this session; None: there is no limit."""

    experiments: int | None = None
    hours: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InFlight:
    """An experiment that runs: no new question."""

    id: int
    hypothesis: str
    source: str
    removes_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposals:
    """Asks a proposer and makes candidates of its replies; the journal is its only state."""

    journal: Journal
    proposer: Proposer
    max_attempts: int  # replies to one question
    asks_ahead: bool = False
    rules: tuple[tuple[str, str], ...] = ()  # the task's forbidden patterns, each with its reason
    needs_contract: bool = True  # train.py must define load_model
    file_name: str = "train.py"  # of the mutable file
    brief: Callable[[], str] = str  # what the task tells the proposer besides
    noise: Noise = field(default_factory=Noise)
    prefetcher: ProposalPrefetcher = field(default_factory=ProposalPrefetcher)

    def next_candidate(
        self, parent: Champion, environment: Environment, remaining: Remaining, in_flight: Sequence[InFlight]
    ) -> Candidate:
        """Ask until a patch applies, each refusal reported word for word. Raises PatchRejected after all attempts."""
        self.prefetcher.wait()  # a reply that is on its way is stored by then
        rejected: list[tuple[Reply, str]] = []
        while True:
            pending = self.find_pending(environment)
            if pending is None:
                context = self.build_context(parent, environment, remaining, in_flight, tuple(rejected))
                pending = self._ask(context)
            seq, reply = pending
            try:
                return self._read_reply(parent, environment, reply, in_flight)
            except PatchRejected as refusal:
                reason = str(refusal)
                self.journal.append(ReplyRejected(reply=seq, reason=reason))
                rejected.append((reply, reason))
                if len(rejected) >= self.max_attempts:
                    raise PatchRejected(reason) from refusal

    def ask_ahead(
        self,
        parent: Champion,
        environment: Environment,
        remaining: Remaining,
        in_flight: Sequence[InFlight],
        then: Callable[[], None],
    ) -> None:
        """Ask for the next proposal in a thread, unless no experiment is left for it; `then` is called at its end."""
        exhausted = remaining.experiments == 0 or remaining.hours == 0
        if self.asks_ahead and not exhausted and self.find_pending(environment) is None:
            context = self.build_context(parent, environment, remaining, in_flight)
            self.prefetcher.start(lambda: self._ask(context), then)

    def find_pending(self, environment: Environment) -> tuple[int, Reply] | None:
        """Return a stored reply that was not used yet; of several classes of hardware, one for this class."""
        return self.journal.pending_reply(environment.hardware if self.journal.history().away else "")

    def build_context(
        self,
        parent: Champion,
        environment: Environment,
        remaining: Remaining,
        in_flight: Sequence[InFlight],
        rejected: tuple[tuple[Reply, str], ...] = (),
    ) -> Context:
        """Return what the proposer is told; costs the same however long the run is."""
        known, hardware = self.journal.history(), environment.hardware
        is_mixed = bool(known.away)
        return Context(
            experiment_id=self.journal.next_id(),
            champion=parent,
            champion_source=patch.as_shown(read_source(parent.experiment)),
            history=FullHistory(self.journal),
            spent=self.journal.spent(),
            experiments_left=remaining.experiments,
            hours_left=remaining.hours,
            memory=select_history(self.journal, parent, here=hardware if is_mixed else ""),
            in_flight=tuple(one.hypothesis for one in in_flight),
            seed_std=None if self.noise.is_off else known.seed_std(environment.conditions),
            trial_std=None if self.noise.is_off else known.trial_std(environment.conditions),
            smallest_gain=None if known.is_away(hardware) else smallest_gain(self.journal),
            hardware=hardware,
            elsewhere=describe_elsewhere(self.journal, hardware),
            brief=self.brief(),
            rejected=rejected,
        )

    def _ask(self, context: Context) -> tuple[int, Reply]:
        reply = replace(self.proposer.ask(context), hardware=context.hardware)
        return self.journal.append(ReplyReceived(reply=reply)).seq, reply

    def _read_reply(
        self, parent: Champion, environment: Environment, reply: Reply, in_flight: Sequence[InFlight]
    ) -> Candidate:
        """Return the full file that a reply makes of its parent. Raises PatchRejected."""
        proposal = self.proposer.read(reply)
        chosen = self._find_parent(parent, environment, reply, proposal)
        parent_source = read_source(chosen)
        patched = patch.apply(parent_source, proposal, self.rules, contract=self.needs_contract, python=self.is_python)
        source = patched.source
        self.refuse_repeat(source, in_flight, environment.hardware)
        if not proposal.retry_rationale:
            self._refuse_similar(parent, environment, proposal, (parent_source, source))
        return Candidate(
            proposal=proposal, source=source, parent_id=chosen.id, parent_source=parent_source, reply=reply,
            patch_notes=patched.notes, suffix=self.suffix,
        )  # fmt: skip

    @property
    def late_in_s(self) -> float | None:
        """Return when the answer that was asked for ahead becomes late; None if it is late, or none is outstanding."""
        return self.prefetcher.late_in_s

    @property
    def suffix(self) -> str:
        """Return what the name of the mutable file ends with."""
        return Path(self.file_name).suffix

    @property
    def is_python(self) -> bool:
        """Return whether the mutable file is a Python program; any other file is text."""
        return self.suffix == ".py"

    def _find_parent(self, parent: Champion, environment: Environment, reply: Reply, proposal: Proposal) -> Experiment:
        """Return the experiment that the edits are made to: the one named, else the one shown when it was asked."""
        wanted = proposal.parent_id if proposal.parent_id is not None else reply.parent_id
        if wanted is None or wanted == parent.id:
            return parent.experiment
        history = self.journal.history()
        if history.away and not history.was_measured(wanted, environment.conditions):
            raise PatchRejected(
                f"parent_id {wanted}: has no score on {environment.hardware}, where this one would run; omit it to"
                f" change the file shown, of experiment {parent.id}"
            )
        for kept in history.kept:
            if kept.id == wanted:
                return self.journal.experiment(wanted)
        raise PatchRejected(
            f"parent_id {wanted}: not a kept experiment; omit it to change the file shown, of experiment {parent.id}"
        )

    def _compares(self, earlier: Experiment, hardware: str) -> bool:
        """Return whether an experiment says something of the class of hardware that an idea is for."""
        return earlier.hardware == hardware or not self.journal.history().away

    def refuse_repeat(self, source: str, in_flight: Sequence[InFlight], hardware: str) -> None:
        """Raise PatchRejected for an exact repeat of what was judged or runs; it would teach nothing."""
        fingerprint = patch.fingerprint(source)
        for earlier in filter(lambda one: self._compares(one, hardware), self.journal.repeats(fingerprint)):
            raise PatchRejected(
                f"this repeats experiment {earlier.id}, which ended as {earlier.status}: {earlier.reason}"
            )
        for running in in_flight:
            if patch.fingerprint(running.source) == fingerprint:
                raise PatchRejected(f"this repeats experiment {running.id}, which is running now")

    def _refuse_similar(
        self, parent: Champion, environment: Environment, proposal: Proposal, sources: tuple[str, str]
    ) -> None:
        """Raise PatchRejected, with the outcome, for what is close to a discarded experiment and gives no rationale."""
        before, after = (text.splitlines(keepends=True) for text in sources)
        diff = "".join(difflib.unified_diff(before, after, n=0))
        for earlier in self.journal.similar(f"{proposal.hypothesis}\n{similarity.words(diff)}", SIMILAR):
            if earlier.status not in SETTLED or not self._compares(earlier, environment.hardware):
                continue
            try:
                tried = (earlier.folder / "patch.diff").read_text(encoding="utf-8")
            except OSError:
                continue  # its folder was removed
            if similarity.compare(diff, tried) >= similarity.CLOSE:
                metric = self.journal.metric()
                outcome = "no score" if earlier.value is None else f"{metric} {earlier.value:.6f}"
                raise PatchRejected(
                    f"this is close to experiment {earlier.id}, {earlier.status} with {outcome} (the file that you"
                    f" change has {parent.value}): {earlier.hypothesis!r}. Propose something else, or the same with"
                    " retry_rationale: why it would end differently now"
                )


def read_source(experiment: Experiment) -> str:
    """Return the mutable file as an experiment ran it. Raises JournalError for one that was changed or is missing."""
    path = experiment_dir.source_path(experiment.folder)
    mend = f"restore it (commits of kept files name experiment {experiment.id}), or start another run with --run NAME"
    try:
        source = files.read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise JournalError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}; {mend}") from error
    if hashlib.sha256(source.encode()).hexdigest() != experiment.source_sha256:
        raise JournalError(f"{path}: is not what experiment {experiment.id} ran; {mend}")
    return source
