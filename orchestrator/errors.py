"""The exceptions of the project.

AutoresearchError
├── ConfigError           a file, flag or variable is wrong: names it, its value and the fix
├── PatchRejected         the patch is refused; the message is the answer to the LLM
├── SandboxError          we or the engine failed, never the patch's fault
│   ├── EngineUnavailable no engine answers, or it died
│   ├── ImageMissing      the image is missing or is not the requested one
│   ├── SpecRefused       a container spec weakens a wall, or the engine changed it behind our back
│   ├── LeaseUnavailable  no device could be leased in time
│   └── RecordFailed      the record cannot be written: disk full, read-only, locked
├── ProposerUnavailable   no idea can be had now: the API is down for longer than we wait
├── BudgetExhausted       the next call could cross a hard limit, so it was not made
└── JournalError          the record is damaged, or in use by another session
    └── RecordTooNew      it was written by a newer version

PatchRejected is answered to the LLM (proposals.py). A SandboxError ends the experiment that runs as `infra`
(executors/local.py). Everything else, and both of them elsewhere, end the session loudly.
"""


class AutoresearchError(Exception):
    """Root of the tree. Its message is one line for a person: what, which value, how to fix it."""


class ConfigError(AutoresearchError):
    """A file, flag or variable is wrong."""


class PatchRejected(AutoresearchError):
    """The patch is refused before anything ran; the message tells the LLM what to fix."""


class SandboxError(AutoresearchError):
    """We or the engine failed; never blamed on the patch."""


class EngineUnavailable(SandboxError):
    """No container engine answers, or it died."""


class ImageMissing(SandboxError):
    """The image is missing or is not the requested one."""


class SpecRefused(SandboxError):
    """A container spec weakens a wall, or the engine's read-back differs from it."""


class LeaseUnavailable(SandboxError):
    """No device could be leased in time."""


class RecordFailed(SandboxError):
    """The record cannot be written: disk full, read-only, locked."""


class ProposerUnavailable(AutoresearchError):
    """No idea can be had now."""


class BudgetExhausted(AutoresearchError):
    """The next call could cross a hard limit, so it was not made."""


class JournalError(AutoresearchError):
    """The record is damaged, or in use by another session."""


class RecordTooNew(JournalError):
    """The record was written by a newer version."""


class RecordChanged(JournalError):
    """The record no longer holds a line that its index was built from."""
