"""The shared landscape: places on the screen, contours, heat, points to drag."""

from __future__ import annotations

import numpy as np
import pytest

EXPLORABLE = "landscape"
GRID = "([values, nx, ny]) => T.field(Float64Array.from(values), nx, ny)"


def test_a_plane_goes_there_and_back(module):
    code = """() => {
      const plane = new T.Plane([-2, 3], [1, 5]);
      Object.assign(plane, { w: 200, h: 80 });
      const box = { left: 7, top: 9, width: 200, height: 80 };
      const element = { getBoundingClientRect: () => box };
      const [x, y] = plane.to([0.5, 2]);
      return { corner: plane.to([-2, 5]), other: plane.to([3, 1]), size: [plane.w, plane.h],
        back: plane.at({ clientX: x + 7, clientY: y + 9 }, element),
        cells: [...plane.cells(5, 4).xs, ...plane.cells(5, 4).ys] };
    }"""
    found = module.evaluate(code)
    assert found["corner"] == [0, 0] and found["other"] == found["size"]
    assert found["back"] == pytest.approx([0.5, 2])
    assert found["cells"] == pytest.approx([-1.5, -0.5, 0.5, 1.5, 2.5, 4.5, 3.5, 2.5, 1.5])


def contour(module, values: np.ndarray, level: float) -> np.ndarray:
    ny, nx = values.shape
    code = f"(a) => T.contour(({GRID})(a[0]), a[1])"
    found = module.evaluate(code, [[values.ravel().tolist(), nx, ny], level])
    return np.array(found).reshape(-1, 2, 2)


def test_the_contour_of_a_slope_is_its_straight_line(module):
    """A plane is what linear interpolation gets exactly right: every end lies on the line."""
    y, x = np.mgrid[:7, :9].astype(float)
    ends = contour(module, 2 * x - 3 * y, 0.7)
    assert 2 * ends[..., 0] - 3 * ends[..., 1] == pytest.approx(0.7)
    ways = ends[:, 1] - ends[:, 0]
    assert np.hypot(*ways.T).sum() == pytest.approx(np.hypot(8, 16 / 3), rel=0.2)


def test_the_contour_of_a_bowl_is_closed_and_at_its_height(module):
    """Every end belongs to two segments; between two grid points the error is at most 1/4."""
    y, x = np.mgrid[:21, :25].astype(float)
    ends = contour(module, (x - 12.3) ** 2 + (y - 9.8) ** 2, 49.0)
    assert len(ends) > 30
    height = (ends[..., 0] - 12.3) ** 2 + (ends[..., 1] - 9.8) ** 2
    assert (height <= 49 + 1e-9).all() and (height >= 49 - 0.25 - 1e-9).all()
    once = [tuple(point) for point in np.round(ends.reshape(-1, 2), 9)]
    assert all(once.count(point) == 2 for point in once)


def test_heat_paints_low_deep_and_high_as_paper(module):
    code = """() => {
      const context = document.createElement('canvas').getContext('2d');
      context.canvas.width = context.canvas.height = 2;
      const grid = T.field(Float64Array.of(0, 1, 2, Infinity), 2, 2);
      grid.high = 2;
      const look = { w: 2, h: 2, colour: '#204060', paper: '#a0b0c0', depth: (share) => 1 - share };
      T.heat(context, grid, look);
      return [...context.getImageData(0, 0, 2, 2).data];
    }"""
    pixels = np.array(module.evaluate(code)).reshape(4, 4)
    assert pixels[0].tolist() == [0x20, 0x40, 0x60, 255]
    assert pixels[2].tolist() == pixels[3].tolist() == [0xA0, 0xB0, 0xC0, 255]
    assert abs(pixels[1] - [0x60, 0x78, 0x90, 255]).max() <= 1


def test_a_point_is_moved_by_keys_and_says_where_it_is(module):
    code = """() => {
      const heard = [];
      const made = T.point({ kind: 'k', label: 'Thing', text: 'A', range: [-1, 1],
        carry() {}, nudge: (dx, dy) => heard.push([dx, dy]), go: () => heard.push('go') });
      const press = (key, more) =>
        made.root.dispatchEvent(new KeyboardEvent('keydown', { key, ...more }));
      press('ArrowUp'), press('ArrowLeft', { shiftKey: true }), press('Enter');
      press('ArrowUp', { ctrlKey: true }), press('x');
      made.show(new T.Plane([-1, 1], [-1, 1]), [0.5, -0.25]);
      const of = (name) => made.root.getAttribute(name);
      return { heard, role: of('role'), name: of('aria-label'), now: of('aria-valuenow'),
        text: of('aria-valuetext'), place: of('transform') };
    }"""
    found = module.evaluate(code)
    assert found["heard"] == [[0, 1], [-0.2, 0], "go"]
    assert (found["role"], found["name"], found["now"]) == ("slider", "Thing", "0.5")
    assert found["text"] == "at 0.50, −0.25" and found["place"] == "translate(300.00 187.50)"
