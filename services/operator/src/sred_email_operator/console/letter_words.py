"""What the console says before and after something is done with dead letters."""

from dataclasses import dataclass

from sred_email_operator.console.letter_choice import Deed


@dataclass(frozen=True, slots=True)
class Asked:
    """Dead letters that something is to be done with.

    Attributes:
        letters: How many.
        at_least: Whether there are more than that.
        risky: Of how many the recipient may have the email already, and a replay may be a second one.
        repeatable: Of how many an attempt may have been accepted, but a repeat is recognized.
        never: How many no replay takes.
    """

    letters: int
    at_least: bool = False
    risky: int = 0
    repeatable: int = 0
    never: int = 0


@dataclass(frozen=True, slots=True)
class Question:
    """What the page that asks says; ``verb`` is on its button."""

    title: str
    lines: list[str]
    danger: str
    verb: str


def question(deed: Deed, asked: Asked) -> Question:
    """What is asked before it is done."""
    how_many = f"{'more than ' if asked.at_least else ''}{_letters(asked.letters)}"
    if deed is Deed.REPLAY:
        danger = _DOUBLE.format(_of(asked.risky)) if asked.risky else ""
        return Question(f"Send {how_many} again?", _lines_of_replay(asked), danger, "Send again")
    if deed is Deed.DISCARD:
        lines = ["Nothing is sent. The emails stay FAILED, and whoever asks for them is told so."]
        danger = "The content is thrown away with the letters: they can't be sent again, and this can't be undone."
        return Question(f"Throw {how_many} away?", lines, danger, "Throw away")
    delivered = deed is Deed.DELIVERED
    lines = [
        "Nothing is sent. "
        + ("The emails end SUCCESS." if delivered else "The emails stay FAILED.")
        + " The letters are gone, and so is their content: this can't be undone.",
        "Do this when you know it, from the provider's log or from the recipient.",
    ]
    title = f"Record that {how_many} {'was' if asked.letters == 1 else 'were'} {'' if delivered else 'not '}delivered?"
    return Question(title, lines, "", "Record it")


def said(deed: Deed, done: int, skipped: int = 0, left: int = 0) -> str:
    """What was done."""
    words = {
        Deed.REPLAY: "sent again",
        Deed.DISCARD: "thrown away",
        Deed.DELIVERED: "recorded as delivered",
        Deed.NOT_DELIVERED: "recorded as not delivered",
    }[deed]
    text = f"{_letters(done).capitalize() if done else 'No dead letter'} {words}."
    if left:
        text += f" It was stopped there: {left:,} left."
    if skipped:
        text += f" {skipped:,} left as they are: {_SKIPPED}."
    return text


_SKIPPED = "gone, malformed, or the recipient may have the email already, and that was not ticked"
_DOUBLE = (
    "{} the recipient may have the email already: the provider was asked to send it and never said what came of it, "
    "and it does not recognize a repeat any more. Sent again, it may arrive twice. Look into the provider's log first. "
    "Unless you tick the box, these are left as they are."
)


def _lines_of_replay(asked: Asked) -> list[str]:
    lines = ["The emails are sent as they were accepted, the oldest first. Their count of attempts starts anew."]
    if asked.repeatable:
        lines.append(
            f"{_of(asked.repeatable)} an attempt may have been accepted. As long as the provider recognizes the "
            "request, it is repeated as it was, and nobody gets a second email; later, the letter is left as it is."
        )
    if asked.never:
        lines.append(
            f"{asked.never:,} of them can't be sent like this (MALFORMED never, POISON one by one): they stay."
        )
    return lines


def _letters(number: int) -> str:
    return "1 dead letter" if number == 1 else f"{number:,} dead letters"


def _of(number: int) -> str:
    return f"Of {number:,} of them" if number > 1 else "Of one of them"
