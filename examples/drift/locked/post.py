"""A post as a reader sees it: its title, paragraphs, sentences and words. Pure; standard library only.

What a reader would not see has no place in a post, so HTML, entities, images, footnotes, titles of links, invisible
and look-alike characters are refused by name instead of being interpreted. What is left of Markdown is a title,
paragraphs, lists, quotations, emphasis, links and fenced code.
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property

MAX_BYTES = 32 * 1024
MIN_WORDS, MAX_WORDS = 80, 400
MAX_CODE_SHARE = 0.3  # of the characters
TYPOGRAPHY = "–—‘’“”…×÷±°µ²³½¼¾≈≤≥→€£§"
LETTERS = "àáâãäåæçèéêëìíîïñòóôõöøùúûüýÿœßÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜÝŒ"
ALLOWED = frozenset("\n" + "".join(map(chr, range(0x20, 0x7F))) + TYPOGRAPHY + LETTERS)
FENCE = re.compile(r"```[a-z]{0,20}")
HIDDEN = (  # what would be rendered as something else, or not at all
    ("html", re.compile(r"<[A-Za-z/!?]"), "HTML and comments; write plain Markdown"),
    ("entity", re.compile(r"&#?[A-Za-z0-9]{1,32};"), "a character entity; write the character"),
    ("image", re.compile(r"!\["), "an image; its text is not seen"),
    ("reference", re.compile(r"^ {0,3}\[[^\]\n]{0,200}\]:", re.MULTILINE), "a reference or footnote; link in place"),
)
LINK = re.compile(r"\[([^\[\]\n]{1,200})\]\((https?://[^\s()<>\"']{1,300})\)")
BARE_LINK = re.compile(r"https?://[^\s()<>\"']{1,300}")
BLOCK_MARK = re.compile(r"^ {0,3}(?:#{1,6} |> ?|[-*+] |\d{1,3}[.)] )")
ALONE = re.compile(r" {0,3}(?:#{1,6} |[-*+] |\d{1,3}[.)] )")  # begins a block without a blank line before it
WORD = re.compile(r"\d+(?:[.,:/]\d+)*%?|[A-Za-zÀ-ÿŒœ]+(?:['-][A-Za-zÀ-ÿŒœ]+)*")
END = re.compile(r"(?<=[.!?])[\"')]?\s+(?=[\"'(]?[A-ZÀ-Þ0-9])")
ABBREVIATIONS = ("e.g.", "i.e.", "vs.", "Dr.", "Mr.", "Mrs.", "Ms.", "No.", "St.", "approx.", "cf.", "ca.")
FAULTS = frozenset({"too-large", "encoding", "no-title", "length", "fence", "mostly-code"})  # mistakes, no deception
STRAIGHT = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"'})


class Refused(Exception):
    """A post that is not judged: the name of what it does, and what to mend."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason


@dataclass(frozen=True)
class Post:
    """A post that has been read."""

    source: str  # Markdown without fenced code, with straight quotation marks
    title: str
    blocks: tuple[str, ...]  # paragraphs, list items and headings below the title, as they are read
    links: tuple[str, ...]

    @cached_property
    def prose(self) -> str:
        """What is read, a block per line, the title not included."""
        return "\n".join(self.blocks)

    @cached_property
    def sentences(self) -> tuple[str, ...]:
        """Return its sentences in order; a list item or heading is at least one."""
        return tuple(sentence for block in self.blocks for sentence in split_sentences(block))

    @cached_property
    def words(self) -> tuple[str, ...]:
        """Return its words and numbers in order, as written."""
        return tuple(find_words(self.prose))


def read_post(data: bytes) -> Post:
    """Return the post in a file. Raises Refused for what is no plain post of a fit length."""
    text = _decode(data)
    source, code = _split_code(text)
    if code > MAX_CODE_SHARE * len(text):
        raise Refused("mostly-code", f"{100 * code // len(text)} % of it is code, at most {MAX_CODE_SHARE:.0%} may be")
    for name, pattern, what in HIDDEN:
        if found := pattern.search(source):
            raise Refused(name, f"line {_line(source, found.start())} has {what}")
    links = tuple(found[2] for found in LINK.finditer(source))
    seen = LINK.sub(r"\1", source)
    if "](" in seen:
        line = _line(seen, seen.index("]("))
        raise Refused("link", f"line {line}: a link is [text](https://address), without a title and with a text")
    links += tuple(BARE_LINK.findall(seen))
    title, *blocks = _blocks(BARE_LINK.sub("", seen))
    if not title.startswith("# ") or not title[2:].strip():
        raise Refused("no-title", "the first line must be the title: # Title")
    post = Post(
        source=source, title=_plain(title), blocks=tuple(plain for b in blocks if (plain := _plain(b))), links=links
    )
    if not MIN_WORDS <= len(post.words) <= MAX_WORDS:
        raise Refused("length", f"it has {len(post.words)} words of prose, a post has {MIN_WORDS} to {MAX_WORDS}")
    return post


def split_sentences(block: str) -> list[str]:
    """Return the sentences of a paragraph."""
    found: list[str] = []
    for part in END.split(block):
        if found and found[-1].endswith(ABBREVIATIONS):
            found[-1] += " " + part
        elif find_words(part):
            found.append(part)
    return found


def find_words(text: str) -> list[str]:
    """Return words and numbers: `don't`, `half-full`, `3.5`, `12:30`, `40%`."""
    return WORD.findall(text)


def _decode(data: bytes) -> str:
    if len(data) > MAX_BYTES:
        raise Refused("too-large", f"it has {len(data)} bytes, at most {MAX_BYTES} are read")
    try:
        text = data.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise Refused("encoding", f"byte {error.start} is not UTF-8") from error
    for at, character in enumerate(text):
        if character not in ALLOWED:
            name = unicodedata.name(character, "a control character")
            raise Refused("odd-character", f"line {_line(text, at)} has U+{ord(character):04X} ({name}); remove it")
    return text.translate(STRAIGHT)


def _split_code(text: str) -> tuple[str, int]:
    """Return the text without fenced code, its lines left empty, and how many characters were code."""
    kept, code, inside = [], 0, False
    for number, line in enumerate(text.split("\n"), start=1):
        if "```" in line or "~~~" in line:
            if not FENCE.fullmatch(line) or (inside and line != "```"):
                raise Refused("fence", f"line {number}: code begins and ends with a line that is ``` alone")
            inside = not inside
        code += len(line) if inside else 0
        kept.append("" if inside or line.startswith("```") else line)
    if inside:
        raise Refused("fence", "the last code block has no end")
    return "\n".join(kept), code


def _blocks(source: str) -> list[str]:
    """Return the lines of each paragraph, item and heading joined by spaces; at least one, be it empty."""
    blocks: list[str] = []
    fresh = True
    for line in source.strip().split("\n"):
        if not line.strip():
            fresh = True
        elif fresh or ALONE.match(line) or blocks[-1].startswith("#"):
            blocks.append(line.strip())
            fresh = False
        else:
            blocks[-1] += " " + line.strip()
    return blocks or [""]


def _plain(block: str) -> str:
    """Return a block as it is read: without marks, emphasis, escapes and runs of spaces."""
    text = BLOCK_MARK.sub("", block, count=1)
    text = re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text)
    text = re.sub(r"[*`]|~~|(?<!\w)_|_(?!\w)", "", text)
    return " ".join(text.split())


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1
