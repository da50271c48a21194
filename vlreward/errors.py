"""The three things that can go wrong, by whose fault it is. The command line turns the first two into one line and exit code 2."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

REFUSED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)


class UserError(Exception):
    """Something the person at the keyboard can mend; shown as one line, without a traceback."""


class ConfigError(UserError):
    """A key or value of the configuration is wrong. `key` is its dotted path; the loader adds file and line."""

    def __init__(self, problem: str, key: str = "", where: str = ""):
        self.problem, self.key, self.where = problem, key, where
        super().__init__(": ".join(part for part in (where, key, problem) if part))


@contextmanager
def under(key: str) -> Iterator[None]:
    """What a ConfigError raised inside is about lies below `key`."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(error.problem, ".".join(filter(None, (key, error.key))), error.where) from error.__cause__


@contextmanager
def blaming(path: str) -> Iterator[None]:
    """Name the file a wrong value stands in, where it only came out while the run was prepared."""
    try:
        yield
    except ConfigError as error:
        raise error if error.where else ConfigError(error.problem, error.key, path) from error.__cause__


class DataError(UserError):
    """A row, picture or clip of the user's data is missing, broken or empty."""


class RewardError(Exception):
    """The judge broke (not the answer): the rollout gets advantage 0, stays out of its group's statistics and is counted."""


def refused(error: BaseException) -> str | None:
    """What the machine refused where a failure comes from that (a full disk, a file that may not be read or written); else None."""
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, OSError) and chain.errno in REFUSED:
            return f"{chain.filename or 'writing'}: {chain.strerror}"
        if "No space left on device" in str(chain) or "PytorchStreamWriter failed writing" in str(chain):  # safetensors, torch.save
            return "writing: No space left on device"
        chain = chain.__cause__ or chain.__context__
    return None
