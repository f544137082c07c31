"""How does the scaling look? A plot as SVG: what was stored, the limit of the APIs, and the law through it (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tidemark.bench.usl import Estimate, Usl

WIDTH: Final = 720
HEIGHT: Final = 420
LEFT: Final = 76
RIGHT: Final = 24
TOP: Final = 44
BOTTOM: Final = 56
POINTS: Final = 64
"""Of which a curve is made."""

_STYLE: Final = """\
  <style>
    text { font: 13px system-ui, sans-serif; fill: #1f2937 }
    .title { font-size: 15px; font-weight: 600 }
    .grid { stroke: #e5e7eb }
    .limit { stroke: #9ca3af; stroke-dasharray: 6 4; fill: none }
    .law { stroke: #0369a1; stroke-width: 2; fill: none }
    .run { fill: #ea580c; fill-opacity: 0.75 }
  </style>"""


def draw(report: Mapping[str, Any]) -> str:
    """The report of `tidemark bench scale` as an SVG document."""
    runs = report["runs"]
    pollers_max: int = max(run["pollers"] for run in runs)
    limit = report["apiLimitPerSecond"]
    top: float = 1.08 * max(limit * pollers_max, *(run["observationsPerSecond"] for run in runs), 1)

    def x(pollers: float) -> float:
        return LEFT + pollers / (pollers_max * 1.05) * (WIDTH - LEFT - RIGHT)

    def y(rate: float) -> float:
        return HEIGHT - BOTTOM - rate / top * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
        ' aria-label="Observations stored a second by number of poller hosts">',
        _STYLE,
        f'  <rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'  <text class="title" x="{LEFT}" y="24">Observations stored a second, by poller hosts</text>',
    ]
    parts += [
        f'  <path class="grid" d="M{LEFT} {y(rate):.1f}H{WIDTH - RIGHT}"/>'
        f'<text x="{LEFT - 8}" y="{y(rate) + 4:.1f}" text-anchor="end">{rate:,}</text>'
        for rate in range(0, int(top) + 1, _step(top))
    ]
    parts += [
        f'  <text x="{x(pollers):.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{pollers}</text>'
        for pollers in sorted({run["pollers"] for run in runs})
    ]
    parts.append(
        f'  <path class="limit" d="M{x(0):.1f} {y(0):.1f}L{x(pollers_max):.1f} {y(limit * pollers_max):.1f}"/>'
    )
    if law := report["usl"]:
        usl = Usl(*(Estimate(**law[name]) for name in ("lambda", "sigma", "kappa")))
        hosts = [pollers_max * (step + 1) / POINTS for step in range(POINTS)]
        line = "L".join(f"{x(n):.1f} {y(usl.at(n)):.1f}" for n in hosts if n >= 1)
        parts.append(f'  <path class="law" d="M{line}"/>')
    parts += [
        f'  <circle class="run" cx="{x(run["pollers"]):.1f}" cy="{y(run["observationsPerSecond"]):.1f}" r="4"/>'
        for run in runs
    ]
    foot = HEIGHT - 14
    parts += [
        f'  <circle class="run" cx="{LEFT + 6}" cy="{foot - 4}" r="4"/><text x="{LEFT + 16}" y="{foot}">a run</text>',
        f'  <path class="limit" d="M{LEFT + 80} {foot - 4}h28"/>'
        f'<text x="{LEFT + 114}" y="{foot}">what the API hosts allow, {limit:,} each</text>',
        f'  <path class="law" d="M{LEFT + 370} {foot - 4}h28"/>'
        f'<text x="{LEFT + 404}" y="{foot}">Universal Scalability Law, fitted</text>',
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _step(top: float) -> int:
    """The distance of lines: 1, 2 or 5 times a power of ten, some four to ten of them."""
    step = 1
    while True:
        for factor in (1, 2, 5):
            if top / (step * factor) <= 10:
                return step * factor
        step *= 10
