"""What the API says when it does not do what it was asked."""

from collections.abc import Mapping


class Refusal(Exception):  # noqa: N818 - an answer of the API, no fault of the program
    """An error answer.

    Source: https://resend.com/docs/api-reference/errors

    Args:
        status: HTTP status, 400 or more.
        name: The API's name of the error, e.g. `validation_error`.
        message: What is wrong, in words.
        headers: Further response headers.
    """

    def __init__(self, status: int, name: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.name = name
        self.message = message
        self.headers = dict(headers or {})

    def body(self) -> dict[str, object]:
        """The JSON body of the answer."""
        return {"statusCode": self.status, "name": self.name, "message": self.message}


def invalid(message: str) -> Refusal:
    """A field holds what it must not."""
    return Refusal(422, "validation_error", message)


def missing(message: str) -> Refusal:
    """A required field is not there."""
    return Refusal(422, "missing_required_field", message)
