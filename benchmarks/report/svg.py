"""Plots as SVG: axes, lines, dots, bars."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Scale:
    """Values to pixels."""

    low: float
    high: float
    start: float
    end: float
    warp: Callable[[float], float] = float

    def __call__(self, value: float) -> float:
        low, high = self.warp(self.low), self.warp(self.high)
        inside = min(max(self.warp(value), low), high)
        return self.start + (inside - low) / ((high - low) or 1) * (self.end - self.start)


def ticks(low: float, high: float, about: int = 6) -> list[float]:
    """About `about` round values between two."""
    step = 10 ** math.floor(math.log10(max(high - low, 1e-9) / about))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= about)
    first = math.ceil(low / step - 1e-9)
    return [round(first * step + i * step, 9) for i in range(int((high - first * step) / step + 1e-9) + 1)]


class Plot:
    """An SVG with axes. Coordinates given to the methods are values, not pixels."""

    def __init__(
        self,
        x: tuple[float, float],
        y: tuple[float, float],
        label: str,
        *,
        height: int = 260,
        xlabel: str = "",
        ylabel: str = "",
        yformat: str = "{:g}",
        width: int = 760,
    ) -> None:
        self.width, self.height = width, height
        self.x = Scale(*x, 52, width - 16)
        self.y = Scale(*y, height - 40, 30)
        self.parts: list[str] = []
        self._label = label
        for value in ticks(*y, 5):
            at = self.y(value)
            self.parts.append(f'<line class="grid" x1="52" x2="{width - 16}" y1="{at:.1f}" y2="{at:.1f}"/>')
            self.parts.append(
                f'<text class="tick" x="46" y="{at + 4:.1f}" text-anchor="end">{yformat.format(value)}</text>'
            )
        for value in ticks(*x, 9):
            at = self.x(value)
            self.parts.append(
                f'<text class="tick" x="{at:.1f}" y="{height - 22}" text-anchor="middle">{value:g}</text>'
            )
        self.parts.append(
            f'<text class="axis" x="{width - 16}" y="{height - 5}" text-anchor="end">{escape(xlabel)}</text>'
            f'<text class="axis" x="52" y="14">{escape(ylabel)}</text>'
        )

    def line(self, xs: Sequence[float], ys: Sequence[float], style: str) -> None:
        points = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in zip(xs, ys, strict=True))
        self.parts.append(f'<polyline class="curve {style}" points="{points}"/>')

    def dots(self, xs: Sequence[float], ys: Sequence[float], style: str) -> None:
        path = "".join(f"M{self.x(x):.1f} {self.y(y):.1f}h0" for x, y in zip(xs, ys, strict=True))
        self.parts.append(f'<path class="dots {style}" d="{path}"/>')

    def bar(self, x: tuple[float, float], y: tuple[float, float], style: str, title: str = "") -> None:
        left, right = self.x(x[0]), self.x(x[1])
        top, bottom = self.y(y[1]), self.y(y[0])
        self.parts.append(
            f'<rect class="{style}" x="{left:.1f}" y="{top:.1f}" width="{max(right - left, 0):.1f}" '
            f'height="{max(bottom - top, 0):.1f}"><title>{escape(title)}</title></rect>'
        )

    def mark(self, x: float, y: float, text: str, style: str = "target") -> None:
        at, up = self.x(x), self.y(y)
        self.parts.append(
            f'<path class="{style}" d="M{at:.1f} {up:.1f}l-5 -4v8z"/>'
            f'<text class="tick" x="{at + 5:.1f}" y="{up + 14:.1f}">{escape(text)}</text>'
        )

    def horizontal(self, y: float, style: str = "limit") -> None:
        at = self.y(y)
        self.parts.append(f'<line class="{style}" x1="52" x2="{self.width - 16}" y1="{at:.1f}" y2="{at:.1f}"/>')

    def text(self) -> str:
        return (
            f'<svg viewBox="0 0 {self.width} {self.height}" role="img" aria-label="{escape(self._label)}">'
            + "".join(self.parts)
            + "</svg>"
        )


def legend(entries: Sequence[tuple[str, str]]) -> str:
    return '<p class="legend">' + "".join(
        f'<span><i class="{style}"></i>{escape(text)}</span>' for style, text in entries
    ) + "</p>"  # fmt: skip
