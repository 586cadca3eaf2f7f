"""Draws idea.svg beside itself: hierarchies, cuts and a trie, counted by the trie itself."""

from collections.abc import Iterator
from pathlib import Path

from dsaccel.config.study import NetworkConfig
from dsaccel.families import build_plan
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.trie import Node, Trie

HIERARCHIES = ("2-2-2-2", "2-2-1-2", "1-1-2-4")
COLORS = ("#2a6fb0", "#12806a", "#a65a00", "#9c4a86")
"""Of the stages; white text and both pages, light and dark, stand out from them."""
GREY, WIDTH, HEIGHT = "#767676", 860, 300


def trie_of(hierarchies: tuple[str, ...]) -> Trie:
    """The networks, cut after each block, merged."""
    network = NetworkConfig(granularity=("block",) * 4)
    plans = {
        Hierarchy.parse(text): build_plan(
            "resnet18", Hierarchy.parse(text), network, channels=3, side=32, num_classes=10
        )
        for text in hierarchies
    }
    return Trie(plans)


def picture() -> str:
    """The picture; its colours need no style sheet, because it stands on light and dark pages."""
    trie = trie_of(HIERARCHIES)
    parts = [*_hierarchy(20, "2-2-2-2", 70), *_hierarchy(20, "1-1-2-4", 190)]
    parts += [_text(20, 24, "Hierarchy: blocks per stage", bold=True)]
    parts += [_text(20, 280, "Which one learns best layer-wise?")]
    parts += [_text(300, 24, "Cut: no gradient passes", bold=True), *_cuts(300)]
    parts += [_text(560, 24, "Trie: what they share is trained once", bold=True), *_trie(trie, 560)]
    parts += [_text(560, 262, f"{trie.blocks_trained} blocks in place of {trie.blocks_separate},")]
    parts += [_text(560, 280, "and the same result, bit by bit.")]
    title = "Hierarchies, a network cut into units, and hierarchies merged into a trie"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="13"><title>{title}</title>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _hierarchy(x: float, hierarchy: str, y: float) -> Iterator[str]:
    """A row of blocks, as high as their feature maps."""
    yield _text(x, y - 14, hierarchy, bold=True)
    for stage, blocks in enumerate(Hierarchy.parse(hierarchy).blocks):
        for _ in range(blocks):
            height = 64 / 2 ** (stage * 0.7)
            yield _box(x, y + 32 - height / 2, 24, height, COLORS[stage])
            x += 30


def _cuts(x: float) -> Iterator[str]:
    """Units, each with a head and a loss, and what stops between them."""
    for number in range(4):
        left, height = x + 58 * number, 64 / 2 ** (number * 0.7)
        yield _box(left, 192 - height / 2, 30, height, COLORS[number])
        yield _box(left + 3, 112, 24, 18, "none", GREY)
        yield _text(left + 15, 125, "head", middle=True, size=9)
        yield _line(left + 15, 192 - height / 2, left + 15, 132)
        yield _text(left + 15, 84, "loss", middle=True, size=11)
        yield _line(left + 15, 111, left + 15, 90, arrow=True)
        if number < 3:
            yield _line(left + 32, 192, left + 54, 192, arrow=True)
            yield _line(left + 43, 104, left + 43, 236, dashed=True)
    yield _text(x, 262, "Each unit learns from its own head,")
    yield _text(x, 280, "and its activations can be freed.")


def _trie(trie: Trie, x: float) -> Iterator[str]:
    """Each node once; networks that part do so downwards."""
    rows = iter(range(len(HIERARCHIES)))

    def draw(node: Node, depth: int) -> Iterator[str | float]:
        """The node's parts, then its height."""
        heights, left = [], x + 25 * depth
        for child in [c for c in node.children if c.num_blocks]:
            *parts, y = draw(child, depth + 1)
            yield from parts
            heights.append((float(y), left + 25))
        y = heights[0][0] if heights else 64 + 62 * next(rows)
        for other, right in heights:
            yield _line(left + 20, y + 10, right, other + 10)
        yield _box(left, y, 20, 20, COLORS[node.stage - 1] if depth else GREY)
        if not heights:
            name = next(h for h in trie.asked if trie.path(h)[-1] in (node, *node.children))
            yield _text(left + 20, y + 36, str(name), end=True, size=12)
        yield y

    for root in trie.roots:
        yield from (part for part in draw(root, 0) if isinstance(part, str))


def _box(x: float, y: float, width: float, height: float, fill: str, line: str = "none") -> str:
    place = f'x="{x:g}" y="{y:.4g}" width="{width:g}" height="{height:.4g}"'
    return f'<rect {place} rx="3" fill="{fill}" stroke="{line}"/>'


def _line(
    x: float, y: float, right: float, bottom: float, *, dashed: bool = False, arrow: bool = False
) -> str:
    dash = ' stroke-dasharray="4 3"' if dashed else ""
    line = f'<path d="M{x:g} {y:.4g}L{right:g} {bottom:.4g}" stroke="{GREY}" fill="none"{dash}/>'
    if not arrow:
        return line
    tip = (-6, -3, -6, 3) if right > x else (-3, 6, 3, 6)
    points = f"{right:g},{bottom:g} " + " ".join(
        f"{right + dx:g},{bottom + dy:g}" for dx, dy in (tip[:2], tip[2:])
    )
    return f'{line}<polygon points="{points}" fill="{GREY}"/>'


def _text(
    x: float,
    y: float,
    words: str,
    *,
    bold: bool = False,
    middle: bool = False,
    end: bool = False,
    size: int = 13,
) -> str:
    anchor = "middle" if middle else "end" if end else "start"
    weight = ' font-weight="600"' if bold else ""
    place = f'x="{x:g}" y="{y:g}" text-anchor="{anchor}" font-size="{size}"{weight}'
    return f'<text {place} fill="{GREY}">{words}</text>'


if __name__ == "__main__":
    Path(__file__).with_name("idea.svg").write_text(picture(), encoding="utf-8")
