"""Which pictures of a folder may be trained on: a manifest says who made each and under which licence.

`LICENCES.csv` (with a header) or `sources.json` (a list of objects) gives for each picture: file, title, author,
licence, url; and optionally `matte`, a grey picture of the same size that covers the person. Only public domain, CC0,
CC BY and CC BY-SA are accepted. Whatever else lies in the folder is refused by name.
"""

import csv
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MANIFESTS = ("sources.json", "LICENCES.csv")
FIELDS = ("file", "title", "author", "licence", "url")
ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".avif")
_VERSION = r"(?: v?(?:1\.0|2\.0|2\.5|3\.0|4\.0)(?: (?:unported|international|generic|[a-z]{2}))?)?"
_LICENCES = (
    ("public domain", re.compile(r"(?:public domain|pd)(?: (?:mark(?: 1\.0)?|us gov(?:ernment)?|dedication))?")),
    ("CC0", re.compile(r"cc ?0(?: 1\.0(?: universal)?)?|cc zero")),
    ("CC BY", re.compile(rf"cc by{_VERSION}|creative commons attribution{_VERSION}")),
    ("CC BY-SA", re.compile(rf"cc by sa{_VERSION}|creative commons attribution share ?alike{_VERSION}")),
)


class BadManifest(ValueError):
    """A folder's manifest is missing or malformed; the message gives the reason."""


@dataclass(frozen=True)
class Source:
    """A picture with its attribution."""

    file: str
    title: str
    author: str
    licence: str
    """As the manifest gives it."""
    url: str
    matte: str = ""


@dataclass(frozen=True)
class Refusal:
    file: str
    reason: str


def accepted_licence(text: str) -> str | None:
    """The licence that a manifest's text names, if it is one that allows training; otherwise None."""
    plain = " ".join(re.sub(r"[-_/,()]", " ", text.lower()).split())
    return next((name for name, pattern in _LICENCES if pattern.fullmatch(plain)), None)


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        if path.suffix == ".csv":
            with path.open(newline="", encoding="utf-8") as lines:
                return [{k: v or "" for k, v in row.items() if k} for row in csv.DictReader(lines)]
        rows = json.loads(path.read_text("utf-8"))
    except (ValueError, csv.Error) as error:
        raise BadManifest(f"{path} cannot be read: {error}") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise BadManifest(f"{path} is not a list of objects with {', '.join(FIELDS)}")
    return [{str(k): str(v) for k, v in row.items()} for row in rows]


def sources(folder: Path) -> tuple[list[Source], list[Refusal]]:
    """The pictures of a folder that may be trained on, and the others with reasons. Raises BadManifest."""
    path = next((folder / name for name in MANIFESTS if (folder / name).is_file()), None)
    if path is None:
        raise BadManifest(f"{folder} has neither {' nor '.join(MANIFESTS)}: list each picture's {', '.join(FIELDS)}")
    accepted: list[Source] = []
    refused: list[Refusal] = []
    named: set[str] = set()
    for row in _rows(path):
        source = Source(**{name: row.get(name, "").strip() for name in (*FIELDS, "matte")})
        named |= {source.file, source.matte}
        reason = _refusal(folder, source)
        if reason:
            refused.append(Refusal(source.file, reason))
        else:
            accepted.append(source)
    unnamed = [p.name for p in sorted(folder.iterdir()) if p.suffix.lower() in ENDINGS and p.name not in named]
    refused += [Refusal(name, f"{path.name} does not give its licence") for name in unnamed]
    return accepted, refused


def _refusal(folder: Path, source: Source) -> str:
    """Why a picture of a manifest is not used; empty if it is."""
    if not source.file or not (folder / source.file).resolve().is_relative_to(folder.resolve()):
        return "the manifest names no file within the folder"
    missing = [name for name in (source.file, source.matte) if name and not (folder / name).is_file()]
    if missing:
        return f"{missing[0]} does not exist in {folder}"
    licence = accepted_licence(source.licence)
    if licence is None:
        allowed = ", ".join(name for name, _ in _LICENCES)
        return f"its licence {source.licence!r} is not one of {allowed}"
    if licence.startswith("CC BY") and not (source.author and source.url):
        return f"{licence} asks for attribution, and the manifest gives no {'url' if source.author else 'author'}"
    return ""


def attribution(sources: Sequence[Source]) -> list[dict[str, str]]:
    """What a set says about each of its pictures."""
    return [{name: getattr(source, name) for name in FIELDS} for source in sources]
