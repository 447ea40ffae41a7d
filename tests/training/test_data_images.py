"""Images in memory and in files: what is read, what is kept, what is refused."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_files import in_memory, labels_of, picture, save
from PIL import Image

from napari_hspnet.errors import InputError
from napari_hspnet.training.data import ArrayImage, ImageStore
from napari_hspnet.training.data.decoded import file_pair


def pair(folder, height=30, width=40, seed=0, zero="class", store=None, name="a"):
    rgb, labels = picture(height, width, seed), labels_of(height, width, seed)
    image = save(folder / f"{name}.png", rgb)
    mask = save(folder / f"{name}_mask.png", labels)
    made = file_pair(name, "p", image, mask, store or ImageStore(), zero=zero)
    return made, rgb, labels


def test_a_box_is_read_with_its_labels_and_is_the_callers(tmp_path) -> None:
    from_file, rgb, labels = pair(tmp_path)
    for image in (from_file, ArrayImage("a", "p", rgb, labels)):
        assert (image.height, image.width, image.mpp) == (30, 40, 1.0)
        got, truth = image.read(3, 5, 20, 35)
        np.testing.assert_array_equal(got, rgb[3:23, 5:40])
        np.testing.assert_array_equal(truth, labels[3:23, 5:40])
        np.testing.assert_array_equal(image.read_labels(0, 0, 30, 40), labels)
        got[:], truth[:] = 0, 0
        again, same = image.read(3, 5, 20, 35)
        assert again.any()
        assert same.any()
        for box in ((-1, 0, 5, 5), (0, 0, 31, 5), (0, 39, 5, 2), (0, 0, 0, 5)):
            with pytest.raises(ValueError, match="a"):
                image.read(*box)


def test_zero_can_be_a_class_or_ignored_or_ignored_on_black(tmp_path) -> None:
    rgb = np.full((4, 4, 3), 90, np.uint8)
    rgb[:2] = 0
    rgb[2, 0] = (0, 0, 7)
    mask = np.zeros((4, 4), np.uint8)
    mask[:, 3] = 2
    files = save(tmp_path / "a.png", rgb), save(tmp_path / "m.png", mask)
    read = {
        zero: file_pair("a", "p", *files, ImageStore(), zero=zero).read_labels(0, 0, 4, 4)
        for zero in ("class", "ignore", "black")
    }
    np.testing.assert_array_equal(read["class"], mask)
    np.testing.assert_array_equal(read["ignore"], np.where(mask == 0, 255, mask))
    black = mask.copy()
    black[:2, :3] = 255
    np.testing.assert_array_equal(read["black"], black)


@pytest.mark.parametrize(
    ("mode", "rgb"),
    [("L", [120, 120, 120]), ("P", [10, 20, 30]), ("RGBA", [255, 255, 255])],
)
def test_pictures_of_other_modes_are_read_as_rgb(tmp_path, mode, rgb) -> None:
    if mode == "RGBA":
        image = Image.new("RGBA", (5, 4), (9, 9, 9, 0))
    elif mode == "P":
        image = Image.new("P", (5, 4), 1)
        image.putpalette([0, 0, 0, 10, 20, 30])
    else:
        image = Image.new("L", (5, 4), 120)
    image.save(tmp_path / "a.png")
    mask = save(tmp_path / "m.png", np.ones((4, 5)))
    made = file_pair("a", "p", tmp_path / "a.png", mask, ImageStore())
    assert (made.read(0, 0, 4, 5)[0] == rgb).all()


def test_a_mask_of_palette_indices_is_read_by_index(tmp_path) -> None:
    image = Image.fromarray(np.array([[0, 4], [255, 2]], np.uint8))
    image.putpalette([n % 7 for n in range(768)])
    image.save(tmp_path / "m.png")
    made = file_pair(
        "a", "p", save(tmp_path / "a.png", picture(2, 2)), tmp_path / "m.png", ImageStore()
    )
    assert made.read_labels(0, 0, 2, 2).tolist() == [[0, 4], [255, 2]]


def test_a_mask_of_three_equal_channels_or_of_16_bits_is_read(tmp_path) -> None:
    good, values = save(tmp_path / "a.png", picture(2, 2)), np.array([[0, 4], [255, 2]])
    grey = save(tmp_path / "g.png", np.repeat(values[..., None], 3, axis=2))
    deep = tmp_path / "d.png"
    Image.fromarray(values.astype(np.uint16)).save(deep)
    for mask in (grey, deep):
        made = file_pair("a", "p", good, mask, ImageStore())
        assert made.read_labels(0, 0, 2, 2).tolist() == values.tolist()
    with pytest.raises(InputError, match="in colours") as raised:
        file_pair("a", "p", good, good, ImageStore()).read_labels(0, 0, 2, 2)
    assert raised.value.path == good
    Image.fromarray(np.array([[0, 4], [260, 2]], np.uint16)).save(deep)
    with pytest.raises(InputError, match="no class"):
        file_pair("a", "p", good, deep, ImageStore()).read_labels(0, 0, 2, 2)


def test_an_image_too_large_to_be_decoded_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    with pytest.raises(InputError, match="too large"):
        pair(tmp_path)


def test_unknown_values_are_named_with_the_file(tmp_path) -> None:
    files = save(tmp_path / "a.png", picture(3, 3)), save(tmp_path / "m.png", np.diag([7, 9, 4]))
    made = file_pair("a", "p", *files, ImageStore())
    with pytest.raises(InputError, match="7, 9, which stands for no class") as raised:
        made.read(0, 0, 3, 3)
    assert raised.value.path == files[1]
    with pytest.raises(InputError, match="6"):
        ArrayImage("a", "p", picture(3, 3), np.full((3, 3), 6, np.uint8))


def test_sizes_that_differ_are_refused_at_once(tmp_path) -> None:
    files = save(tmp_path / "a.png", picture(3, 4)), save(tmp_path / "m.png", np.ones((4, 3)))
    with pytest.raises(InputError, match="3 x 4 px, its picture 4 x 3 px") as raised:
        file_pair("a", "p", *files, ImageStore())
    assert raised.value.path == files[1]
    with pytest.raises(InputError, match="shape"):
        ArrayImage("a", "p", picture(3, 4), np.ones((4, 3), np.uint8))
    with pytest.raises(InputError, match="float32"):
        ArrayImage("a", "p", picture(3, 4), np.ones((3, 4), np.float32))  # type: ignore[arg-type]


def test_files_of_the_wrong_kind_are_refused_at_once(tmp_path) -> None:
    good = save(tmp_path / "a.png", picture(4, 4))
    mask = save(tmp_path / "m.png", np.ones((4, 4)))
    lossy = save(tmp_path / "m.jpg", np.ones((4, 4)))
    deep = tmp_path / "deep.png"
    Image.fromarray(np.ones((4, 4), np.uint16)).save(deep)
    clear = tmp_path / "clear.png"
    Image.new("RGBA", (4, 4)).save(clear)
    text = tmp_path / "t.png"
    text.write_text("no picture")
    for files, match in (
        ((good, clear), "mode RGBA"),
        ((good, lossy), "JPEG, which changes values"),
        ((deep, mask), "mode I;16"),
        ((text, mask), "cannot be read"),
        ((good, text), "cannot be read"),
        ((good, tmp_path / "absent.png"), "no such file"),
    ):
        with pytest.raises(InputError, match=match) as raised:
            file_pair("a", "p", *files, ImageStore())
        assert raised.value.path in files


@pytest.mark.parametrize("which", [".png", "_mask.png"])
def test_a_truncated_file_is_named_when_it_is_read(tmp_path, which) -> None:
    made, _, _ = pair(tmp_path, 80, 80)
    path = tmp_path / f"a{which}"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match="cannot be read") as raised:
        made.read(0, 0, 80, 80)
    assert raised.value.path == path


def test_a_file_that_changed_size_meanwhile_is_refused(tmp_path) -> None:
    made, _, _ = pair(tmp_path)
    save(tmp_path / "a.png", picture(31, 40))
    with pytest.raises(InputError, match="changed while"):
        made.read(0, 0, 5, 5)


def test_a_folder_of_many_images_is_read_within_the_limit(tmp_path) -> None:
    limit = 3 * 30 * 40 * 4  # Three pairs.
    store = ImageStore(limit)
    made = [pair(tmp_path, seed=i, store=store, name=f"i{i}") for i in range(20)]
    assert store.held == 0, "opening decodes nothing"
    held = []
    for i in np.random.default_rng(0).integers(0, 20, 100):
        image, rgb, labels = made[i]
        got = image.read(0, 0, 30, 40)
        np.testing.assert_array_equal(got[0], rgb)
        np.testing.assert_array_equal(got[1], labels)
        held.append(store.held)
    assert max(held) <= limit
    assert max(held) > limit // 2, "and what fits is kept"


@given(st.lists(st.integers(0, 5), max_size=40), st.integers(0, 60))
def test_the_store_keeps_the_latest_that_fit_and_the_newest_anyhow(keys, limit) -> None:
    """Item k has 10 (k + 1) bytes; beside it a plain model of the same rule."""
    store, kept, made = ImageStore(limit), [], []

    def make(key):
        made.append(key)
        return np.full(10 * (key + 1), key, np.uint8)

    for key in keys:
        before = list(made)
        assert (store.get(key, lambda key=key: make(key)) == key).all()
        assert (made == before) == (key in kept)
        kept = [k for k in kept if k != key] + [key]
        while len(kept) > 1 and sum(10 * (k + 1) for k in kept) > limit:
            kept.pop(0)
        assert store.held == sum(10 * (k + 1) for k in kept)


def test_what_two_threads_want_is_decoded_once() -> None:
    store, made = ImageStore(), []
    ready = threading.Barrier(4)

    def make():
        made.append(threading.get_ident())
        return np.zeros(8, np.uint8)

    def want():
        ready.wait(10)
        return store.get("a", make)

    with ThreadPoolExecutor(4) as pool:
        got = [f.result() for f in [pool.submit(want) for _ in range(4)]]
    assert len(made) == 1
    assert all(array is got[0] for array in got)


def test_what_cannot_be_made_is_tried_again() -> None:
    store = ImageStore()

    def fail():
        raise InputError("no", advice="no")

    with pytest.raises(InputError):
        store.get("a", fail)
    assert store.get("a", lambda: np.ones(3, np.uint8)).sum() == 3


def test_in_memory_images_are_compared_by_identity() -> None:
    assert in_memory("a") != in_memory("a")
