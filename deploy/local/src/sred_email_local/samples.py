"""One email of each kind, as SREDSimplify might send them."""

from dataclasses import dataclass

import jinja2

_templates = jinja2.Environment(loader=jinja2.PackageLoader("sred_email_local"), autoescape=True)
_SITE = "https://app.sredsimplify.example"


@dataclass(frozen=True, slots=True)
class Sample:
    """An email to try the system with.

    Attributes:
        kind: Name of its `EmailKind`, without prefix.
        person: To whom it goes: the part before the `@`.
        preview: What mail programs show beside the subject.
        footer: Why it was sent.
    """

    kind: str
    person: str
    subject: str
    preview: str
    title: str
    paragraphs: tuple[str, ...]
    button: str
    link: str
    footer: str

    def html(self) -> str:
        """The body for mail programs that show HTML."""
        return _templates.get_template("sample.html").render(sample=self)

    def text(self) -> str:
        """The body for those that do not."""
        return "\n\n".join(
            (self.title, *self.paragraphs, f"{self.button}: {self.link}", f"SREDSimplify\n{self.footer}")
        )


SAMPLES = (
    Sample(
        kind="WELCOME",
        person="ada",
        subject="Welcome to SREDSimplify, Ada",
        preview="Your first SR&ED claim, in four calm steps.",
        title="Good to have you here, Ada",
        paragraphs=(
            (
                "Your workspace for Northwind Robotics is ready. From the work that your team records "
                "anyway, SREDSimplify makes a complete SR&ED claim: projects, hours and the technical "
                "narrative that the CRA asks for."
            ),
            "Connect your issue tracker first. Most teams see their first eligible project within ten minutes.",
        ),
        button="Open your workspace",
        link=f"{_SITE}/start",
        footer="You get this email because an account was made with this address.",
    ),
    Sample(
        kind="EMAIL_CONFIRMATION",
        person="grace",
        subject="Confirm your email address",
        preview="One click, and your account is safe to use.",
        title="Is this your address, Grace?",
        paragraphs=(
            "Please confirm that this address is yours, so that claim documents reach you and nobody else.",
            "The link works for 24 hours. If you did not sign up, you can ignore this email.",
        ),
        button="Confirm my address",
        link=f"{_SITE}/confirm/8f2b1c",
        footer="You get this email because somebody signed up with this address.",
    ),
    Sample(
        kind="PASSWORD_RESET",
        person="linus",
        subject="Reset your password",
        preview="The link works for one hour.",
        title="Choose a new password",
        paragraphs=(
            "Somebody, hopefully you, asked for a new password for this account.",
            "The link works once and for one hour. If it was not you, nothing has changed: you can ignore this email.",
        ),
        button="Choose a new password",
        link=f"{_SITE}/reset/5d90aa",
        footer="You get this email because a new password was asked for.",
    ),
    Sample(
        kind="SUBSCRIPTION_CHANGED",
        person="margaret",
        subject="Your plan is now Team",
        preview="Ten seats, shared projects, and a reviewer before you file.",
        title="Welcome to the Team plan",
        paragraphs=(
            (
                "From today your plan is Team: ten seats, shared projects, and a technical reviewer for "
                "each claim before you file it."
            ),
            "The change costs CA$240 a month, and your next invoice comes on the first. Nothing else changes for you.",
        ),
        button="See your plan",
        link=f"{_SITE}/settings/plan",
        footer="You get this email because you manage the billing of Northwind Robotics.",
    ),
    Sample(
        kind="QUOTA_WARNING",
        person="alan",
        subject="You have used 80 % of this month's document analyses",
        preview="160 of 200, with eleven days to go.",
        title="160 of 200 analyses are used",
        paragraphs=(
            "Your team has analysed 160 of its 200 documents this month, and there are eleven days to go.",
            "Nothing stops today. At 200, new documents wait until the first of the month, or until you add more.",
        ),
        button="Add more analyses",
        link=f"{_SITE}/settings/usage",
        footer="You get this email because you are an administrator of Northwind Robotics.",
    ),
    Sample(
        kind="SYSTEM_NOTIFICATION",
        person="katherine",
        subject="Planned maintenance on Sunday at 22:00 Eastern",
        preview="About twenty minutes, read-only.",
        title="Twenty minutes of maintenance on Sunday",
        paragraphs=(
            (
                "On Sunday from 22:00 to about 22:20 Eastern time, SREDSimplify can be read but not "
                "changed, while we move to a larger database in Montréal."
            ),
            "Claims in progress are kept. You need not do anything.",
        ),
        button="Follow on the status page",
        link="https://status.sredsimplify.example",
        footer="You get this email because you have an open claim.",
    ),
)
