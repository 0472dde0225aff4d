"""The words of the project, as immutable values. Imports nothing of ours.

Data flows one way through the loop, and every arrow is one of these values:
Context -> Reply -> Proposal -> Candidate -> Trial -> Verdict -> Experiment.
"""

import hashlib
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from statistics import fmean
from typing import ClassVar, NamedTuple, Self

KEEP_RULE = "1"  # version of the rule in policy.py: another one may judge the same trials otherwise
PARTS = ("train", "val", "holdout")  # of the prepared data; each is for some containers only
DIGEST_CHARS = 19  # of sha256:..., where a difference is named


class Conditions(NamedTuple):
    """What must be equal for two scores to compare."""

    hardware: str = ""
    image: str = ""  # its content, or its id where only that is on record
    cache_sha256: str = ""  # of the compile cache
    settings: tuple[tuple[str, str], ...] = ()  # budgets, limits and the like, by name

    def describe_change(self, now: "Conditions") -> str:
        """Return how conditions differ from these, each by its name; "" if they do not."""
        now = Conditions(*now)
        before, after = dict(self.settings), dict(now.settings)
        named = [
            ("hardware", self.hardware, now.hardware),
            ("image", self.image[:DIGEST_CHARS], now.image[:DIGEST_CHARS]),
            ("compile cache", self.cache_sha256[:DIGEST_CHARS], now.cache_sha256[:DIGEST_CHARS]),
        ]
        if before and after:
            named += [(name, before.get(name, ""), after.get(name, "")) for name in sorted(before | after)]
        elif before or after:
            named.append(("record of budgets and limits", (before and "complete") or "", (after and "complete") or ""))
        return "; ".join(f"{name} was {old or 'none'}, is {new or 'none'}" for name, old, new in named if old != new)


class Status(StrEnum):
    """How an experiment ended. A missing number is None, never 0.0."""

    KEEP = "keep"  # strictly better than the best so far: the new best
    DISCARD = "discard"  # scored, not better
    CRASH = "crash"  # the program failed
    TIMEOUT = "timeout"  # still running at its deadline
    OOM = "oom"  # killed for memory, or, in its own words, out of GPU memory
    INVALID = "invalid"  # the patch was refused before anything ran
    CHEAT = "cheat"  # the scorer refused it: a human should look
    CONTENDED = "contended"  # someone else used the device: not judged, queued again
    INFRA = "infra"  # we or the engine failed: never blamed on the patch, queued again


class DuelOutcome(StrEnum):
    """What a duel says of the champion's gain over its rival."""

    SHOWN = "shown"  # all of the interval is above 0
    NOT_SHOWN = "not shown"  # the interval holds 0
    REFUTED = "refuted"  # all of it is below 0: the champion is worse
    FAILED = "failed"  # a trial of one of them crashed, timed out or cheated
    DISTURBED = "disturbed"  # others used the device, or the sandbox failed, too often
    UNFINISHED = "unfinished"  # the session ended before its last pair


QUEUED_AGAIN = (Status.INFRA, Status.CONTENDED)


class Role(StrEnum):
    """What a container of an experiment is for; decides what it may see."""

    TRAINER = "trainer"
    PREDICTOR_A = "predictor-a"
    PREDICTOR_B = "predictor-b"
    SCORER = "scorer"
    ANSWERER = "answerer"  # the candidate, asked by the scorer
    REFERENCE = "reference"  # the task's own program, asked in turns with the candidate
    BRIEF = "brief"  # turns the kept files into what the proposer is shown
    PREPARE = "prepare"
    EXPORTER = "exporter"  # copies the checkpoint of a would-be champion to the host


def is_shareable(name: str) -> bool:
    """Return whether a folder of the prepared data, by its name, may be read by several containers of a task."""
    return bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}", name)) and name not in PARTS


class Stages(StrEnum):
    """What an experiment of a task consists of (docs/tasks.md)."""

    TRAIN = "train, predict, score"  # a model: trained, asked twice by fresh containers, scored apart
    ANSWER = "answer, score"  # a program: the scorer asks it, and a reference beside it
    SCORE = "score"  # a text or a configuration: only locked code runs


class Level(StrEnum):
    """How far a score can be trusted (docs/scoring.md)."""

    L0 = "L0"  # self-reported by the code under test
    L1 = "L1"  # scored apart: by locked code, from what a fresh container answers or from a file
    L2 = "L2"  # L1, and audited: claims or answers checked on questions drawn in secret
    L3 = "L3"  # L2, retrained with host-chosen seeds, on a second private holdout


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a reply cost, in the API's own words; all zero for proposers without an LLM."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0
    cost_usd: float = 0.0

    @property
    def prompt_tokens(self) -> int:
        """What was sent, from the API's cache or not."""
        return self.input_tokens + self.cache_creation_input_tokens + self.cache_read_input_tokens

    @property
    def total_tokens(self) -> int:
        """All tokens, whatever they were used for."""
        return self.prompt_tokens + self.output_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """Replace the one place in the parent where `search` stands, by `replace`."""

    search: str
    replace: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a proposer answered, word for word, stored before anyone parses it."""

    proposer: str
    model: str = ""
    prompt: str = ""
    text: str = ""
    usage: Usage = field(default_factory=Usage)
    parent_id: int | None = None  # the best when it was asked: its edits are against that file
    calls: tuple[int, ...] = ()  # journal records that charged its usage already, failed calls included
    refusals: tuple[str, ...] = ()  # models that refused before this one answered, each with the category
    cost_known: bool = True  # False: nobody told what it cost
    hardware: str = ""  # the class that the idea is for


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What experiments taught, in the words of an LLM."""

    text: str  # one line
    experiments: tuple[str, ...]  # that it rests on, each as run/number


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """One idea: why, what is expected of it, and the patch as edits or as a whole file.

    No edits and no source is the empty patch: the baseline.
    """

    hypothesis: str
    expected_effect: str = ""
    edits: tuple[Edit, ...] = ()
    source: str | None = None
    parent_id: int | None = None  # None: the best so far
    retry_rationale: str = ""  # why something close to an earlier experiment is worth another one


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A full train.py ready to run, pinned, with what it was made from."""

    proposal: Proposal
    source: str
    parent_id: int | None  # None: the file the session began with
    parent_source: str
    reply: Reply
    attempt: int = 1
    retry_of: int | None = None
    remeasures_id: int | None = None  # the kept experiment that this one runs again, to see whether it holds
    removes_id: int | None = None  # the change that it takes out of its parent
    suffix: str = ".py"  # of the mutable file
    patch_notes: tuple[str, ...] = ()  # what of the proposal was not taken word for word


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A kept file of the run."""

    id: int  # of its experiment
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedCommitment:
    """What the record says of a plan before its trial: the audit seed by its hash only."""

    train_seed: int
    audit_seed_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the host decides about a trial before it starts, unknown to the code under test."""

    train_seed: int
    audit_seed: bytes  # 32 bytes; its hash is recorded before the trial, the seed after it

    @classmethod
    def draw(cls) -> Self:
        """Draw the seeds of one trial."""
        return cls(train_seed=secrets.randbelow(2**31), audit_seed=secrets.token_bytes(32))

    @property
    def commitment(self) -> SeedCommitment:
        """Return what is recorded before the trial."""
        digest = hashlib.sha256(self.audit_seed).hexdigest()
        return SeedCommitment(train_seed=self.train_seed, audit_seed_sha256=digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Where a trial runs: what its score depends on besides the source, and what an auditor asks for."""

    hardware: str = ""  # scores compare only within one hardware class
    host: str = ""  # of a cluster; "" for the machine of the loop
    image_id: str = ""
    cache_sha256: str = ""  # of the compile cache that its training begins with; "" for none
    data_sha256: str = ""
    locked_sha256: str = ""
    seccomp_sha256: str = ""
    evaluation: str = ""  # the part of the data that the scorer reads: val or holdout
    profile: str = ""
    runtime: str = ""
    tier: str = ""  # the isolation: container, gVisor; rootful, rootless
    accepted_risks: str = ""
    gpu_uuid: str = ""
    driver: str = ""
    thresholds: str = ""  # where the next two come from, which are in the unit of a claim
    audit_cap: str = ""
    audit_floor: str = ""
    engine: str = ""
    api: str = ""
    kernel: str = ""
    default_runtime: str = ""
    cgroup: str = ""
    controllers: str = ""
    security: str = ""
    swap: str = ""
    image_sha256: str = ""  # of its layers and its configuration, wherever it was loaded
    settings: Mapping[str, str] = field(default_factory=dict)  # what else a score depends on: budgets, limits, K

    @property
    def conditions(self) -> Conditions:
        """Return what must be equal for two scores to compare, besides data and locked files, which no run changes."""
        return conditions_of(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineLoad:
    """What the host saw of its machine while a trainer ran. None where the machine does not tell.

    Its use depends on whether a candidate can bring a figure about itself (docs/scoring.md). Those that it
    can may cause another trial, never a better estimate; only those in `OUTSIDE` may be taken out of a score.
    """

    OUTSIDE: ClassVar = ("started_unix_s", "others_cpu_s", "pace_before")  # beyond a candidate's reach

    started_unix_s: float | None = None  # when the trainer started. Outside: the host starts it
    duration_s: float = 0.0  # how long the trainer ran. Its own doing, up to its deadline
    cpus: int | None = None  # leased processors. Outside, and the same for every trial of one environment
    waited_s: float | None = None  # its threads were ready and had no processor, summed. Its own doing: many threads
    pressure_s: float | None = None  # at least one of them waited (cpu.pressure, cgroup v2). Its own doing: as above
    cpu_s: float | None = None  # its processes used. Its own doing
    others_cpu_s: float | None = None  # of other programs on the leased processors. Outside: it only displaces them
    steal_s: float | None = None  # the hypervisor gave to others. Partly its own doing: who works more loses more
    clock_mhz: float | None = None  # mean of the leased processors. Its own doing: heat, wide instructions
    pace_before: float | None = None  # MiB that we hash per processor second, before the training. Outside
    pace_after: float | None = None  # the same after it. Its own doing: heat that it leaves
    gpu_clock_mhz: float | None = None  # mean SM clock. Its own doing: power and heat
    gpu_throttled_s: float | None = None  # time below the highest clock for `gpu_throttled`. Its own doing: as above
    gpu_throttled: tuple[str, ...] = ()  # the reasons seen
    gpu_power_w: float | None = None  # mean. Its own doing
    gpu_temperature_c: float | None = None  # mean. Its own doing, and of what ran before

    @property
    def wait_share(self) -> float | None:
        """Return the share of the time its threads were ready to run in which they had no processor, 0 to 1."""
        if self.waited_s is None or self.cpu_s is None or self.waited_s + self.cpu_s <= 0:
            return None
        return self.waited_s / (self.waited_s + self.cpu_s)

    @property
    def others_share(self) -> float | None:
        """Return the share of the leased processors' time that other programs used, 0 to 1."""
        if self.others_cpu_s is None or not self.cpus or self.duration_s <= 0:
            return None
        return self.others_cpu_s / (self.cpus * self.duration_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionResult:
    """How one container lived and died. Times are seconds; sizes are bytes."""

    role: Role
    container_id: str
    exit_code: int | None  # None: it never ended by itself and was killed
    oom_killed: bool
    timed_out: bool  # the host killed it at its deadline
    killed_by: str | None  # who ended it and why, None if it ended by itself
    duration_s: float  # host's monotonic clock, from start to end
    deadline_s: float
    log_tail: str  # sanitised end of its output
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    dropped_bytes: int = 0
    log_sha256: str = ""
    started_s: float = 0.0  # by the host's monotonic clock, as is the deadline: started_s + deadline_s
    ended_s: float = 0.0
    peak_memory_bytes: int | None = None
    cpu_s: float | None = None
    peak_pids: int | None = None
    read_bytes: int | None = None  # from block devices
    written_bytes: int | None = None
    waited_s: float | None = None  # its threads were ready to run and had no processor, summed
    pressure_s: float | None = None  # at least one of them waited; cgroup v2
    load: MachineLoad | None = None  # of a trainer


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The scorer's number, in the unit of the task's metric."""

    value: float
    level: Level
    standard_error: float | None = None  # of the audit; None where there is none: L0, L1
    noise: float | None = None  # standard deviation between trials of one source, as far as the scorer can tell
    audited_positions: int = 0  # K
    undetectable: float | None = None  # the largest lie about few positions that the audit would have missed, at 5 %
    total_positions: int = 0  # that could be audited; 0 for unknown
    claims_sha256: str = ""
    audit_seed: str = ""
    mean_difference: float | None = None  # of audited - claimed
    max_difference: float | None = None  # of |audited - claimed|
    parts: tuple[tuple[str, float], ...] = ()  # what the score was made from, by name
    reasons: tuple[str, ...] = ()  # what to improve, in the scorer's words
    higher_is_better: bool = False

    @property
    def sign(self) -> int:
        """Return what makes a cost of a score: whatever decides compares costs, of which the lower is better."""
        return -1 if self.higher_is_better else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Everything that running a candidate once brought to light, before it is judged."""

    executions: tuple[ExecutionResult, ...]
    score: Score | None
    failure: Status | None  # None: it was scored
    message: str  # what to fix, for the LLM and the human; "" when scored
    checkpoint_sha256: str = ""
    checkpoint_bytes: int = 0
    checkpoint_file: Path | None = None  # its copy on the host, if it may become the champion's
    gpu_used: bool | None = None  # by the training; None: there is none, or nobody looked
    contended_by: str = ""
    needs_review: bool = False  # it may have been a cheat: a human should look
    interrupted: bool = False  # Ctrl-C ended it
    repeat_scores: tuple[float, ...] = ()  # the score of each trial, where there were several with different seeds

    @classmethod
    def infra(cls, why: object, *, interrupted: bool = False) -> Self:
        """Return a trial that the sandbox spoiled, not the candidate."""
        return cls(executions=(), score=None, failure=Status.INFRA, message=str(why), interrupted=interrupted)

    @property
    def scores(self) -> tuple[float, ...]:
        """Return the score of every trial; empty if there is none."""
        return self.repeat_scores or ((self.score.value,) if self.score else ())

    @property
    def sign(self) -> int:
        """Return what makes costs of its scores."""
        return self.score.sign if self.score else 1

    @property
    def standard_error(self) -> float:
        """Return what its audit leaves open; 0.0 where nothing was audited."""
        return (self.score.standard_error or 0.0) if self.score else 0.0

    @property
    def load(self) -> MachineLoad | None:
        """Return what the host saw of its machine while its (first) trainer ran; None if none ran, or nobody looked."""
        return self.trainer.load if self.trainer else None

    @property
    def trainer(self) -> ExecutionResult | None:
        """Return how its (first) trainer ended; None if none ran."""
        return next((execution for execution in self.executions if execution.role is Role.TRAINER), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """By how much one source is better than another, as estimated of all trials."""

    mean: float
    sd: float
    probability: float  # that it is better, by more than a tenth of seed noise
    worth: float  # of one more trial
    worth_of_idea: float  # of a trial of a new idea in its place
    is_broken: bool = False  # so much worse that it says nothing of the machine

    @classmethod
    def exact(cls, gain: float) -> Self:
        """Return a gain between scores without noise."""
        return cls(mean=gain, sd=0.0, probability=float(gain > 0), worth=0.0, worth_of_idea=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the loop decides about an experiment, and why."""

    status: Status
    reason: str
    needs_review: bool = False
    gain: float | None = None  # estimated, over the champion of then
    sure: float | None = None  # the probability that it is a gain


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """One finished experiment, as recorded."""

    id: int  # 0 is the baseline
    parent_id: int | None
    status: Status
    reason: str
    hypothesis: str
    expected_effect: str
    proposer: str
    model: str
    score: Score | None
    message: str
    source_sha256: str
    started_at: str  # ISO 8601, UTC
    duration_s: float  # device time: from the first container to the verdict
    train_s: float
    usage: Usage
    attempt: int
    folder: Path = Path()  # runs/<tag>/NNNN, its files; not recorded
    retry_of: int | None = None  # the infra or contended experiment that this one repeats
    commit: str = ""  # of a kept patch on autoresearch/<tag>
    fingerprint: str = ""  # of the normalised syntax tree, to recognise repeats
    host: str = ""  # of a cluster, where it ran; "" for the machine of the loop
    hardware: str = ""
    image_id: str = ""
    image_sha256: str = ""
    cache_sha256: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    peak_memory_bytes: int | None = None
    repeat_scores: tuple[float, ...] = ()  # the score of each trial, where there were several with different seeds
    loads: tuple[MachineLoad | None, ...] = ()  # one for each of `scores`, in their order; () in older records
    remeasures_id: int | None = None  # the kept experiment that this one measured again
    removes_id: int | None = None  # the change that it takes out of its parent
    needs_review: bool = False  # it cheated, or may have: a human should look
    interrupted: bool = False  # Ctrl-C ended it
    gain: float | None = None  # estimated when it was judged, over the champion of then
    sure: float | None = None  # the probability that it is a gain

    @property
    def scores(self) -> tuple[float, ...]:
        """Return the score of every trial; empty if there is none."""
        return self.repeat_scores or ((self.score.value,) if self.score else ())

    @property
    def value(self) -> float | None:
        """Return the mean score of its trials, mostly one; None without a score."""
        return fmean(self.scores) if self.scores else None

    @property
    def sign(self) -> int:
        """Return what makes costs of its scores."""
        return self.score.sign if self.score else 1

    @property
    def cost(self) -> float | None:
        """Return its value as a cost: the lower, the better."""
        return None if self.value is None else self.sign * self.value

    @property
    def proposed_by(self) -> str:
        """Return the proposer and its model: `claude-opus-4-5`, `sweep`."""
        return self.model if self.model.startswith(self.proposer) else f"{self.proposer} {self.model}".strip()

    @property
    def outcome(self) -> str:
        """Return its status as a person reads it: an interrupt is no failure."""
        return "interrupted" if self.interrupted else self.status.value

    @property
    def is_judged(self) -> bool:
        """Return whether it has a verdict; a repeat is due where it has none, even with a score."""
        return self.status not in QUEUED_AGAIN

    @property
    def judged_value(self) -> float | None:
        """Return its score if it was judged."""
        return self.value if self.is_judged else None

    @property
    def level(self) -> str:
        """Return how far its score can be trusted; "" without one."""
        return self.score.level.value if self.score else ""

    @property
    def trust_suffix(self) -> str:
        """Return what every view appends to a number that only the script itself reports."""
        return " (L0, self-reported)" if self.level == Level.L0 else ""

    @property
    def conditions(self) -> Conditions:
        """Return what must be equal for two scores to compare."""
        return conditions_of(self)


def conditions_of(one: Environment | Experiment) -> Conditions:
    """Return what must be equal for two scores to compare."""
    settings = tuple(sorted(one.settings.items()))
    return Conditions(one.hardware, one.image_sha256 or one.image_id, one.cache_sha256, settings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Champion:
    """The best kept experiment, with all trials of its source under the conditions of today."""

    experiment: Experiment
    scores: tuple[float, ...]
    conditions: Conditions
    estimate: float | None = None  # at this machine's usual load; None: its mean is all that is known
    estimate_sd: float | None = None  # the standard error of that; None before two trials
    to_beat: float | None = None  # better than this a score is audited in full at once; None: its value

    @property
    def id(self) -> int:
        """Return the number of its experiment."""
        return self.experiment.id

    @property
    def value(self) -> float:
        """Return its estimated score; the mean of its trials where nothing is estimated."""
        return self.measured if self.estimate is None else self.estimate

    @property
    def measured(self) -> float:
        """Return the mean of its trials."""
        return fmean(self.scores)

    def figure(self, metric: str, digits: int = 6) -> str:
        """Return its value with the standard error, if that is known: `1.9012 ± 0.004 rmse`."""
        error = "" if self.estimate_sd is None else f" ± {self.estimate_sd:.2g}"
        return f"{self.value:.{digits}f}{error} {metric}{self.trust_suffix}"

    def basis(self, digits: int = 6) -> str:
        """Return what its value is, and the mean that was measured: every view says it beside the value."""
        trials = "1 trial" if len(self.scores) == 1 else f"mean of {len(self.scores)} trials"
        if self.estimate_sd is None:
            return f"measured, {trials}"
        return f"estimated at this machine's usual load; measured {self.measured:.{digits}f} ({trials})"

    def facts(self, metric: str) -> dict[str, object]:
        """Return the same for programs."""
        known = {metric: self.value, "standard_error": self.estimate_sd, "measured": self.measured}
        return known | {"trials": len(self.scores), "basis": self.basis()}

    @property
    def cost(self) -> float:
        """Return its value as a cost: the lower, the better."""
        return self.experiment.sign * self.value

    @property
    def audit_below(self) -> float:
        """Return which score a challenger has to beat to be audited in full at once."""
        return self.value if self.to_beat is None else self.to_beat

    @property
    def standard_error(self) -> float:
        """Return what its audit leaves open; 0.0 where nothing was audited."""
        return (self.experiment.score.standard_error or 0.0) if self.experiment.score else 0.0

    @property
    def trust_suffix(self) -> str:
        """Return what every view appends to a number that only the script itself reports."""
        return self.experiment.trust_suffix


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What a run has used so far, over all its sessions."""

    experiments: int = 0  # judged or refused ideas: no baseline, no best measured again, nothing that is queued again
    inconclusive: int = 0  # what is queued again, or was until its tries were used up
    device_seconds: float = 0.0
    usage: Usage = field(default_factory=Usage)
    consecutive_infra: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The few experiments of a run that say most, however long it is."""

    kept: tuple[Experiment, ...] = ()  # oldest first
    near_misses: tuple[Experiment, ...] = ()  # discarded ones, smallest loss first
    failures: tuple[Experiment, ...] = ()  # newest first
    recent: tuple[Experiment, ...] = ()  # oldest first
    since_improvement: int = 0  # judged ones since the best was found
    owed: tuple[Experiment, ...] = ()  # not judged yet, and to be run again
    remeasured: tuple[Experiment, ...] = ()  # the newest that only ran a kept one again, oldest first
    parents: Mapping[int, Experiment] = field(default_factory=dict)  # of those above, by id


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a proposer may know when it is asked for the next idea."""

    experiment_id: int
    champion: Champion  # whose file is changed; the newest kept one where a threshold decides
    champion_source: str
    history: Sequence[Experiment]  # oldest first, finished ones of every status
    spent: Spent
    experiments_left: int | None = None  # until this session's limit; None: there is no limit
    hours_left: float | None = None
    memory: Memory = field(default_factory=Memory)
    in_flight: tuple[str, ...] = ()  # hypotheses that run right now
    seed_std: float | None = None  # standard deviation between trials of one source here; None: not known yet
    trial_std: float | None = None  # the same with the machine's load in it, of their scores as they are
    smallest_gain: float | None = None  # that duels of a night can show here; None: not known yet
    hardware: str = ""  # where it will run
    elsewhere: tuple[str, ...] = ()  # the best on each other class of hardware of this run, a line each
    brief: str = ""  # what the task's brief.py printed
    rejected: tuple[tuple[Reply, str], ...] = ()  # replies of this turn and why each was refused
