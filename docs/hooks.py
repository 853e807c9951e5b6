"""Hooks of the docs site (mkdocs.yml): pages from elsewhere in the tree, links as they are on disk, nothing fetched."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent

ELSEWHERE = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/README.md": "measuring.md",
    "clients/PROTOCOL.md": "protocol.md",
    "clients/element/README.md": "element.md",
    "clients/page/icon.svg": "assets/icon.svg",
    "clients/python/README.md": "python-client.md",
    "examples/bot/README.md": "example-bot.md",
    "kernels/README.md": "kernels.md",
    "streamer/weights/articulation.md": "weights/articulation.md",
    "streamer/weights/face.md": "weights/face.md",
    "streamer/weights/face_rig.md": "weights/face_rig.md",
    "streamer/weights/mediapipe/README.md": "weights/mediapipe/README.md",
    "streamer/weights/nano.md": "weights/nano.md",
}
"""Files that stay beside what they describe, and their places in the site."""

_FENCE = re.compile(r"^ *(```|~~~)")
_LINK = re.compile(r'(?P<image>!?)\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<target>[^)\s]+)(?P<title>\s+"[^"]*")?\)')
_ITEM = re.compile(r"^([-*+]|1[.)]) ")
_FETCHED = re.compile(r'<(?:script|link|img|iframe|source|video|audio)\b[^>]*\b(?:src|href)="(?:https?:)?//[^"]*"')


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages that lie elsewhere."""
    for name, place in ELSEWHERE.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Links name files of the tree: they lead to the site's page, or become text where the site has none."""
    source = Path(page.file.abs_src_path).resolve()
    lines, code, listed, before = [], False, False, ""
    for line in markdown.splitlines():
        if _FENCE.match(line):
            code = not code
        elif not code:
            # GitHub lets a list follow a paragraph at once; Python-Markdown wants an empty line between.
            item = _ITEM.match(line) is not None
            if item and before.strip() and not listed and not before.startswith("#"):
                lines.append("")
            listed = item or (listed and (bool(before.strip()) or line.startswith(" ") or not line.strip()))
            line = _LINK.sub(lambda link: _followed(link, source, page.file.src_uri, config), line)
        lines.append(line)
        before = line
    return "\n".join(lines) + "\n"


def _followed(link: re.Match[str], source: Path, page: str, config: Any) -> str:
    path, hash_, anchor = link["target"].partition("#")
    if not path or re.match(r"[a-z][a-z0-9+.-]*:", path):
        return link[0]  # within the page, or on the web
    target = (source.parent / path).resolve()
    if not target.exists() or not target.is_relative_to(ROOT):
        return link[0]  # MkDocs warns of it
    docs = Path(config.docs_dir).resolve()
    if target.is_relative_to(docs) and target.is_file():
        place = target.relative_to(docs).as_posix()
    else:
        place = ELSEWHERE.get(target.relative_to(ROOT).as_posix(), "")
    if not place:
        return link["text"] if not link["image"] else link[0]
    found = posixpath.relpath(place, posixpath.dirname(page))
    return f"{link['image']}[{link['text']}]({found}{hash_}{anchor}{link['title'] or ''})"


def on_post_build(config: Any) -> None:
    """Raises PluginError where a page of the site would fetch something from another host."""
    for path in Path(config.site_dir).rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        if found := _FETCHED.search(text):
            raise PluginError(f"{path.name} fetches from another host: {found[0][:200]}")
        if 'class="mermaid"' in text:
            raise PluginError(f"{path.name} has a Mermaid diagram: the theme fetches its script from another host")
