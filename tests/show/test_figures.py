"""Still pictures: what is drawn is what was given, and bad input is said in one line."""

from __future__ import annotations

import matplotlib.colors as mcolors
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from amtutor import show
from amtutor.show.figures import as_grid
from amtutor.show.style import WIDTH


@pytest.fixture(autouse=True)
def light():
    show.use_style("light")


def pictures(fig: Figure) -> list[np.ndarray]:
    return [np.asarray(ax.images[0].get_array()) for ax in fig.axes if ax.images]


def colour(artist) -> str:
    return mcolors.to_hex(artist.get_color()).upper()


# --- images ---------------------------------------------------------------------------------


@settings(max_examples=10)
@given(n=st.integers(1, 14), columns=st.integers(1, 8))
def test_a_flat_list_fills_rows_in_order(n, columns):
    images = np.arange(n, dtype=float)[:, None, None] * np.ones((n, 2, 3))
    fig = show.image_grid(images, columns=columns)
    assert [p[0, 0] for p in pictures(fig)] == list(range(n))
    assert all(p.shape == (2, 3) for p in pictures(fig))
    columns = min(columns, n)
    grid = fig.axes[0].get_gridspec()
    assert (grid.nrows, grid.ncols) == (-(-n // columns), columns)


@pytest.mark.parametrize(("n", "wanted"), [(1, 1), (10, 10), (11, 6), (12, 6), (21, 7), (30, 10)])
def test_rows_are_balanced_by_default(n, wanted):
    fig = show.image_grid(np.zeros((n, 2, 2)))
    assert fig.axes[0].get_gridspec().ncols == wanted


def test_flat_images_tensors_and_grids_give_the_same_picture():
    x = torch.randn(2, 3, 4, 5)
    wanted = [im.numpy() for im in x.flatten(0, 1)]
    for given_as in (x, x.numpy(), x.flatten(2), x.requires_grad_()):
        shape = (4, 5) if given_as.ndim == 3 else None
        got = pictures(show.image_grid(given_as, shape=shape))
        np.testing.assert_allclose(got, wanted, rtol=1e-6)


def test_ink_is_high_and_paper_is_low():
    fig = show.image_grid(np.array([[[-1.0, 1.0]]]))
    image = fig.axes[0].images[0]
    assert image.get_clim() == (-1, 1)
    paper, ink = image.cmap(image.norm([-1.0, 1.0]))
    assert mcolors.to_hex(paper).upper() == show.PALETTE["paper"] == "#FFFFFF"
    assert mcolors.to_hex(ink).upper() == show.PALETTE["ink"]
    assert image.get_interpolation() in ("nearest", "none")


def test_all_images_share_one_scale():
    fig = show.image_grid([np.zeros((2, 2)), np.full((2, 2), 9.0)])
    assert {ax.images[0].get_clim() for ax in fig.axes} == {(0.0, 9.0)}
    fig = show.image_grid(np.ones((2, 2, 2)), vmin=0, vmax=2)
    assert {ax.images[0].get_clim() for ax in fig.axes} == {(0, 2)}


@pytest.mark.parametrize("planes_last", [True, False])
def test_colour_images(planes_last):
    x = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 4), dtype=np.uint8)
    wanted = np.moveaxis(x, 1, -1) / 255
    fig = (
        show.image_grid(np.moveaxis(x, 1, -1))
        if planes_last
        else show.image_grid(x.reshape(2, -1), shape=(3, 4, 4))
    )
    np.testing.assert_allclose(pictures(fig), wanted)


def test_titles_and_row_titles():
    x = np.zeros((2, 3, 4, 4))
    fig = show.image_grid(x, titles=["a", "b", "c"], row_titles=["cue", "answer"])
    assert [ax.get_title() for ax in fig.axes] == ["a", "b", "c", "", "", ""]
    assert [ax.get_ylabel() for ax in fig.axes] == ["cue", "", "", "answer", "", ""]
    fig = show.image_grid(x, titles=[["a", "b", "c"], ["d", "e", "f"]])
    assert [ax.get_title() for ax in fig.axes] == list("abcdef")
    fig = show.image_grid(x[0], titles=range(3), columns=2)
    assert [ax.get_title() for ax in fig.axes if ax.images] == ["0", "1", "2"]
    fig = show.image_grid(np.zeros((10, 4, 4)), titles=["a title of many words"] * 10)
    assert "\n" in fig.axes[0].get_title()


def test_a_grid_never_grows_wider_than_the_page():
    for n in (1, 5, 10):
        fig = show.image_grid(np.zeros((2, n, 4, 4)), row_titles=["short", "a long row title"])
        assert fig.get_figwidth() <= WIDTH + 1e-9
    small, large = (show.image_grid(np.zeros((3, 4, 4)), scale=s).get_figwidth() for s in (1, 2))
    assert large > 1.8 * small


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": np.zeros((3, 10)), "shape": (2, 4)}, r"images: got shape \(3, 10\), expected "
         r"\(..., 8\) or \(..., 2, 4\) for shape=\(2, 4\)"),
        ({"images": np.zeros(4)}, r"images: got shape \(4,\), expected \(n, H, W\) or"),
        ({"images": np.zeros((0, 4, 4))}, r"images: got shape \(0, 4, 4\), expected"),
        ({"images": np.zeros((3, 4, 4)), "titles": ["a"]}, r"titles: got 1, expected 3"),
        ({"images": np.zeros((2, 3, 4, 4)), "titles": [["a"], ["b"]]}, r"titles: got 2, expect"),
        ({"images": np.zeros((3, 4, 4)), "row_titles": "ab"}, r"row_titles: got 2, expected 1"),
        ({"images": np.zeros((3, 4, 4)), "columns": 0}, r"columns = 0: expected a whole number"),
        ({"images": np.zeros((3, 4, 4)), "scale": 0}, r"scale = 0.0: expected a finite number"),
    ],
)  # fmt: skip
def test_bad_images_are_one_clear_line(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        show.image_grid(arguments.pop("images"), **arguments)
    assert "\n" not in str(error.value)


def test_words_are_no_images():
    with pytest.raises(TypeError, match="images: got a list .* expected an array of numbers"):
        show.image_grid(["creature"])


def test_a_grid_can_fill_a_part_of_a_figure():
    fig = show.figure(2)[0]
    left, right = fig.subfigures(1, 2)
    assert show.image_grid(torch.rand(6, 12), shape=(3, 4), columns=2, into=right) is right
    assert [len(part.axes) for part in (left, right)] == [0, 6]
    assert {ax.get_figure(root=True) for ax in right.axes} == {fig}


def test_one_image():
    ax = show.image(torch.eye(3).flatten(), shape=(3, 3), title="one", vmin=-1, vmax=1)
    np.testing.assert_array_equal(ax.images[0].get_array(), np.eye(3))
    assert (ax.get_title(loc="center"), ax.images[0].get_clim()) == ("one", (-1, 1))
    assert show.image(np.eye(2), ax=ax) is ax
    assert show.image(np.full((3, 2, 2), 255), shape=(3, 2, 2)).images[0].get_array().max() == 1
    with pytest.raises(ValueError, match="picture: got 2 images, expected one"):
        show.image(np.zeros((2, 9)), shape=(3, 3))


def test_memories_are_marked_at_the_foot():
    ax = show.mark_memories([[-1.0], [2.0]], ax=show.energy_trace([1, 0]))
    assert ax.lines[-1].get_xdata().tolist() == [-1, 2]
    assert colour(ax.lines[-1]) == show.PALETTE["memory"]
    foot = ax.get_ylim()[0]
    low = ax.transData.inverted().transform(
        ax.lines[-1].get_transform().transform(ax.lines[-1].get_xydata())
    )
    np.testing.assert_allclose(low, [[-1, foot], [2, foot]], atol=1e-9)


def test_as_grid_moves_colour_last():
    assert as_grid("x", np.zeros((5, 48)), (3, 4, 4)).shape == (5, 4, 4, 3)
    assert as_grid("x", np.zeros((2, 5, 3, 4, 4)), (3, 4, 4)).shape == (2, 5, 4, 4, 3)
    assert as_grid("x", np.zeros((4, 4)), None).shape == (1, 4, 4)


# --- energies -------------------------------------------------------------------------------


def test_energy_trace_draws_what_it_was_given():
    e = torch.tensor([[3.0, 5.0], [2.0, 1.0], [1.0, 0.0]])
    ax = show.energy_trace(e)
    drawn = [line.get_ydata().tolist() for line in ax.lines[::2]]
    assert drawn == [[3, 2, 1], [5, 1, 0]]
    assert {colour(line) for line in ax.lines} == {show.PALETTE["energy"]}
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("step", "energy")
    named = show.energy_trace(e, labels=["easy", "hard"])
    assert [t.get_text() for t in named.get_legend().texts] == ["easy", "hard"]
    assert len({colour(line) for line in named.lines}) == 2
    assert show.energy_trace([2.0, 1.0], ax=ax) is ax
    with pytest.raises(ValueError, match="labels: got 1, expected 2, one per query"):
        show.energy_trace(e, labels=["easy"])
    with pytest.raises(ValueError, match=r"energies: got shape \(2, 2, 2\), expected \(steps,\)"):
        show.energy_trace(np.zeros((2, 2, 2)))


def bowl(x):
    return x.square().sum(-1)


def test_landscape_has_its_low_places_where_the_energy_has_them():
    ax = show.landscape(lambda x: bowl(x - torch.tensor([1.0, -0.5])), bounds=(-2, 2, -1, 1))
    z = np.asarray(ax.images[0].get_array())
    row, column = np.unravel_index(z.argmin(), z.shape)
    left, right, bottom, top = ax.images[0].get_extent()
    x = left + (column + 0.5) / 200 * (right - left)
    y = bottom + (row + 0.5) / 200 * (top - bottom)
    assert (x, y) == pytest.approx((1.0, -0.5), abs=0.0101)  # half a step
    assert ax.images[0].origin == "lower"
    assert (ax.get_xlim(), ax.get_ylim()) == ((-2, 2), (-1, 1))
    assert ax.get_aspect() == 1


def test_landscape_marks_memories_queries_and_ways():
    xi = torch.tensor([[0.5, 0.5], [-0.5, 0.0]])
    ways = torch.rand(6, 3, 2)
    ax = show.landscape(bowl, bounds=(-1, 1), memories=xi, paths=ways, colourbar=False)
    assert len(ax.figure.axes) == 1
    by_colour = {}
    for line in ax.lines:
        by_colour.setdefault(colour(line), []).append(line.get_xydata())
    np.testing.assert_allclose(by_colour[show.PALETTE["memory"]][0], xi)
    np.testing.assert_allclose(np.concatenate(by_colour[show.PALETTE["query"]]), ways[0])
    drawn = [d for d in by_colour[show.PALETTE["trajectory"]] if len(d) == 6]
    np.testing.assert_allclose(np.stack(drawn, 1), ways)
    one = show.landscape(bowl, bounds=(-1, 1), paths=ways[:, 0])
    assert sum(colour(line) == show.PALETTE["query"] for line in one.lines) == 1


def test_landscape_leaves_infinite_energies_blank():
    def disc(x):
        return -torch.log(torch.relu(1 - bowl(x)))

    z = np.ma.masked_invalid(show.landscape(disc, bounds=(-2, 2)).images[0].get_array())
    assert np.ma.count_masked(z) / z.size == pytest.approx(1 - np.pi / 16, abs=0.01)
    with pytest.raises(ValueError, match="energy: not finite anywhere within bounds"):
        show.landscape(lambda x: bowl(x) * torch.inf + 1, bounds=(1, 2))


def test_a_ceiling_keeps_shades_for_the_valleys():
    ax = show.landscape(bowl, bounds=(-2, 2), ceiling=1.0)
    assert ax.images[0].get_clim()[1] == 1.0
    with pytest.raises(ValueError, match=r"ceiling = -1: expected more than the least energy"):
        show.landscape(bowl, bounds=(-2, 2), ceiling=-1)


def test_contours_lie_where_they_are_asked_for():
    ax = show.landscape(bowl, bounds=(-2, 2), levels=[0.5, 1.0])
    (lines,) = ax.collections
    assert lines.levels.tolist() == [0.5, 1.0]
    radii = [np.linalg.norm(p.vertices, axis=1).mean() for p in lines.get_paths()]
    np.testing.assert_allclose(radii, np.sqrt([0.5, 1.0]), atol=0.01)


def test_energies_may_be_flat():
    ax = show.landscape(lambda x: torch.zeros(len(x)), bounds=(-1, 1))
    assert not ax.collections
    show.landscape_1d(lambda x: torch.zeros(len(x)), bounds=(-1, 1))


def test_no_gradient_is_kept():
    weight = torch.ones(2, requires_grad=True)
    seen = []

    def energy(x):
        seen.append(torch.is_grad_enabled())
        return (weight * x).sum(-1)

    show.landscape(energy, bounds=(-1, 1))
    assert seen == [False]


@pytest.mark.parametrize("draw", [show.landscape, show.landscape_1d])
def test_bad_landscapes_are_one_clear_line(draw):
    with pytest.raises(ValueError, match=r"energy: returned shape \(\) for points of shape"):
        draw(lambda x: x.sum(), bounds=(-1, 1))
    with pytest.raises(ValueError, match=r"bounds = \(1, -1\): expected \(low, high\)"):
        draw(bowl, bounds=(1, -1))
    with pytest.raises(ValueError, match=r"bounds = \(1, 2, 3\): expected"):
        draw(bowl, bounds=(1, 2, 3))
    with pytest.raises(ValueError, match=r"resolution = 1: expected a whole number >= 2"):
        draw(bowl, bounds=(-1, 1), resolution=1)


def test_paths_need_two_coordinates():
    with pytest.raises(ValueError, match=r"paths: got shape \(4, 3\), expected \(T, 2\) or"):
        show.landscape(bowl, bounds=(-1, 1), paths=np.zeros((4, 3)))


def test_balls_sit_on_the_curve():
    ways = torch.tensor([[[0.9], [-0.8]], [[0.5], [-0.4]], [[0.1], [0.0]]])
    ax = show.landscape_1d(bowl, bounds=(-1, 1), balls=[0.5], paths=ways, memories=[0.0])
    memory = ax.lines[-1]
    assert colour(memory) == show.PALETTE["memory"]
    assert memory.get_xdata().tolist() == [0.0]
    for line in ax.lines[:-1]:
        np.testing.assert_allclose(line.get_ydata(), line.get_xdata() ** 2, atol=1e-6)
    starts = [x for line in ax.lines if colour(line) == show.PALETTE["query"]
              for x in line.get_xdata()]  # fmt: skip
    np.testing.assert_allclose(starts, [0.9, -0.8, 0.5], rtol=1e-6)


def test_thumbnails_lie_at_their_places():
    ax = show.landscape(bowl, bounds=(-1, 1))
    places = [[0.0, 0.5], [0.5, 0.0]]
    boxes = show.thumbnails(ax, places, np.eye(4)[None].repeat(2, 0), offset=(0.5, 0))
    assert [list(box.xy) for box in boxes] == places
    assert boxes[0].xybox == (36, 0)
    assert all(box in ax.artists for box in boxes)
    with pytest.raises(ValueError, match=r"images: got shape \(1, 4, 4\), expected 2 grey images"):
        show.thumbnails(ax, places, np.eye(4)[None])


# --- measured against theory ----------------------------------------------------------------


def test_intervals_reach_from_low_to_high():
    ax = show.measured([1, 2], [0.5, 0.6], low=[0.4, 0.6], high=[0.7, 0.9], label="n = 2")
    (bars,) = ax.collections
    drawn = [segment.tolist() for segment in bars.get_segments()]
    assert np.allclose(drawn, [[[1, 0.4], [1, 0.7]], [[2, 0.6], [2, 0.9]]])
    assert ax.get_legend_handles_labels()[1] == ["n = 2"]
    with pytest.raises(ValueError, match="low, high: expected low <= y <= high"):
        show.measured([1, 2], [0.5, 0.6], low=[0.6, 0.6], high=[0.7, 0.9])
    with pytest.raises(ValueError, match="y: got 1 values, expected 2"):
        show.measured([1, 2], [0.5])


def test_theory_is_dashed_ink_and_bands_are_shaded():
    ax = show.theory([0, 1], [0, 1])
    assert (colour(ax.lines[0]), ax.lines[0].get_linestyle()) == (show.PALETTE["theory"], "--")
    show.interval_band([0, 1], [0, 0], [1, 2], ax=ax, label="95 %")
    (band,) = ax.collections
    assert band.get_paths()[0].get_extents().bounds == (0, 0, 1, 2)
    assert show.measured([0], [0], ax=ax) is ax


def test_curves_differ_in_more_than_colour():
    ax = show.curves(
        [1, 2, 3], {"n = 2": [1, 2, 3], "n = 3": [1, 4, 9]}, colours=["wrong", "#000000"]
    )
    a, b = ax.lines
    assert (colour(a), colour(b)) == (show.PALETTE["wrong"], "#000000")
    assert a.get_marker() != b.get_marker()
    assert b.get_ydata().tolist() == [1, 4, 9]
    assert [t.get_text() for t in ax.get_legend().texts] == ["n = 2", "n = 3"]
    with pytest.raises(ValueError, match="n = 2: got 1 values, expected 3"):
        show.curves([1, 2, 3], {"n = 2": [1]})
    with pytest.raises(ValueError, match="colours: got 1, expected 2, one per curve"):
        show.curves([1], {"a": [1], "b": [1]}, colours=["memory"])


def test_figure_gives_axes_of_the_books_width():
    fig, axes = show.figure(3, height=2.0)
    assert axes.shape == (3,)
    assert fig.get_size_inches().tolist() == [WIDTH, 2.0]
    fig, ax = show.figure()
    assert ax.figure is fig
    with pytest.raises(ValueError, match="columns = 0: expected a whole number >= 1"):
        show.figure(0)
