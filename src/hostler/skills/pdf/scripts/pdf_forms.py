"""Lists and fills in the fields of PDF forms."""

from __future__ import annotations

import argparse

from command import Problem, json_of, show_json
from pdf_pages import save
from pdf_read import opened
from pypdf import PdfReader, PdfWriter
from pypdf.generic import NameObject

_KINDS = {"/Tx": "text", "/Btn": "button", "/Ch": "choice", "/Sig": "signature"}
_TRUE = (True, "yes", "true", "on", "x", 1)


def fields(arguments: argparse.Namespace) -> None:
    show_json(
        [_field(name, field) for name, field in sorted(_fields(opened(arguments.file, arguments.password)).items())]
    )


def _fields(reader: PdfReader) -> dict:
    """The fields that take a value, by their whole name."""
    return {name: field for name, field in (reader.get_fields() or {}).items() if field.get("/FT")}


def _field(name: str, field: dict) -> dict[str, object]:
    found: dict[str, object] = {
        "name": name,
        "type": _KINDS.get(str(field.get("/FT")), "other"),
        "value": field.get("/V"),
    }
    if label := field.get("/TU"):
        found["label"] = label
    if found["type"] == "button":
        found["values"] = [str(state) for state in field.get("/_States_", [])]
    if found["type"] == "choice":
        found["values"] = [str(option[0] if isinstance(option, list) else option) for option in field.get("/Opt", [])]
    if int(field.get("/Ff", 0)) & 2:
        found["required"] = True
    return found


def fill(arguments: argparse.Namespace) -> None:
    values = json_of(arguments.json)
    if not isinstance(values, dict) or not values:
        raise Problem(f"{arguments.json}: expected an object of field names and values")
    reader = opened(arguments.file, arguments.password)
    known = _fields(reader)
    if not known:
        raise Problem(f"{arguments.file}: it has no form fields; write onto the page with watermark --stamp instead")
    if unknown := [name for name in values if name not in known]:
        raise Problem(f"there are no such fields: {', '.join(unknown)}; see the command fields")
    wanted = {name: _value(name, known[name], value) for name, value in values.items()}
    writer = PdfWriter(clone_from=reader)
    for page in writer.pages:
        if page.get("/Annots"):
            writer.update_page_form_field_values(page, wanted, auto_regenerate=False, flatten=arguments.flatten)
    if arguments.flatten:
        writer.remove_annotations(subtypes="/Widget")
        writer._root_object.pop(NameObject("/AcroForm"), None)
    save(writer, arguments.out)


def _value(name: str, field: dict, value: object) -> str:
    """The value as the field takes it: for a box that is ticked, the name of its state."""
    found = _field(name, field)
    if found["type"] == "signature":
        raise Problem(f"{name} is for a signature, which cannot be filled in")
    if found["type"] == "button":
        states = [state for state in found["values"] if state != "/Off"]  # type: ignore[attr-defined]
        if isinstance(value, str) and f"/{value.lstrip('/')}" in states:
            return f"/{value.lstrip('/')}"
        ticked = value in _TRUE if not isinstance(value, str) else value.lower() in _TRUE
        if not ticked and value not in (False, None, "", 0, "no", "false", "off", "/Off"):
            raise Problem(f"{name} takes {', '.join(states)}, true or false, not {value!r}")
        return (states[0] if states else "/Yes") if ticked else "/Off"
    choices = found.get("values")
    if choices and str(value) not in choices:  # type: ignore[operator]
        raise Problem(f"{name} takes one of {choices}, not {value!r}")
    return "" if value is None else str(value)
