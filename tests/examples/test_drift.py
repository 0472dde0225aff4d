"""The judge of examples/drift: what it reads, finds, measures and refuses."""

import re
import time
from pathlib import Path

import archive
import brief
import first_posts
import judge
import post
import pytest
import substance
import validate
import voice
from hypothesis import given
from hypothesis import strategies as st
from patterns import PATTERNS, Pattern

DRIFT = Path(__file__).parents[2] / "examples" / "drift"
BASELINE = (DRIFT / "mutable" / "post.md").read_bytes()
KEPT = [*first_posts.POSTS, ("0000-post.md", BASELINE)]
GOOD = (DRIFT / "drafts" / "07-ping.md").read_text()
COMPILED = validate.compile_patterns(PATTERNS)


def judged(text: str, kept: list[tuple[str, bytes]] | None = None) -> judge.Judgement:
    with archive.open_archive(KEPT if kept is None else kept) as connection:
        return judge.judge(text.encode(), connection)


def refusal(text: str | bytes) -> str:
    """The name under which a post is refused."""
    with archive.open_archive(KEPT) as connection, pytest.raises(post.Refused) as caught:
        judge.judge(text.encode() if isinstance(text, str) else text, connection)
    return caught.value.name


def pattern(regex: str, name: str = "mine") -> Pattern:
    return Pattern(name, "filler", regex, "a reason", "", "")


# patterns


@pytest.mark.parametrize(("one", "regex"), COMPILED, ids=lambda value: getattr(value, "name", ""))
def test_a_pattern_finds_its_example_and_spares_the_other(one: Pattern, regex: re.Pattern[str]) -> None:
    """Each has a name, a reason, text that it finds and text that it must not find."""
    assert one.name and one.reason
    assert validate._search(one, regex, one.finds)
    assert not validate._search(one, regex, one.spares)


def test_there_are_more_than_sixty_patterns_of_five_kinds() -> None:
    """Filler, clichés, hedging, empty transitions, formatting tics; no name twice."""
    assert len(PATTERNS) >= 60
    assert {"filler", "cliché", "hedge", "transition", "format"} == {one.kind for one in PATTERNS}
    assert len(PATTERNS) == len({one.name for one in PATTERNS})


def test_no_pattern_is_found_in_the_first_posts() -> None:
    """They are what the patterns are to lead to."""
    assert [] == [hit for _, data in KEPT for hit in validate.find_hits(post.read_post(data), COMPILED)]


def test_a_pattern_is_found_across_lines_emphasis_and_curly_quotes() -> None:
    """It sees what a reader sees."""
    text = GOOD + "\nThat is *more than*\njust a `cable`. And in today\u2019s fast-paced\nworld it rains.\n"

    names = {hit.name for hit in validate.find_hits(post.read_post(text.encode()), COMPILED)}

    assert {"more-than-just", "todays-world"} <= names


@pytest.mark.parametrize(
    ("regex", "problem"),
    [
        ("(a", "does not compile"),
        (r"a+", "without a bound"),
        (r"(?:a{1,30}){1,30}", "ways at one place"),
        (r"[a-z]{0,80}[a-z]{0,80}", "ways at one place"),
        (r"a{0,9999}", "above 500"),
        (r"(a)\1", "earlier group"),
    ],
)
def test_a_pattern_that_does_not_compile_or_may_be_slow_is_refused_by_name(regex: str, problem: str) -> None:
    """Before it sees a post; one line says what to mend."""
    with pytest.raises(validate.PatternError, match=problem) as caught:
        validate.compile_pattern(pattern(regex, "broken-one"))

    assert "'broken-one'" in str(caught.value) and "\n" not in str(caught.value)


def test_two_patterns_cannot_have_one_name() -> None:
    """A reason names its pattern."""
    with pytest.raises(validate.PatternError, match="two patterns have this name"):
        validate.compile_patterns([pattern("a"), pattern("b")])


def test_a_slow_pattern_is_ended_and_named() -> None:
    """Should one pass the check and be slow all the same."""
    slow = pattern("(a+)+$", "slow-one")
    text = f"# Title\n\n{'word ' * 90}{'a' * 40}b\n"
    started = time.process_time()

    with pytest.raises(validate.PatternError, match="'slow-one' took more than"):
        validate.find_hits(post.read_post(text.encode()), [(slow, re.compile(slow.regex))])

    assert time.process_time() - started < 30  # it would take years


def test_every_hit_costs_and_is_told_by_name() -> None:
    """One is enough to fall below the threshold."""
    result = judged(GOOD.replace("One thing did not fit.", "Needless to say, one thing did not fit."))

    assert 65.0 == result.parts["clean"] == result.value
    assert 'needless-to-say (filler): "Needless to say": then do not say it' == result.reasons[0]


# reading


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda text: text.replace("cable", "ca\u200bble"), "odd-character"),  # zero width
        (lambda text: text.replace("cable", "c\u0430ble"), "odd-character"),  # Cyrillic a
        (lambda text: text.replace("cable", "ca\u00adble"), "odd-character"),  # soft hyphen
        (lambda text: text.replace("cable", "ca\x07ble"), "odd-character"),
        (lambda text: text + "\n<!-- 12 kg, 13 kg, 14 kg -->\n", "html"),
        (lambda text: text + '\n<span style="display:none">12 kg</span>\n', "html"),
        (lambda text: text.replace("cable", "ca&shy;ble"), "entity"),
        (lambda text: text + "\n![12 kg](https://example.org/a.png)\n", "image"),
        (lambda text: text + "\n[//]: # (12 kg and 13 kg)\n", "reference"),
        (lambda text: text + "\n[^1]: 12 kg and 13 kg\n", "reference"),
        (lambda text: text + '\nSee [this](https://example.org "12 kg and 13 kg").\n', "link"),
        (lambda text: text + "\n```\nunclosed\n", "fence"),
        (lambda text: text + "\n~~~\ncode\n~~~\n", "fence"),
        (lambda text: text + "\n```\n" + "code\n" * 400 + "```\n", "mostly-code"),
        (lambda text: text[2:], "no-title"),
        (lambda _: "", "no-title"),
        (lambda _: "# Short\n\nIt was 3 mm.\n", "length"),
        (lambda text: text * 8, "length"),
    ],
)
def test_what_a_reader_would_not_see_is_refused_by_name(change: object, name: str) -> None:
    """Hidden text, invisible and look-alike characters, and files that are no post."""
    assert name == refusal(change(GOOD))  # type: ignore[operator]


def test_a_file_that_is_far_too_large_or_no_text_is_refused() -> None:
    """10 MB are not looked into."""
    assert "too-large" == refusal(b"a" * 10_000_000)
    assert "encoding" == refusal(b"# T\n\n\xff\xfe")


@given(st.text(st.sampled_from("# ab.\n`*_[](:/)<!-&;~>\\0 1\"'hps?"), max_size=400))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Nothing else comes of it, and what is read again is the same."""
    try:
        found = post.read_post(text.encode())
    except post.Refused:
        return

    assert found == post.read_post(text.encode())


def test_sentences_end_where_a_reader_ends_them() -> None:
    """Not at a decimal point, nor after an abbreviation."""
    expected = ["It weighs 3.5 kg, i.e. Dr. Roth is wrong.", "Is he?", "Yes."]

    assert expected == post.split_sentences("It weighs 3.5 kg, i.e. Dr. Roth is wrong. Is he? Yes.")
    assert ["It", "won't", "be", "half-full", "at", "12:30", "40%"] == post.find_words(
        "It won't be half-full at 12:30 (40%)"
    )


# voice


def test_the_first_posts_speak_with_one_voice() -> None:
    """Each beside the three before it."""
    posts = [post.read_post(data) for _, data in KEPT]
    points = [
        voice.compare(voice.hear([one]), voice.hear(posts[at - 3 : at])).points
        for at, one in enumerate(posts)
        if at > 2
    ]

    assert min(points) > 85


def test_the_same_text_has_no_difference_of_voice() -> None:
    """All points in every family."""
    same = voice.hear([post.read_post(GOOD.encode())])

    assert dict.fromkeys(voice.FAMILIES, 100.0) == voice.compare(same, same).families


def test_another_person_and_longer_sentences_are_another_voice() -> None:
    """The draft in the voice of an advertisement fails by its voice, and is told what differs."""
    result = judged((DRIFT / "drafts" / "06-step-up.md").read_text())

    assert result.parts["voice"] < 50
    assert re.search(r"you 17\.\d, before 0\.0", result.reasons[0])


def test_a_rate_is_compared_in_standard_errors() -> None:
    """4 in 100 against 0 in 100, with 2 added: sqrt(0.03 * (1/100 + 1/100))."""
    a = voice.Voice(words=100, lengths=(10,), letters=400, counts={"commas": 4})
    b = voice.Voice(words=100, lengths=(10,), letters=400, counts={"commas": 0})

    assert pytest.approx(0.04 / (0.03 * 0.02) ** 0.5) == voice.rate_difference(a, b, "commas")


# substance


def test_claims_numbers_names_and_links_are_counted_per_hundred_words() -> None:
    """A hedged sentence claims nothing, a bare number counts nothing."""
    assert ["12", "three"] == substance.numbers_in("Of 12 eggs three broke.")
    assert [] == substance.numbers_in("12 13")
    assert ["Roth", "Gera"] == substance.names_in("In the morning Roth went to Gera.")
    assert substance.is_claim("The mean was 12 kg.", has_figure=True)
    assert substance.is_claim("It fell because the room was cold.", has_figure=False)
    assert not substance.is_claim("It might have been 12 kg.", has_figure=True)
    assert not substance.is_claim("Was it as much as 12 kg?", has_figure=True)
    rates = substance.weigh(post.read_post(GOOD.encode())).rates
    assert 0 == rates["links"] and rates["numbers"] > 4 and rates["claims"] > 4


def test_vague_text_has_little_substance() -> None:
    """The draft without a number or name is told what it lacks."""
    result = judged((DRIFT / "drafts" / "04-measuring-cups.md").read_text())

    assert result.value == result.parts["substance"] < 30
    assert "numbers 0.0 (full marks from 4)" in result.reasons[0]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("It has 12 kg 13 kg 14 kg 15 kg 16 kg 17 kg 18 kg. ", "numbers-salad"),
        ("The scale 1 a 2 the 3 of 4 it. ", "numbers-salad"),
        ("The Anna and Berta and Karl and Otto went. ", "name-salad"),
        ("Scale creep weight display gram reading drift error. ", "word-salad"),
    ],
)
def test_what_only_looks_dense_is_refused_by_name(text: str, name: str) -> None:
    """Salads of numbers, names and words."""
    different = "".join(
        text.replace("went", f"went {letter}x").replace("1 a", f"1 {letter}") for letter in "abcdefghijkl"
    )

    assert name == refusal(f"# Title\n\n{different if name != 'word-salad' else text * 12}\n")


def test_a_word_or_a_sentence_that_comes_again_and_again_is_refused() -> None:
    """Stuffed with the words that are searched for, or padded."""
    assert "keyword-stuffing" == refusal(
        GOOD + "\n" + " ".join(f"The latency of it is latency at {n}." for n in "abcdefgh")
    )
    assert "repeated-sentence" == refusal(GOOD + "\nThe cable was not cut.\n\nThe cable was not cut.\n")


# archive


def test_a_copy_with_small_changes_is_refused() -> None:
    """Of any archived post, however old, and of the baseline."""
    assert "copy" == refusal((DRIFT / "drafts" / "10-scale-copied.md").read_text())
    assert "copy" == refusal(BASELINE.decode().replace("milk", "juice").replace("carton", "bottle"))


def test_the_same_topic_in_other_words_is_not_fresh() -> None:
    """It is told which post covers it."""
    result = judged((DRIFT / "drafts" / "08-scale-again.md").read_text())

    assert result.value == result.parts["fresh"] == 0
    assert "'A kitchen scale drifts while you watch'" in result.reasons[0]


def test_a_kept_post_is_what_the_next_is_compared_with() -> None:
    """The archive is what was kept, in order; the last three are the newest."""
    with archive.open_archive([*KEPT, ("0001-post.md", GOOD.encode())]) as connection:
        newest = archive.last_posts(connection, 3)
        overlap, nearest = archive.find_overlap(connection, post.read_post(GOOD.encode()))

        assert ["Where the millimetre begins", "A litre of milk is not a litre", "The network is slow at seven"] == [
            one.title for one in newest
        ]
        assert 14 == len(archive.titles(connection))
        assert (14,) == connection.execute("SELECT COUNT(*) FROM topics").fetchone()  # the search left nothing behind
        assert pytest.approx(1.0) == overlap
        assert "The network is slow at seven" == nearest


def test_the_index_can_be_deleted(tmp_path: Path) -> None:
    """Built again from the kept files it says the same."""
    results = []
    for _ in range(2):
        index = tmp_path / "index.sqlite"
        index.unlink(missing_ok=True)
        with archive.open_archive(KEPT, str(index)) as connection:
            results.append(judge.judge(GOOD.encode(), connection))

    assert results[0] == results[1]


def test_an_empty_archive_has_nothing_to_compare_with() -> None:
    """The first post of all has full marks for voice and freshness."""
    result = judged(GOOD, [])

    assert 100.0 == result.parts["voice"] == result.parts["fresh"]


def test_a_damaged_kept_post_is_named() -> None:
    """The scorer fails; no post is judged beside half an archive."""
    with pytest.raises(archive.ArchiveDamaged, match=r"kept post 0007-post.md: encoding: byte 0 is not UTF-8; restore"):
        archive.open_archive([*KEPT, ("0007-post.md", b"\xff")])


# the drawer


def test_the_drawer_has_drafts_to_keep_and_drafts_to_refuse() -> None:
    """In order, each kept one in the archive of the next: ten in a row as a loop without a key sees them."""
    kept, refused = list(KEPT), {}
    for path in sorted((DRIFT / "drafts").glob("*.md")):
        try:
            result = judged(path.read_text(), kept)
        except post.Refused as error:
            refused[path.stem[:2]] = error.name
            continue
        if result.value >= 70:
            kept.append((path.name, path.read_bytes()))
        else:
            refused[path.stem[:2]] = min(result.parts, key=lambda name: result.parts[name])

    assert {"02": "clean", "04": "substance", "06": "voice", "08": "fresh", "10": "copy"} == refused
    assert 9 == len(kept) - len(KEPT)


# what the proposer is shown


def test_the_proposer_is_shown_the_last_three_posts_and_all_titles(tmp_path: Path) -> None:
    """Kept ones included, the newest last."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "0000-post.md").write_bytes(BASELINE)
    shown = brief.brief(tmp_path)

    assert all(f"- {post.read_post(data).title}" in shown for _, data in KEPT)
    assert shown.endswith(BASELINE.decode())
    assert shown.count("\n# ") == 3
