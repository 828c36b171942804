"""A job's report as one HTML page that needs nothing from elsewhere: no network, no script, pictures drawn as SVG.

Why no chart library: the lightest ones that keep well add 50 kB to 1 MB of script to a page whose facts are at most
64 kB. Six plain pictures need rectangles and lines. A page without script also opens in a mail reader, and nothing
that a worker wrote can run in it: all foreign text is escaped here, in :func:`_text`.
"""

from __future__ import annotations

import html
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from mapreduce_rq.core.job.timeline import Timeline, cells_of, losses
from mapreduce_rq.core.text import count, duration, plural, short
from mapreduce_rq.core.visible import visible, visible_lines

ROW = 18
MAX_ROWS = 60
MAX_BINS = 1024


class Sheet(NamedTuple):
    """The measures of pictures, in their own units, of which a letter is 12 high: their width, that of the labels at
    the left, and how many parts a time axis has.
    """

    wide: int = 960
    left: int = 150
    parts: int = 4

    def x(self, at: float, seconds: float) -> float:
        """Where a time of so many seconds lies."""
        return self.left + (self.wide - self.left - 20) * min(1.0, max(0.0, at / seconds if seconds > 0 else 0.0))

    def label(self, text: str) -> str:
        """A text that is cut to the width of the labels."""
        return short(text, self.left * 22 // 150)


STYLE = """
:root{color-scheme:light dark;--ink:#1b1f24;--dim:#57606a;--line:#d0d7de;
--page:#fff;--fill:#0969da;--bad:#b3261e;--good:#1a7f37}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--dim:#9198a1;--line:#3d444d;
--page:#0d1117;--fill:#4493f8;--bad:#ff7b72;--good:#3fb950}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--page);max-width:1000px;
margin:0 auto;padding:16px}
h1{font-size:22px;overflow-wrap:anywhere}h2{font-size:17px;margin:28px 0 6px}
p.value{font:18px/1.4 ui-monospace,monospace;overflow-wrap:anywhere}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:2px 12px 2px 0;overflow-wrap:anywhere}
th{font-weight:500;color:var(--dim);white-space:nowrap}svg{width:100%;height:auto;display:block}
pre{overflow-x:auto;white-space:pre-wrap;overflow-wrap:anywhere}
text{fill:var(--dim);font:12px system-ui,sans-serif}.f{fill:var(--fill)}
.l{fill:none;stroke:var(--fill);stroke-width:1.5}
.a{stroke:var(--line)}.m{stroke:var(--bad);stroke-dasharray:3 2}.dim{color:var(--dim)}
figure{margin:0;overflow-x:auto}@media(max-width:760px){figure svg{min-width:720px}}
:focus-visible{outline:2px solid var(--fill);outline-offset:2px}
"""


def page_of(record: Mapping[str, Any], timeline: Timeline | None, sheet: Sheet = Sheet()) -> str:  # noqa: B008  frozen
    """The page for the record of a job that has ended, as `--json` prints it."""
    pictures = _pictures(record, timeline, sheet) if timeline is not None else _nothing()
    body = "\n".join([*_head(record, timeline), *pictures])
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">"
        '<link rel="icon" href="data:,">'
        f"<title>{_text(record['job'])}</title><style>{STYLE}</style></head>"
        f"<body><main>\n{body}\n</main></body></html>\n"
    )


def _text(text: object) -> str:
    """Foreign text as HTML shows it."""
    return html.escape(visible(str(text)))


# -- facts -------------------------------------------------------------------------------------------------------------


def _head(record: Mapping[str, Any], timeline: Timeline | None) -> Iterator[str]:
    yield f"<h1>{_text(record['job'])}: {_text(str(record['state']).partition('-')[0])}</h1>"
    if record.get("value") is not None:
        yield f'<p class="value">{_text(short(str(record["value"]), 2000))}</p>'
    elif record.get("message"):
        yield f'<p class="value">{_text(record.get("kind", ""))}: {_text(record["message"])}</p>'
    yield _table([*_facts(record), *(_course(timeline) if timeline is not None else ())])
    if record.get("traceback"):
        shown = html.escape(visible_lines(str(record["traceback"])))
        yield f"<details><summary>Traceback</summary><pre>{shown}</pre></details>"
    if skipped := record.get("skipped"):
        rows = [(f"term {one['term']}", f"{one['kind']}: {one['message']} ({one['where']})") for one in skipped[:1000]]
        yield f"<details><summary>{plural(len(skipped), 'skipped term')}</summary>{_table(rows)}</details>"
    if retried := record.get("retried"):
        rows = [(f"term {one['term']}", f"{one['tries']} calls: {one['kind']}: {one['message']}") for one in retried]
        yield f"<details><summary>{plural(len(retried), 'term')} tried again</summary>{_table(rows)}</details>"


def _facts(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "computation", str(record["computation"])
    if record.get("params"):
        yield "parameters", short(json.dumps(record["params"], default=str, ensure_ascii=False), 2000)
    if "bound" in record:
        kind = record["bound_kind"]
        yield "error bound", f"{record['bound']} ({kind})" if record["bound"] is not None else "none is known"
    for name, title in (("digest", "digest"), ("terms_used", "terms"), ("tasks", "tasks"), ("workers", "workers")):
        if record.get(name) is not None:
            yield title, str(record[name])
    if record.get("elapsed_s") is not None:
        yield "time", duration(float(record["elapsed_s"]))
    if record.get("ended") not in {None, "all"}:
        yield "ended by", str(record["ended"])
    if record.get("where"):
        yield "where", str(record["where"])
    for note in record.get("notes") or ():
        yield "note", str(note)


def _course(timeline: Timeline) -> Iterator[tuple[str, str]]:
    yield "began", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(min(max(0.0, timeline.began), 4e9)))
    if timeline.master:
        yield "led by", f"{timeline.master.rpartition(':')[0]} with mrq {timeline.version}"
    hosts = sorted({row.wid.partition(":")[0] for row in timeline.rows})
    yield "hosts", ", ".join(hosts) or "none answered"
    if timeline.before:
        yield "before", f"{duration(timeline.before)} of work under earlier masters, which is not in the pictures"


def _table(rows: Sequence[tuple[str, str]]) -> str:
    cells = "".join(f'<tr><th scope="row">{_text(name)}</th><td>{_text(text)}</td></tr>' for name, text in rows)
    return f"<table>{cells}</table>"


def _nothing() -> Iterator[str]:
    yield '<p class="dim">No timeline is kept of this job: an older version led it, or it was too large.</p>'


# -- pictures ----------------------------------------------------------------------------------------------------------


def _pictures(record: Mapping[str, Any], timeline: Timeline, sheet: Sheet) -> Iterator[str]:
    width = timeline.width
    cells = {row.wid: cells_of(row) for row in timeline.rows}
    bins = min(MAX_BINS, max([1, *(one[-1][0] + 1 for one in cells.values() if one)]))
    seconds = max(timeline.seconds, bins * width)
    terms, busy = [0.0] * bins, [0.0] * bins
    for row in cells.values():
        for index, _, size, spent in row:
            if 0 <= index < bins:
                terms[index] += size / width
                busy[index] += min(1.0, spent / 1e6 / width)
    yield from _section("Workers over time", "A darker cell is a busier one.", _gantt(sheet, timeline, seconds))
    label = f"at most {count(max(terms))} terms/s"
    yield from _section("Throughput", label, _columns(sheet, terms, width, seconds, timeline))
    label = f"at most {max(busy):.3g} at work at one time"
    yield from _section("Busy workers", label, _columns(sheet, busy, width, seconds, timeline))
    if picture := _convergence(sheet, record, timeline, seconds):
        yield from _section("Error of the running value", "Logarithmic, as its master stated it.", picture)
    yield from _section(
        "Time of a task", "Tasks that were answered together count with their mean.", _histogram(sheet, timeline)
    )
    lost = losses(timeline)
    whole = sum((lost.computing, lost.before, lost.between, lost.after)) or 1.0
    rows = [
        (title, f"{duration(spent)} ({100 * spent / whole:.1f} %)")
        for title, spent in (
            ("computing", lost.computing),
            ("before a worker's first work", lost.before),
            ("between tasks", lost.between),
            ("after its last answer", lost.after),
        )
    ]
    yield f"<h2>Where the workers' time went</h2>{_table(rows)}"
    if timeline.marks:
        marks = [(f"{mark.at:.2f} s", mark.text) for mark in timeline.marks]
        more = [("", f"and {timeline.more_marks} more")] if timeline.more_marks else []
        yield f"<h2>What happened</h2>{_table([*marks, *more])}"
    if timeline.longest:
        longest = [
            (duration(one.seconds), f"terms {one.lo}..{one.hi} on {one.wid}, done at {one.end:.2f} s")
            for one in timeline.longest
        ]
        yield f"<details><summary>The longest tasks</summary>{_table(longest)}</details>"


def _section(title: str, words: str, picture: str) -> Iterator[str]:
    yield f'<h2>{_text(title)}</h2><figure tabindex="0" aria-label="{_text(title)}. {_text(words)}">{picture}'
    yield f'<figcaption class="dim">{_text(words)}</figcaption></figure>'


def _svg(sheet: Sheet, height: float, parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {sheet.wide} {height:.0f}" role="img" aria-hidden="true">{"".join(parts)}</svg>'


def _moment(at: float, seconds: float) -> str:
    """A time on an axis of this length: in one unit on all of the axis, and no two of its labels are the same."""
    if seconds < 1:
        return f"{1000 * at:.3g} ms"
    return f"{at:.3g} s" if seconds < 100 else duration(at)


def _axis(sheet: Sheet, top: float, seconds: float, marks: Timeline) -> Iterator[str]:
    yield f'<line class="a" x1="{sheet.left}" x2="{sheet.wide - 20}" y1="{top}" y2="{top}"/>'
    for part in range(sheet.parts + 1):
        at = seconds * part / sheet.parts
        anchor = "start" if part == 0 else "end" if part == sheet.parts else "middle"
        x, moment = sheet.x(at, seconds), _moment(at, seconds)
        yield f'<text x="{x:.1f}" y="{top + 14}" text-anchor="{anchor}">{moment}</text>'
    for mark in marks.marks:
        x = sheet.x(mark.at, seconds)
        yield f'<line class="m" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{top}"><title>{_text(mark.text)}</title></line>'


def _gantt(sheet: Sheet, timeline: Timeline, seconds: float) -> str:
    parts: list[str] = []
    shown = timeline.rows[:MAX_ROWS]
    for number, row in enumerate(shown):
        y = number * ROW
        name = row.wid.rpartition(":")[0] or row.wid
        parts.append(f'<text x="0" y="{y + 13}">{_text(sheet.label(name))}</text>')
        for index, tasks, size, spent in cells_of(row):
            left = sheet.x(index * timeline.width, seconds)
            long = max(0.5, sheet.x((index + 1) * timeline.width, seconds) - left)
            share = min(1.0, spent / 1e6 / timeline.width)
            words = f"{duration(index * timeline.width)}: {plural(tasks, 'task')}, "
            words += plural(size, "term", shown=count(size))
            words += f", {100 * share:.0f} % busy"
            parts.append(
                f'<rect class="f" x="{left:.1f}" y="{y + 2}" width="{long:.1f}" height="{ROW - 4}" '
                f'opacity="{0.12 + 0.88 * share:.2f}"><title>{words}</title></rect>'
            )
    bottom = len(shown) * ROW + 4
    if len(timeline.rows) > MAX_ROWS:
        parts.append(f'<text x="0" y="{bottom + 14}">and {len(timeline.rows) - MAX_ROWS} more</text>')
    return _svg(sheet, bottom + 20, [*parts, *_axis(sheet, bottom, seconds, timeline)])


def _columns(sheet: Sheet, values: Sequence[float], width: float, seconds: float, timeline: Timeline) -> str:
    top = max(values) or 1.0
    parts = [f'<text x="0" y="12">{count(top)}</text>', '<text x="0" y="100">0</text>']
    for index, value in enumerate(values):
        if value > 0:
            left, high = sheet.x(index * width, seconds), 96 * value / top
            long = max(0.5, sheet.x((index + 1) * width, seconds) - left)
            parts.append(
                f'<rect class="f" x="{left:.1f}" y="{100 - high:.1f}" width="{long:.1f}" height="{high:.1f}">'
                f"<title>{duration(index * width)}: {count(value)}</title></rect>"
            )
    return _svg(sheet, 120, [*parts, *_axis(sheet, 100, seconds, timeline)])


def _convergence(sheet: Sheet, record: Mapping[str, Any], timeline: Timeline, seconds: float) -> str:
    found = [(one.at, one.error) for one in timeline.points if one.error is not None and _plottable(one.error)]
    try:
        last = float(record.get("bound") or 0)
    except ValueError:
        last = 0.0
    if _plottable(last):
        found.append((timeline.seconds, last))
    if len(found) < 2:
        return ""
    logs = [math.log10(error) for _, error in found]
    low, high = math.floor(min(logs)), math.ceil(max(logs))
    high = max(high, low + 1)
    places = [
        f"{sheet.x(at, seconds):.1f},{4 + 92 * (high - one) / (high - low):.1f}"
        for (at, _), one in zip(found, logs, strict=True)
    ]
    parts = [f'<text x="0" y="12">1e{high}</text>', f'<text x="0" y="100">1e{low}</text>']
    parts.append(f'<polyline class="l" points="{" ".join(places)}"/>')
    return _svg(sheet, 120, [*parts, *_axis(sheet, 100, seconds, timeline)])


def _plottable(error: float) -> bool:
    return 0 < error < math.inf


def _histogram(sheet: Sheet, timeline: Timeline) -> str:
    used = [bits for bits, tasks in enumerate(timeline.buckets) if tasks]
    if not used:
        return _svg(sheet, 20, ['<text x="0" y="14">no task was answered</text>'])
    first, last = used[0], used[-1]
    most = max(timeline.buckets)
    parts = []
    for number, bits in enumerate(range(first, last + 1)):
        tasks = timeline.buckets[bits]
        y = number * ROW
        long = (sheet.wide - sheet.left - 120) * tasks / most
        parts.append(f'<text x="0" y="{y + 13}">under {_moment(2**bits / 1e9, 2**bits / 1e9)}</text>')
        parts.append(f'<rect class="f" x="{sheet.left}" y="{y + 2}" width="{long:.1f}" height="{ROW - 4}"/>')
        parts.append(f'<text x="{sheet.left + long + 6:.1f}" y="{y + 13}">{count(tasks)}</text>')
    return _svg(sheet, (last - first + 1) * ROW + 4, parts)
