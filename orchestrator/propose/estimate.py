"""The estimated cost of a run, before anything is sent. Pure apart from reading the task's files."""

import math
from dataclasses import dataclass, replace

from orchestrator.config import Config
from orchestrator.errors import ConfigError
from orchestrator.propose import answer, budget, claude_models, lessons
from orchestrator.propose.distil import DIFF_CHARS, MATERIAL_CHARS
from orchestrator.propose.lessons import SHOWN_CHARS
from orchestrator.propose.lessons_writer import EVERY
from orchestrator.propose.prompt import HISTORY_TOKENS, ROLE
from orchestrator.propose.token_count import guess
from orchestrator.types import Usage
from orchestrator.units import SECONDS_PER_HOUR

NIGHT_H = 8.0  # if no limit is set
ANSWER_TOKENS = 1500  # a hypothesis and a few edits
THINKING_TOKENS = 4000  # before it, at a medium effort
TURN_TOKENS = 1000  # the current state in a prompt, and the API's overhead
KEPT_SHARE = 0.1  # of the experiments: then the best file is written to the API's cache again
BYTES_PER_TOKEN = 3
LESSONS_PROMPT_TOKENS = (MATERIAL_CHARS + DIFF_CHARS + SHOWN_CHARS) // BYTES_PER_TOKEN


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Tokens and dollars, for as many experiments as fit; dollars are None where the model has no price."""

    model: str
    prices_as_of: str
    hours: float
    fitting: int  # experiments that fit into the hours, at most
    experiments: int  # of those, as many as the limit allows
    cached_tokens: int  # of a prompt: the same from call to call
    fresh_tokens: int  # of a prompt, at most
    answer_tokens: int  # thinking included
    call_usd: float | None
    lessons_usd: float | None  # all calls for lessons
    likely_usd: float | None
    worst_usd: float | None
    max_usd: float

    def lines(self) -> list[str]:
        """Format the estimate as lines for a terminal."""
        hours, most = f"{self.hours:g}", f"{self.fitting:,}"
        tokens = f"{self.cached_tokens + self.fresh_tokens:,} tokens, {self.cached_tokens:,} of them cached"
        lines = [
            f"{self.model}: prompts of up to {tokens}; answers of about {self.answer_tokens:,}",
            f"at most {most} experiments fit into {hours} h; the limit is {self.experiments:,}",
        ]
        if self.call_usd is None or self.likely_usd is None or self.worst_usd is None:
            return [*lines, f"task.toml: [prices.models] has no {self.model!r}, so the cost cannot be estimated"]
        lessons = f", ${self.lessons_usd:.2f} for lessons" if self.lessons_usd else ""
        each = f"${self.call_usd:.3f} a proposal{lessons}"
        lines.append(f"about ${self.likely_usd:.2f}, {each} (prices of {self.prices_as_of})")
        worst = f"at worst ${self.worst_usd:.2f}: all answers rejected and of maximum length, nothing cached"
        if self.max_usd:
            worst += f"; it ends before it has cost ${self.max_usd:.2f} (max_usd)"
        return [*lines, worst]


def estimate_cost(config: Config) -> Estimate:
    """Return the estimated cost of a run with this config and its first model. Raises ConfigError."""
    model = claude_models(config)[0]
    texts = (ROLE, answer.PROPOSAL.how(model.answer), str(answer.SCHEMA), *_texts(config))
    stable, fresh = sum(guess(text) for text in texts), HISTORY_TOKENS + TURN_TOKENS
    if config.recording.lessons:
        fresh += guess(lessons.read_lessons(config.runs / lessons.NAME))
    cached = stable if model.cache_marks and stable >= model.cache_minimum_tokens else 0
    fresh += stable - cached
    answer_tokens = ANSWER_TOKENS + (THINKING_TOKENS if model.thinks else 0)
    hours = config.limits.hours or NIGHT_H
    fitting = int(hours * SECONDS_PER_HOUR // config.active_profile.time_budget_s)
    experiments = min(fitting, config.limits.experiments or fitting)
    hourly = budget.outlives_cache(config.active_profile)
    read = Usage(input_tokens=fresh, output_tokens=answer_tokens, cache_read_input_tokens=cached)
    written = replace(read, cache_read_input_tokens=0, cache_creation_input_tokens=cached)
    costs = [budget.cost_usd(usage, model, hour_writes=hourly) for usage in (read, written)]
    call = (1 - KEPT_SHARE) * costs[0] + KEPT_SHARE * costs[1] if model.has_price else None
    distilled = 0.0
    if config.recording.lessons and config.recording.llm_lessons:
        asked = Usage(input_tokens=LESSONS_PROMPT_TOKENS, output_tokens=answer_tokens)
        distilled = math.ceil(experiments / EVERY) * budget.cost_usd(asked, model, hour_writes=hourly)
    worst = budget.worst_case(
        (cached + fresh) * BYTES_PER_TOKEN, config.claude.max_output_tokens, model, hour_writes=hourly
    )
    own_price = model.id in config.prices.models or model.checked is None
    return Estimate(
        model=model.id, prices_as_of=config.prices.prices_as_of if own_price else str(model.checked), hours=hours,
        fitting=fitting, experiments=experiments, cached_tokens=cached, fresh_tokens=fresh,
        answer_tokens=answer_tokens, call_usd=call, max_usd=config.limits.max_usd,
        lessons_usd=distilled if model.has_price else None,
        likely_usd=None if call is None else call * experiments + distilled,
        worst_usd=worst.cost_usd * experiments * config.claude.max_attempts if model.has_price else None,
    )  # fmt: skip


def _texts(config: Config) -> list[str]:
    """Return the texts that every prompt contains."""
    paths = (config.root / config.task.instructions, config.root / "locked" / "prepare.py", config.mutable_path)
    try:
        return [path.read_text(encoding="utf-8") for path in paths]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{config.root}: not a complete task directory: {error}") from error
