import copy
import dataclasses
import os
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import restyle
from restyle import gallery, painter
from restyle.errors import LimitError, ModelFileError, UnknownNameError
from restyle.image import read_image, resize
from restyle.stylizer import Style, Stylizer

vectors = st.lists(st.floats(-9, 9, width=32), min_size=4, max_size=4).map(lambda v: Style(np.array(v), "m"))
weights = st.floats(0.1, 5)


def distance(one, other):
    return np.abs(one.astype(float) - other.astype(float)).mean()


@given(a=vectors, b=vectors, x=weights, y=weights)
def test_mixing_is_linear_and_free_of_order(a, b, x, y):
    mixed = Style.mix([a, b], [x, y])
    np.testing.assert_allclose(mixed.vector, (x * a.vector + y * b.vector) / (x + y), atol=1e-4)
    np.testing.assert_allclose(mixed.vector, Style.mix([b, a], [3 * y, 3 * x]).vector, atol=1e-4)
    np.testing.assert_allclose(Style.mix([a, a], [x, y]).vector, a.vector, atol=1e-5)
    assert np.array_equal(Style.mix([a, b], [1, 0]).vector, a.vector)


def test_copies_of_a_style_stay_frozen():
    style = Style(np.arange(4), "m")
    for twin in (copy.copy(style), copy.deepcopy(style), pickle.loads(pickle.dumps(style))):
        assert twin == style
        assert not twin.vector.flags.writeable


def test_many_threads_may_save_one_file(tmp_path):
    style = Style(np.arange(4), "m")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: style.save(tmp_path / "kept"), range(100)))
    assert Style.load(tmp_path / "kept") == style
    assert len(list(tmp_path.iterdir())) == 1


def test_a_style_is_a_frozen_value(tmp_path):
    source = np.arange(4, dtype=np.float32)
    style = Style(source, "m")
    source[:] = 9
    assert style.vector[0] == 0
    with pytest.raises(ValueError, match="read-only"):
        style.vector[0] = 1
    assert style == Style(np.arange(4), "m")
    assert hash(style) == hash(Style(np.arange(4), "m"))
    assert style != Style(np.arange(4), "other")
    style.save(tmp_path / "kept.style")
    assert Style.load(tmp_path / "kept.style") == style
    assert [path.name for path in tmp_path.iterdir()] == ["kept.style"]


@pytest.mark.parametrize(
    "call",
    [
        lambda s: Style.mix([]),
        lambda s: Style.mix([s], [1, 2]),
        lambda s: Style.mix([s, s], [0, 0]),
        lambda s: Style.mix([s, s], [1, -1]),
        lambda s: Style.mix([s, Style(s.vector, "other")]),
        lambda s: Style(np.array([np.inf]), "m"),
        lambda s: Style(np.zeros((2, 2)), "m"),
    ],
)
def test_impossible_styles_are_refused(call):
    with pytest.raises(ValueError, match=r"weight|models|factor|vector"):
        call(Style(np.arange(4), "m"))


def test_files_that_are_no_style_are_refused(tmp_path):
    (tmp_path / "a.style").write_bytes(b"no style")
    for path in (tmp_path / "a.style", tmp_path / "missing"):
        with pytest.raises(ModelFileError, match="cannot be read as a style file"):
            Style.load(path)
    style = Style(np.arange(4), "m")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "no" / "where", tmp_path / "folder", "\0"):
        with pytest.raises(ModelFileError, match="cannot be written"):
            style.save(path)
    assert {path.name for path in tmp_path.iterdir()} == {"a.style", "folder"}  # no half-written file


@settings(max_examples=8)
@given(height=st.integers(1, 70), width=st.integers(1, 70))
def test_size_is_kept_to_the_pixel(model, wave, height, width):
    picture = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    assert model.apply(picture, wave).shape == (height, width, 3)


def test_strength_zero_is_the_photograph_and_more_is_further_away(model, wave, photo):
    assert np.array_equal(model.apply(photo, wave, 0), photo)
    distances = [distance(model.apply(photo, wave, strength), photo) for strength in (0.02, 0.25, 0.5, 1.0)]
    assert distances == sorted(distances)
    assert distances[0] < 4
    assert distances[-1] > 15


def test_styles_look_different_and_a_mix_lies_between(model, wave, mosaic, photo):
    one, other = model.apply(photo, wave), model.apply(photo, mosaic)
    between = model.apply(photo, Style.mix([wave, mosaic]))
    assert distance(one, other) > 8
    assert max(distance(between, one), distance(between, other)) < distance(one, other)


@pytest.mark.parametrize("name", ["wave", "starry", "stained-glass", "batik"])
def test_colours_move_towards_the_style(model, photo, name):
    def spread(pixels):  # mean and deviation of the three colours
        flat = pixels.reshape(-1, 3).astype(float)
        return np.concatenate([flat.mean(0), flat.std(0)])

    painting = read_image(gallery.find(name)).pixels
    painted = model.apply(photo, model.encode_style(painting))
    before, after = (np.abs(spread(one) - spread(painting)).mean() for one in (photo, painted))
    assert after < 0.6 * before


def test_alpha_is_kept_and_grey_is_taken(model, wave, photo):
    alpha = np.arange(photo[:, :, 0].size, dtype=np.uint32).astype(np.uint8).reshape(photo.shape[:2]) | 1
    painted = model.apply(np.dstack([photo, alpha]), wave)
    assert np.array_equal(painted[:, :, 3], alpha)
    assert np.array_equal(painted[:, :, :3], model.apply(photo, wave))
    assert model.apply(photo[:, :, 0], wave).shape == photo.shape


@pytest.mark.parametrize("options", [{}, {"keep_colors": "histogram"}, {"work_size": 48}])
def test_hidden_colours_change_nothing_that_one_sees(model, wave, photo, options):
    alpha = np.zeros(photo.shape[:2], np.uint8)
    alpha[20:80, 30:100] = 255
    black, pink = (np.where(alpha[:, :, None] > 0, photo, np.uint8(hidden)) for hidden in (0, [255, 0, 255]))
    one, other = (model.apply(np.dstack([colours, alpha]), wave, **options) for colours in (black, pink))
    assert np.array_equal(one[alpha > 0], other[alpha > 0])
    assert np.abs(model.apply(black, wave, **options).astype(int) - model.apply(pink, wave, **options)).max() > 10
    hidden = np.dstack([photo, np.zeros_like(alpha)])  # nothing to see at all is no reason to fail
    assert model.apply(hidden, wave, **options).shape == hidden.shape


def test_transparent_parts_of_a_style_count_as_white(model):
    alpha = np.zeros((64, 64, 4), np.uint8)
    assert np.array_equal(
        model.encode_style(alpha).vector, model.encode_style(np.full((64, 64, 3), 255, np.uint8)).vector
    )


def test_many_pictures_of_mixed_sizes_equal_one_by_one(model, wave, mosaic, photo):
    photos = [photo, photo[:40, :50], 255 - photo, photo[:40, 50:100], np.dstack([photo, photo[:, :, :1]])]
    styles, strengths = [wave, mosaic, mosaic, wave, wave], [1.0, 0.5, 1.0, 0.0, 2.0]
    together = model.apply_many(photos, styles, strengths)
    for picture, style, strength, result in zip(photos, styles, strengths, together, strict=True):
        alone = model.apply(picture, style, strength)
        assert result.shape == alone.shape == picture.shape
        assert np.abs(result.astype(int) - alone).max() <= 1
    assert model.apply_many([], wave) == []


def test_batches_are_real(model, wave, photo, monkeypatch):
    sizes = []
    real = model._painter.graph.run
    monkeypatch.setattr(
        model._painter.graph, "run", lambda inputs, **only: sizes.append(len(inputs["content"])) or real(inputs)
    )
    model.apply_many([photo, photo[:40, :50], photo, photo], wave)
    assert sorted(sizes) == [1, 3]
    monkeypatch.setattr(painter, "LARGEST_BATCH_PIXELS", 2 * photo[:, :, 0].size)
    sizes.clear()
    model.apply_many([photo] * 5, wave)
    assert sizes == [2, 2, 1]


def test_threads_do_not_disturb_each_other(model, wave, mosaic, photo):
    jobs = [(photo[: 40 + 8 * (n % 3)], (wave, mosaic)[n % 2]) for n in range(12)]
    expected = [model.apply(*job) for job in jobs]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda job: model.apply(*job), jobs))
    assert all(np.array_equal(one, other) for one, other in zip(expected, results, strict=True))


@pytest.mark.parametrize("strength", [-0.1, 2.1, float("nan")])
def test_strength_has_limits(model, wave, photo, strength):
    with pytest.raises(ValueError, match=f"between 0 and 2, got {strength}"):
        model.apply(photo, wave, strength)


def test_styles_of_other_models_are_refused(model, wave, photo):
    with pytest.raises(ValueError, match="encoded by model 'other'"):
        model.apply(photo, Style(wave.vector, "other"))
    with pytest.raises(ValueError, match="3 numbers"):
        model.apply(photo, Style(np.zeros(3), wave.model))
    with pytest.raises(ValueError, match="2 pictures, 1 styles"):
        model.apply_many([photo, photo], [wave])
    for wrong in ("wave.jpg", photo):
        with pytest.raises(TypeError, match="style must be a Style from encode_style"):
            model.apply(photo, wrong)


def test_numbers_may_be_numpys(model, wave, photo):
    assert np.array_equal(model.apply(photo, wave, np.float32(0.5)), model.apply(photo, wave, 0.5))


@pytest.fixture(scope="module")
def castle():
    return resize(read_image(gallery.find("castle", kind="sample")).pixels, (301, 700))


def test_tiles_equal_the_whole(model, wave, castle):
    hard_edge = castle.copy()
    hard_edge[:, :360] //= 8  # where a tile ends: what lies beyond the cut must not be missed
    for picture in (castle, hard_edge):
        whole = model.apply(picture, wave, tile=0).astype(int)
        for tile in (128, 360, 512):
            assert np.abs(model.apply(picture, wave, tile=tile) - whole).max() <= 1


def test_statistics_put_together_from_pieces_are_nearly_those_of_the_whole(model, wave, castle, monkeypatch):
    whole = model.apply(castle, wave, tile=0).astype(int)
    monkeypatch.setattr(painter, "STATISTICS_TILE", 256)
    pieced = model.apply(castle, wave, tile=256).astype(int)
    assert 0 < np.abs(pieced - whole).mean() < 1
    # 700 columns are cut at 240 and 480: the step across a cut is that of the whole picture.
    for cut in (240, 480):
        steps = [picture[:, cut] - picture[:, cut - 1] for picture in (whole, pieced)]
        assert np.abs(steps[0] - steps[1]).mean() < 1


def test_thin_pictures_are_tiled_too(model, wave):
    thin = np.random.default_rng(0).integers(0, 255, (5, 700, 3), dtype=np.uint8)
    whole, tiled = (model.apply(thin, wave, tile=side) for side in (0, 256))
    assert tiled.shape == thin.shape
    assert np.abs(whole.astype(int) - tiled).max() <= 1


def test_tiles_are_taken_when_a_picture_is_large(model, wave, castle, monkeypatch):
    calls = []
    real = model._painter.graph.run

    def run(inputs, *, only=None):
        calls.append((only, inputs["content"].shape[2]))
        return real(inputs, only=only)

    monkeypatch.setattr(model._painter.graph, "run", run)
    model.apply(castle, wave)
    assert calls == [(None, 700)]
    monkeypatch.setattr(painter, "WHOLE_PIXELS", 100_000)
    monkeypatch.setattr(painter, "TILE", 256)
    model.apply_many([castle, castle], wave)
    assert calls[1] == ("own", 700)
    # A tile that ends inside the picture reaches the model's halo beyond what is kept of it.
    assert model.card.grid == 8
    widths = {width for only, width in calls if only == "stylized"}
    # Three columns of up to 240 pixels that are kept, with the halo; the last begins at a multiple of 8.
    assert widths == {240 + 2 * model.card.halo, 700 - 336}
    calls.clear()
    model.apply(castle, wave, tile=704)  # the picture fits into one tile
    assert calls == [(None, 700)]
    with pytest.raises(ValueError, match="tile must be 0 or at least 128, got 100"):
        model.apply(castle, wave, tile=100)


def test_what_would_not_fit_is_refused_before_it_is_painted(model, wave, photo, monkeypatch):
    needed = model.estimate_memory(photo.shape[:2])
    monkeypatch.setattr(painter, "machine_memory", lambda: needed)
    assert model.apply(photo, wave).shape == photo.shape
    monkeypatch.setattr(painter, "machine_memory", lambda: needed - 1)
    monkeypatch.setattr(model._painter.graph, "run", lambda *_, **__: pytest.fail("it was painted"))
    with pytest.raises(LimitError, match=r"painting 96 x 128 pixels takes about 0.2 GB .* in tiles"):
        model.apply(photo, wave)


def test_the_estimate_grows_with_the_picture_and_tiles_bound_it(model):
    estimates = [model.estimate_memory((side, side)) for side in (16, 500, 1000, 2000)]
    assert estimates == sorted(set(estimates))
    whole, tiled = (model.estimate_memory((10_000, 10_000), tile=tile) for tile in (0, None))
    assert tiled < whole / 5
    beyond = model.estimate_memory((10_000, 20_000)) - tiled
    assert beyond == 100_000_000 * painter.PICTURE_BYTES  # only the picture itself
    small = model.estimate_memory((1000, 2000), work_size=100)
    assert model.estimate_memory((100, 200)) < small < model.estimate_memory((1000, 2000))


def test_the_machine_tells_its_memory_or_nothing_is_refused(monkeypatch, tmp_path):
    there = painter.machine_memory()
    assert there is None or there > 100_000_000
    monkeypatch.delattr(os, "sysconf", raising=False)  # as on Windows
    assert painter.machine_memory() is None
    painter.check_memory((10**6, 10**6), 10**18)


def test_encoding_is_kept_on_disk_and_mended(model, private_cache, photo, monkeypatch):
    style = model.encode_style(photo)
    (kept,) = (private_cache / "styles").iterdir()
    calls = []
    real = model._encoder.run
    monkeypatch.setattr(model._encoder, "run", lambda inputs: calls.append(1) or real(inputs))
    assert model.encode_style(photo.copy()) == style
    assert model.encode_style(Image.fromarray(photo)) == style
    assert not calls
    kept.write_bytes(b"damaged")
    assert model.encode_style(photo) == style
    assert len(calls) == 1
    assert Style.load(kept) == style
    assert model.encode_style(255 - photo) != style
    # Neither another shape of the same bytes nor another model's entry may be taken for this one.
    assert model.encode_style(photo.reshape(photo.shape[1], photo.shape[0], 3)) != style
    for wrong in (Style(style.vector, "other"), Style(style.vector[:3], style.model)):
        wrong.save(kept)
        assert model.encode_style(photo) == style


def test_nothing_is_kept_where_that_is_not_wanted(model, private_cache, photo):
    style = model.encode_style(photo, cache=False)
    assert not any(private_cache.rglob("*.npz"))
    assert style == model.encode_style(photo)
    assert any(private_cache.rglob("*.npz"))


def test_entries_of_other_models_live_beside_each_other(model, private_cache, photo):
    other = Stylizer(dataclasses.replace(model.card, name="other"), model._encoder, model._painter.graph)
    assert model.encode_style(photo).model != other.encode_style(photo).model
    assert len([*private_cache.rglob("*.npz")]) == 2


def test_a_banner_is_read_within_bounds(model, monkeypatch):
    sizes = []
    real = model._encoder.run
    monkeypatch.setattr(model._encoder, "run", lambda inputs: sizes.append(inputs["picture"].shape) or real(inputs))
    model.encode_style(np.zeros((10, 20_000, 3), np.uint8))
    assert sizes == [(1, 512, 2048, 3)]


def test_a_cache_that_cannot_be_written_is_no_error(model, photo, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("RESTYLE_CACHE", str(tmp_path / "file"))
    assert model.encode_style(photo).model == model.card.identity


def test_model_folders_load_and_damage_is_seen(model, tmp_path, photo, wave):
    import shutil

    from restyle.weights import find_model

    folder = tmp_path / "copy"
    shutil.copytree(find_model("fast"), folder)
    loaded = Stylizer.load(folder, precision="f32", threads=1)
    assert np.array_equal(loaded.apply(photo, wave), model.apply(photo, wave))
    graph = folder / "stylizer.onnx"
    whole = graph.read_bytes()
    graph.write_bytes(whole[:-1])
    with pytest.raises(ModelFileError, match="damaged"):
        Stylizer.load(folder)
    graph.unlink()
    with pytest.raises(ModelFileError, match="missing"):
        Stylizer.load(folder)
    (folder / "model.json").write_text('{"name": "x"}')
    with pytest.raises(ModelFileError, match="version must be str"):
        Stylizer.load(folder)
    with pytest.raises(UnknownNameError, match="did you mean 'fast'"):
        Stylizer.load("fasst")


def test_the_one_liner(tmp_path):
    path = gallery.find("coffee", kind="sample")
    restyle.stylize(path, "wave", strength=0.8).save(tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as painted, Image.open(path) as photo:
        assert painted.size == photo.size
