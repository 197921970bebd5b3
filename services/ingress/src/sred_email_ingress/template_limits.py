"""What may stand in ``template``, whichever templates there are: bounds that keep rendering quick."""

from google.protobuf.struct_pb2 import Struct, Value

from sred.email.v1.email_pb2 import TemplateContent
from sred_email_core.errors import FieldViolation
from sred_email_templates import MAX_RENDERED_CHARACTERS

MAX_VARIABLE_BYTES = 64 * 1024
MAX_VALUES = 2000
MAX_DEPTH = 5
MAX_RENDERED_BYTES = 2 * 4 * MAX_RENDERED_CHARACTERS
"""Of html and text together, in UTF-8."""


def template_violations(template: TemplateContent) -> list[FieldViolation]:
    """Find what is wrong, whichever templates there are; what the wanted one needs is its own affair."""
    found = [] if template.template_id else [FieldViolation("template.template_id", "is required")]
    violation = _variables_violation(template.variables)
    return [*found, violation] if violation else found


def _variables_violation(variables: Struct) -> FieldViolation | None:
    if variables.ByteSize() > MAX_VARIABLE_BYTES:
        return FieldViolation("template.variables", f"are larger than {MAX_VARIABLE_BYTES >> 10} kB together")
    level: list[Value] = list(variables.fields.values())
    values = 0
    for _ in range(MAX_DEPTH):
        if not level:
            return None
        values += len(level)
        if values > MAX_VALUES:
            return FieldViolation("template.variables", f"hold more than {MAX_VALUES} values")
        if any(value.WhichOneof("kind") is None for value in level):
            return FieldViolation("template.variables", "hold a value of no type that is known here")
        level = [inner for value in level for inner in _inner(value)]
    return FieldViolation("template.variables", f"lie in each other more than {MAX_DEPTH} deep") if level else None


def _inner(value: Value) -> list[Value]:
    match value.WhichOneof("kind"):
        case "struct_value":
            return list(value.struct_value.fields.values())
        case "list_value":
            return list(value.list_value.values)
    return []
