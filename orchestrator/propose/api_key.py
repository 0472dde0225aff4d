"""The API key: from the environment or from a file that only its owner can read. Never printed, never passed on."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from pydantic import SecretStr

from orchestrator.errors import ConfigError

VARIABLE = "ANTHROPIC_API_KEY"
MAX_BYTES = 4096
OTHERS = stat.S_IRWXG | stat.S_IRWXO


def find_api_key(environment: Mapping[str, str], key_file: Path | None, *, is_needed: bool = True) -> SecretStr:
    """Return the key; an empty one if the endpoint needs none. Raises ConfigError, which never quotes the key."""
    if key_file is not None:
        return _usable(_read(key_file), str(key_file))
    if text := environment.get(VARIABLE, ""):
        return _usable(text, VARIABLE)
    if not is_needed:
        return SecretStr("")
    raise ConfigError(
        f"{VARIABLE} is not set: set it, or name a file of mode 600 as [claude] key_file,"
        " or use --proposer sweep, which needs no key"
    )


def _read(path: Path) -> str:
    """Return the content of a regular file that only its owner can read; raise ConfigError for any other."""
    try:
        descriptor = os.open(path.expanduser(), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ConfigError(
                    f"{path}: not a regular file; [claude] key_file names a file that contains only the key"
                )
            if status.st_mode & OTHERS:
                raise ConfigError(
                    f"{path}: has mode {stat.S_IMODE(status.st_mode):o}, others can read the key; chmod 600 {path}"
                )
            return file.read(MAX_BYTES + 1).decode("ascii", "replace")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; fix [claude] key_file") from error


def _usable(text: str, where: str) -> SecretStr:
    """Return the key; a line of a shell script and quotes are accepted. Raises ConfigError."""
    key = text.strip().removeprefix("export ").removeprefix(f"{VARIABLE}=").strip("\"'")
    if not key or len(key) > MAX_BYTES or not (key.isascii() and key.isprintable()) or " " in key:
        raise ConfigError(f"{where}: not a valid key: expected one line of printable characters, no spaces")
    return SecretStr(key)
