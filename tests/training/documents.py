"""Reading a page as a browser does, without one: its text, and what is wrong with it."""

import re
from collections import Counter
from html.parser import HTMLParser
from xml.etree import ElementTree

VOID = {"br", "col", "hr", "img", "input", "link", "meta"}
LOADS = {"src", "srcset", "href", "xlink:href", "action", "data", "poster", "background", "formaction", "ping"}


class Document(HTMLParser):
    """`problems` are tags that do not match, ids that are there twice or missing, and anything that would be loaded."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.problems: list[str] = []
        self.elements: Counter[str] = Counter()
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.sections: list[str] = []
        self.feed(html)
        self.close()
        self.problems += [f"<{tag}> is never closed" for tag in self.open]
        self._check_references(html)
        for svg in re.findall(r"<svg.*?</svg>", html, re.DOTALL):
            ElementTree.fromstring(svg)  # raises where it is not well-formed

    @property
    def text(self) -> str:
        """Everything that is read, on one line."""
        return " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]
        if len({name for name, _ in attrs}) < len(attrs):
            self.problems.append(f"<{tag}> has an attribute twice")
        if tag == "section":
            self.sections += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"</{tag}> closes nothing")

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.texts.append(data)

    def _check_references(self, html: str) -> None:
        ids = Counter(value for name, value in self.attributes if name == "id")
        self.problems += [f"the id {name} is there {times} times" for name, times in ids.items() if times > 1]
        links = [value for name, value in self.attributes if name in LOADS]
        links += re.findall(r"url\(\s*[\"']?([^)\"']*)", html)
        for link in links:
            if link.startswith("#"):
                if link[1:] not in ids:
                    self.problems.append(f"nothing has the id of {link}")
            elif link != "data:,":
                self.problems.append(f"loads {link}")
        self.problems += [f"has <{tag}>" for tag in ("script", "iframe", "object", "embed") if self.elements[tag]]
        self.problems += [f"has {name}" for name, _ in self.attributes if name.startswith("on")]
        self.problems += ["imports a style"] if "@import" in html else []
