"""The VOTable header that a Parquet file carries, so that Virtual Observatory tools know its units and UCDs.

Reference: the VOParquet convention, https://www.ivoa.net/documents/Notes/voparquet
"""

__all__ = ["votable_header"]

from collections.abc import Sequence
from typing import TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:
    from astroflow.catalogs.posterior_columns import OutputColumn

DATATYPES = {
    "int64": {"datatype": "long"},
    "int32": {"datatype": "int"},
    "int8": {"datatype": "short"},
    "float64": {"datatype": "double"},
    "float32": {"datatype": "float"},
    "string": {"datatype": "char", "arraysize": "*"},
}


def votable_header(columns: "Sequence[OutputColumn]") -> str:
    """Return a VOTable document without data that describes the columns; nested columns are left out."""
    root = ElementTree.Element("VOTABLE", version="1.4", xmlns="http://www.ivoa.net/xml/VOTable/v1.3")
    table = ElementTree.SubElement(ElementTree.SubElement(root, "RESOURCE"), "TABLE")
    for column in columns:
        if column.type not in DATATYPES:
            continue
        about = {"name": column.name, "unit": column.unit.replace(" ", "."), "ucd": column.ucd} | DATATYPES[column.type]
        field = ElementTree.SubElement(table, "FIELD", {key: text for key, text in about.items() if text})
        ElementTree.SubElement(field, "DESCRIPTION").text = column.description
    return ElementTree.tostring(root, encoding="unicode")
