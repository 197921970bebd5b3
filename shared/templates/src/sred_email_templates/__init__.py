"""The emails of the product: what they say, how they look, and what callers may put into them."""

from sred_email_templates.book import TemplateBook, load_templates
from sred_email_templates.errors import (
    BrokenTemplatesError,
    SourceProblem,
    UnknownTemplateError,
    UnusableVariablesError,
    VariableProblem,
)
from sred_email_templates.product import Product
from sred_email_templates.template import MAX_RENDERED_CHARACTERS, EmailTemplate, RenderedEmail

__all__ = [
    "MAX_RENDERED_CHARACTERS",
    "BrokenTemplatesError",
    "EmailTemplate",
    "Product",
    "RenderedEmail",
    "SourceProblem",
    "TemplateBook",
    "UnknownTemplateError",
    "UnusableVariablesError",
    "VariableProblem",
    "load_templates",
]
