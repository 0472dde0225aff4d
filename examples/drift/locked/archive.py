"""The archive of kept posts in SQLite, and what a new post has in common with it. Standard library only.

The database is an index: it is built anew in each container from the kept files, in order, and nothing is lost with it.
"""

import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from post import Post, Refused, find_words, read_post
from voice import FUNCTION

SCHEMA = """
CREATE TABLE posts (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, title TEXT NOT NULL, text BLOB NOT NULL);
CREATE VIRTUAL TABLE topics USING fts5 (title, body, tokenize = 'porter unicode61');
CREATE TABLE shingles (shingle TEXT NOT NULL, post INTEGER NOT NULL, PRIMARY KEY (shingle, post)) WITHOUT ROWID;
"""
SHINGLE_WORDS = 4
TOPIC_WORDS = 40  # of a post, the most frequent first: what it is about
LEAST_LETTERS = 4


class ArchiveDamaged(Exception):
    """A kept post that cannot be read: which one, why, and how to mend it."""


def read_folder(folder: Path) -> list[tuple[str, bytes]]:
    """Return the kept files by name, in order; none if there is no folder. Raises ArchiveDamaged."""
    if not folder.is_dir():
        return []
    found = []
    for path in sorted(folder.iterdir(), key=lambda path: (len(path.name), path.name)):  # 9999.md, 10000.md
        try:
            found.append((path.name, path.read_bytes()))
        except OSError as error:
            raise ArchiveDamaged(f"kept post {path}: cannot be read: {error.strerror}; restore it") from error
    return found


def build(connection: sqlite3.Connection, posts: Sequence[tuple[str, bytes]]) -> None:
    """Fill an empty database with posts, oldest first. Raises ArchiveDamaged, naming the post."""
    try:
        connection.executescript(SCHEMA)
    except sqlite3.OperationalError as error:
        raise ArchiveDamaged(f"SQLite cannot make the index: {error}; a SQLite with FTS5 is needed") from error
    for number, (name, data) in enumerate(posts, start=1):
        try:
            post = read_post(data)
        except Refused as error:
            raise ArchiveDamaged(f"kept post {name}: {error}; restore it from the record") from error
        with connection:
            connection.execute("INSERT INTO posts VALUES (?, ?, ?, ?)", (number, name, post.title, data))
            connection.execute(
                "INSERT INTO topics (rowid, title, body) VALUES (?, ?, ?)", (number, post.title, post.prose)
            )
            connection.executemany(
                "INSERT INTO shingles VALUES (?, ?)", [(shingle, number) for shingle in sorted(shingles(post))]
            )


def open_archive(posts: Sequence[tuple[str, bytes]], path: str = ":memory:") -> "closing[sqlite3.Connection]":
    """Return a new database with the posts; closed at the end of its `with`. Raises ArchiveDamaged."""
    connection = sqlite3.connect(path)
    build(connection, posts)
    return closing(connection)


def last_posts(connection: sqlite3.Connection, count: int) -> list[Post]:
    """Return the newest posts, oldest first."""
    rows = connection.execute("SELECT text FROM posts ORDER BY id DESC LIMIT ?", (count,)).fetchall()
    return [read_post(data) for (data,) in reversed(rows)]


def titles(connection: sqlite3.Connection) -> list[str]:
    """Return all titles, oldest first."""
    return [title for (title,) in connection.execute("SELECT title FROM posts ORDER BY id")]


def find_overlap(connection: sqlite3.Connection, post: Post) -> tuple[float, str]:
    """Return how far the nearest archived post covers the topic, 0 to 1, and its title; 0 and "" without an archive.

    The post's words of content are searched in the whole archive with the post itself in it. Each post's relevance
    (BM25) is divided by that of the post itself, so that 1 is a post about the same things.
    """
    words = topic_words(post)
    if not words:
        return 0.0, ""
    query = " OR ".join(f'"{word}"' for word in words)
    connection.execute("SAVEPOINT search")
    try:
        own = connection.execute("INSERT INTO topics (title, body) VALUES (?, ?)", (post.title, post.prose)).lastrowid
        ranked = dict(
            connection.execute("SELECT rowid, -bm25(topics) FROM topics WHERE topics MATCH ? ORDER BY rowid", (query,))
        )
    finally:
        connection.execute("ROLLBACK TO search")
        connection.execute("RELEASE search")
    itself = ranked.pop(own, 0.0)
    if not ranked or itself <= 0:
        return 0.0, ""
    nearest = max(ranked, key=lambda number: (ranked[number], -number))
    (title,) = connection.execute("SELECT title FROM posts WHERE id = ?", (nearest,)).fetchone()
    return min(1.0, max(0.0, ranked[nearest] / itself)), title


def find_copy(connection: sqlite3.Connection, post: Post) -> tuple[float, str]:
    """Return the largest share of the post's runs of four words that one archived post has too, and its title."""
    own = shingles(post)
    marks = ",".join("?" * len(own))
    rows = connection.execute(
        f"SELECT post, COUNT(*) FROM shingles WHERE shingle IN ({marks}) GROUP BY post ORDER BY 2 DESC, 1 LIMIT 1",  # noqa: S608 - question marks only
        sorted(own),
    ).fetchall()
    if not rows:
        return 0.0, ""
    ((number, count),) = rows
    (title,) = connection.execute("SELECT title FROM posts WHERE id = ?", (number,)).fetchone()
    return count / len(own), title


def shingles(post: Post) -> set[str]:
    """Return all runs of SHINGLE_WORDS words."""
    words = [word.lower() for word in post.words]
    return {" ".join(words[at : at + SHINGLE_WORDS]) for at in range(len(words) - SHINGLE_WORDS + 1)}


def topic_words(post: Post) -> list[str]:
    """Return the words that say what a post is about: words of content, the most frequent first."""
    counts: dict[str, int] = {}
    for word in find_words(f"{post.title} {post.prose}".lower()):
        if len(word) >= LEAST_LETTERS and word not in FUNCTION and re.fullmatch(r"[a-zà-ÿœ]+", word):
            counts[word] = counts.get(word, 0) + 1
    return sorted(counts, key=lambda word: (-counts[word], word))[:TOPIC_WORDS]
