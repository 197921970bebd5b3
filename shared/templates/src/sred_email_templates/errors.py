"""What can be wrong: with the files of a template, or with what a caller wants to put into it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SourceProblem:
    """One thing wrong with a file.

    Attributes:
        file: The file, or the folder that lacks one.
        line: From 1; None: the file as a whole.
        reason: What is wrong and how to mend it.
    """

    file: Path
    line: int | None
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}" if self.line else f"{self.file}: {self.reason}"


class BrokenTemplatesError(Exception):
    """Files of templates are wrong; the message has one line for each problem."""

    def __init__(self, problems: Sequence[SourceProblem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class VariableProblem:
    """One thing wrong with one variable.

    Attributes:
        name: Of the variable, for example ``reset_url`` or ``lines[2].amount``; empty: of all of them together.
        description: What is wrong and how to mend it, without the variable's content.
    """

    name: str
    description: str


class UnusableVariablesError(Exception):
    """Variables are missing or wrong, each one named."""

    def __init__(self, problems: Sequence[VariableProblem]) -> None:
        super().__init__("; ".join(f"{problem.name or 'variables'} {problem.description}" for problem in problems))
        self.problems = problems


class UnknownTemplateError(Exception):
    """There is no template of this id; the message names those that there are."""

    def __init__(self, known: Sequence[str]) -> None:
        super().__init__(f"is no template known here: one of {', '.join(known)}")
