"""The table of models: each row against rules that were written down apart from it, through the whole loop."""

import json
import sys
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest

from orchestrator.config import load
from orchestrator.errors import ConfigError
from orchestrator.propose import claude_models
from orchestrator.propose.budget import cost_usd
from orchestrator.propose.models import CHECKED, DEFAULT, MODELS, Answer, describe_stale, find_model
from orchestrator.propose.request import build_request
from orchestrator.record.journal import Journal
from orchestrator.settings import Claude
from orchestrator.types import Usage
from tests.propose.test_claude import context
from tests.propose.test_night import ROOT, builder, idea, sleep_through, task
from tests.soak import every_model
from tests.support.api_rules import KINDS, RULES, refusal
from tests.support.fake_messages_api import TODAY, FakeMessagesApi, Message


def test_every_row_has_rules_to_be_held_to() -> None:
    """And the default is one of them."""
    assert RULES.keys() == MODELS.keys()
    assert DEFAULT == Claude().model
    assert DEFAULT in MODELS


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("form", Answer)
def test_the_request_of_every_row_is_accepted(tmp_path: Path, name: str, form: Answer) -> None:
    """With every effort that it has and with none, in every form, cached for minutes or an hour."""
    model = replace(find_model(name), answer=form)
    for effort in (*model.efforts, None, "no such level"):
        for hourly in (True, False):
            request = build_request(
                model, builder(tmp_path).build(context(), form), effort=effort, max_output_tokens=10**6,
                cache_for_an_hour=hourly,
            )  # fmt: skip
            assert refusal(KINDS["anthropic"], request | {"stream": True}, TODAY) is None


@pytest.mark.parametrize("name", MODELS)
def test_every_row_says_what_the_rules_say(name: str) -> None:
    """What it offers is no more and no less than what is accepted."""
    row, rules = find_model(name), RULES[name]

    assert (rules.forced_tools, rules.efforts, rules.cache_minimum, rules.max_output, rules.retires) == (
        row.forced_tools, row.efforts, row.cache_minimum_tokens, row.max_output_tokens, row.retires
    )  # fmt: skip
    assert rules.thinks == (row.thinks and not row.ask_to_think)
    assert set(row.fallbacks) <= MODELS.keys() - {name}
    for prompt in (1, 100_000, 100_001, 900_000):
        for hourly in (True, False):
            bill = {"input": prompt - 1, "cache_write": 1, "cache_read": 0, "output": 77}
            usage = Usage(input_tokens=prompt - 1, cache_creation_input_tokens=1, output_tokens=77)
            assert pytest.approx(rules.usd(bill, hourly=hourly)) == cost_usd(usage, row, hour_writes=hourly)
            bill = {"input": 0, "cache_write": 0, "cache_read": prompt, "output": 77}
            usage = Usage(cache_read_input_tokens=prompt, output_tokens=77)
            assert pytest.approx(rules.usd(bill, hourly=hourly)) == cost_usd(usage, row, hour_writes=hourly)


def test_longer_prompts_never_get_cheaper() -> None:
    """So the price of the longest prompt that a request can be is the worst case."""
    for row in MODELS.values():
        lengths = [band.max_prompt_tokens for band in row.bands]
        assert lengths == sorted(lengths)
        assert [band.price.input for band in row.bands] == sorted(band.price.input for band in row.bands)


@pytest.mark.filterwarnings("ignore:The model .* is deprecated:DeprecationWarning")
@pytest.mark.parametrize("name", MODELS)
def test_three_experiments_with_every_row_cost_what_is_billed(tmp_path: Path, name: str) -> None:
    """The real loop: thinking, caching and bands as the rules have them, checked to the cent in the record."""
    with FakeMessagesApi() as api:
        numbers = iter(range(1, 100))
        api.always = lambda body: measured(idea(next(numbers), body))
        flags = {"claude.model": name, "limits.experiments": 3}
        config = task(tmp_path, api, prefetch=0, **flags)
        reason, ran = sleep_through(config)
        billed = api.bill_usd

    assert ("3 experiments done", 4) == (reason, len(ran))
    assert {name} == {request["model"] for request in api.requests}
    with Journal.read(config.run_path) as journal:
        spent = journal.charged()
        ideas = [e for e in journal.experiments() if e.id]
    assert pytest.approx(billed, abs=1e-9) == spent.cost_usd > 0
    assert {name} == {e.model for e in ideas}
    if find_model(name).cache_minimum_tokens < 1024:
        assert spent.cache_read_input_tokens > 0
    if find_model(name).cache_minimum_tokens > 1024:  # longer than this short prompt
        assert 0 == spent.cache_read_input_tokens == spent.cache_creation_input_tokens


def test_the_soak_s_changes_fit_the_shipped_train_py() -> None:
    """Each is of a constant of the cpu profile, and can be applied alone or after the others."""
    source = (ROOT / "mutable" / "train.py").read_text()
    for search, replace_by in every_model.CHANGES:
        assert 1 == source.count(search)
        source = source.replace(search, replace_by)


def test_a_bill_that_differs_by_a_cent_is_not_equal() -> None:
    """In the record or in the report."""
    same = every_model.Outcome(model="m", judged=3, asked=5, refused=(), billed=0.124, recorded=0.124, reported="0.12")

    assert same.is_equal
    assert not replace(same, recorded=0.134).is_equal
    assert not replace(same, reported="0.13").is_equal
    assert str(replace(same, reported="0.13")).endswith("DIFFERS")


def measured(message: Message) -> Message:
    """The same, its input counted by the emulator."""
    return Message(arguments=message.arguments, input_tokens=None, output_tokens=777)


def test_a_prompt_that_crosses_a_price_band_costs_the_higher_price(tmp_path: Path) -> None:
    """For all of its tokens; and the limit holds, as the worst case is reckoned at the price of its length."""
    with FakeMessagesApi() as api:
        api.always = lambda body: Message(
            arguments=idea(len(api.requests), body).arguments, input_tokens=(99_000, 101_000)[len(api.requests) % 2]
        )
        flags = {"claude.model": "claude-haiku-5-5", "claude.fallback_models": ()}
        config = task(tmp_path, api, prefetch=0, **flags, **{"limits.experiments": 4})
        sleep_through(config)
        prices = [bill["input"] * (0.1, 0.5)[bill["input"] > 100_000] / 1e6 for bill in api.billed]
        billed = api.bill_usd

    with Journal.read(config.run_path) as journal:
        assert pytest.approx(billed, abs=1e-9) == journal.charged().cost_usd > sum(prices)
    assert pytest.approx(99_000 * 0.1e-6) in prices
    assert pytest.approx(101_000 * 0.5e-6) in prices


def test_a_model_without_a_row_gets_the_plainest_request(tmp_path: Path) -> None:
    """No effort, schema, tool or thinking; the schema is in the prompt, and JSON in the text is read."""
    request = build_request(
        find_model("claude-next-9"), builder(tmp_path).build(context(), find_model("claude-next-9").answer),
        effort="high", max_output_tokens=100, cache_for_an_hour=True,
    )  # fmt: skip

    assert {"model", "max_tokens", "system", "messages"} == request.keys()
    assert "cache_control" not in json.dumps(request)
    assert '"additionalProperties": false' in request["system"][1]["text"]


def test_a_dated_snapshot_has_the_row_of_its_model() -> None:
    """A prefix of another platform has not: what it costs and accepts there is unknown."""
    assert find_model("claude-opus-4-5").bands == find_model("claude-opus-4-5-20251101").bands != ()
    assert "claude-opus-4-5-20251101" == find_model("claude-opus-4-5-20251101").id
    assert () == find_model("anthropic.claude-opus-4-5").bands


def test_task_toml_may_say_otherwise(tmp_path: Path) -> None:
    """Prices, form and marks of this endpoint; fallbacks of the table are for the provider's own."""
    with FakeMessagesApi() as api:
        plain = task(tmp_path, api, **{"claude.fallback_models": None, "claude.model": DEFAULT})
        prices = {"claude-opus-5-5": {"input": 1, "output": 2, "cache_write": 3, "cache_read": 4}}
        flags = {"claude.base_url": api.url, "claude.answer": "text", "claude.cache": False, "prices.models": prices}
        other = load(tmp_path, {"tag": "t", "runs": tmp_path / "runs", **flags})

    assert ["claude-opus-5-5", "claude-opus-5"] == [model.id for model in claude_models(plain)]
    (model,) = claude_models(other)
    assert (Answer.TEXT, False, 2.0) == (model.answer, model.cache_marks, model.bands[0].price.output)


def test_a_row_that_was_not_looked_up_for_long_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """In words, at release time and in every run of the tests; it is not a failure of the code."""
    assert "" == describe_stale(CHECKED + timedelta(days=90))
    assert f"claude-fable-5-2 ({CHECKED})" in describe_stale(CHECKED + timedelta(days=91))
    if words := describe_stale(date.today()):  # noqa: DTZ011
        with capsys.disabled():
            sys.stderr.write(f"\nnote: {words}\n")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"claude.thinking_tokens": 2000}, 'thinking-tokens 2000: current models .* use effort = "low"'),
        ({"claude.base_url": "http://x/v1"}, "base-url 'http://x/v1': leave out /v1"),
        ({"claude.base_url": "http://x/v1/messages"}, "leave out /v1"),
        ({"claude.effort": "enormous"}, "effort 'enormous'"),
        ({"claude.endpoint": "openai"}, "endpoint 'openai'"),
    ],
)
def test_settings_that_cannot_work_are_refused(tmp_path: Path, flags: dict[str, object], expected: str) -> None:
    """One line, with the key, its value and the mend."""
    with FakeMessagesApi() as api, pytest.raises(ConfigError, match=expected):
        task(tmp_path, api, **flags)
