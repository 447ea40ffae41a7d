"""Which patches there are, and batches of them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import in_memory, labels_of, one_class, picture, save

from napari_hspnet.errors import InputError
from napari_hspnet.training.data import (
    ArrayImage,
    Augment,
    PatchReader,
    check_classes,
    class_balance,
    class_pixels,
    images_that_fit,
    open_pairs,
    patch_index,
)
from napari_hspnet.training.data import decoded as decoding


def slow_index(images, side, stride, limit, outside):
    """The same by looking at every window."""
    rows = []
    for number, image in enumerate(images):
        labels = image.labels
        short = [(0, max(0, side - n)) for n in labels.shape]
        labels = np.pad(labels, short, constant_values=outside)
        starts = [sorted({*range(0, n - side + 1, stride), n - side}) for n in labels.shape]
        for y, x in itertools.product(*starts):
            window = labels[y : y + side, x : x + side]
            counts = [int((window == value).sum()) for value in range(5)]
            if sum(counts) and sum(counts[1:]) >= limit * side * side:
                rows.append((number, y, x, *counts))
    return rows


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=3),
    st.integers(4, 20),
    st.integers(1, 9),
    st.sampled_from([0.0, 0.25, 0.5]),
    st.sampled_from([0, 255]),
    st.integers(0, 1000),
)
def test_the_index_is_that_of_a_slow_loop(sizes, side, stride, limit, outside, seed) -> None:
    images = [in_memory(str(i), *size, seed + i) for i, size in enumerate(sizes)]
    wanted = slow_index(images, side, stride, limit, outside)
    if not wanted:
        with pytest.raises(InputError, match="enough foreground"):
            patch_index(images, side, stride, limit, outside=outside)
        return
    index = patch_index(images, side, stride, limit, outside=outside)
    got = np.column_stack([index.image, index.y, index.x, index.counts])
    assert got.tolist() == [list(row) for row in wanted]
    assert index.windows >= len(index)


def test_the_papers_windows_on_an_image() -> None:
    """400 px, stride 100: columns at 0, 100 and the last one shifted in to 150."""
    image = ArrayImage("a", "a", picture(400, 550), np.full((400, 550), 2, np.uint8))
    index = patch_index([image])
    assert index.x.tolist() == [0, 100, 150]
    assert (index.counts[:, 2] == 400 * 400).all()
    with pytest.raises(ValueError, match="read-only"):
        index.y[0] = 1


def test_the_digest_tells_whether_the_patches_are_the_same() -> None:
    assert patch_index(IMAGES, 16, 8).digest == INDEX.digest
    others = [
        patch_index(IMAGES, 16, 4),
        patch_index(IMAGES[::-1], 16, 8),
        patch_index(IMAGES, 16, 8, 0.3),
        patch_index(IMAGES, 16, 8, outside=0),
    ]
    assert len({INDEX.digest, *(index.digest for index in others)}) == 5


def test_a_small_image_is_padded_with_white_and_ignored_or_background() -> None:
    image = in_memory("a", 6, 30, values=(1, 2, 3))
    for outside in (0, 255):
        index = patch_index([image], 10, 10, outside=outside)
        reader = PatchReader([image], index, batch=1)
        for number in range(len(index)):
            rgb, labels = reader.patch(number)
            x = int(index.x[number])
            np.testing.assert_array_equal(rgb[:6], image.rgb[:, x : x + 10])
            np.testing.assert_array_equal(labels[:6], image.labels[:, x : x + 10])
            assert (rgb[6:] == 255).all()
            assert (labels[6:] == outside).all()
            counts = np.bincount(labels.ravel(), minlength=256)[:5]
            np.testing.assert_array_equal(index.counts[number], counts)


def test_what_gives_no_patches_is_refused() -> None:
    with pytest.raises(InputError, match="no image to learn from"):
        patch_index([])
    empty = one_class("a", "a", 0)
    with pytest.raises(InputError, match=r"None of the 9 patches .* 0\.0% at most"):
        patch_index([empty], 10, 5)
    with pytest.raises(InputError, match="enough foreground"):
        patch_index([one_class("a", "a", 255)], 10, 5, 0.0)
    for wrong in ({"side": 0}, {"stride": 0}, {"min_foreground": 1.5}, {"outside": 3}):
        with pytest.raises(InputError, match="There are no patches"):
            patch_index([in_memory("a")], **wrong)
    coarse = ArrayImage("b", "b", picture(20, 20), np.ones((20, 20), np.uint8), mpp=2.0)
    with pytest.raises(InputError, match="a has 1 µm per pixel, b 2"):
        patch_index([in_memory("a"), coarse], 10)


IMAGES = [in_memory(name, 60, 50, seed) for seed, name in enumerate("abcde")]
INDEX = patch_index(IMAGES, 16, 8)


def reader_of(**options):
    return PatchReader(IMAGES, INDEX, options.pop("augment", Augment()), batch=8, **options)


def digest(batches):
    return [(b.step, b.rgb.tobytes(), b.labels.tobytes()) for b in batches]


def test_an_epoch_shows_each_patch_once_and_drops_the_short_batch() -> None:
    reader = reader_of(augment=None)
    assert reader.steps_per_epoch == len(INDEX) // 8
    assert len(INDEX) % 8, "the test needs a remainder"
    order = reader.order(0)
    assert sorted(order) == list(range(len(INDEX)))
    assert (reader.order(1) != order).any()
    for number in range(reader.steps_per_epoch):
        rgb, labels = reader.batch(0, number)
        for i in range(8):
            at = order[number * 8 + i]
            image = IMAGES[INDEX.image[at]]
            y, x = INDEX.y[at], INDEX.x[at]
            np.testing.assert_array_equal(rgb[i], image.rgb[y : y + 16, x : x + 16])
            np.testing.assert_array_equal(labels[i], image.labels[y : y + 16, x : x + 16])
    for epoch, number in ((0, reader.steps_per_epoch), (0, -1), (-1, 0)):
        with pytest.raises(IndexError):
            reader.batch(epoch, number)


def test_augmentation_turns_truth_along_and_varies_by_epoch() -> None:
    """Green says the truth, so a turned patch can be checked against itself."""
    labels = labels_of(40, 40, values=(1, 2, 3, 4))
    rgb = np.repeat((labels * 50)[..., None], 3, axis=2)
    images = [ArrayImage("a", "a", rgb, labels)]
    reader = PatchReader(images, patch_index(images, 16, 8), Augment(stain=0), batch=4)
    epochs = [reader.batch(epoch, 0) for epoch in range(4)]
    for picture_, truth in epochs:
        np.testing.assert_array_equal(picture_[..., 1], truth * 50)
    assert len({truth.tobytes() for _, truth in epochs}) == 4
    stained, same = PatchReader(
        images, patch_index(images, 16, 8), Augment(False, 0.2), batch=4
    ).batch(0, 0)
    assert (stained[..., 1] != same * 50).any()


def test_the_same_seed_gives_the_same_batches_from_any_step() -> None:
    whole = digest(reader_of(seed=3).stream(0, 2 * reader_of().steps_per_epoch + 3, workers=0))
    assert [step for step, _, _ in whole] == list(range(len(whole)))
    assert digest(reader_of(seed=3).stream(7, len(whole), workers=0)) == whole[7:]
    assert digest(reader_of(seed=4).stream(0, 3, workers=0)) != whole[:3]
    epoch = reader_of().steps_per_epoch
    assert whole[0][1:] != whole[epoch][1:]


@pytest.mark.parametrize(("workers", "ahead"), [(1, 1), (2, 4), (5, 9)])
def test_threads_give_the_same_batches(workers, ahead) -> None:
    alone = digest(reader_of().stream(2, 20, workers=0))
    assert digest(reader_of().stream(2, 20, workers=workers, ahead=ahead)) == alone


class Counted:
    """An image that tells how often it was read."""

    def __init__(self, image):
        self._image, self.reads, self.fails = image, 0, False

    def __getattr__(self, name):
        return getattr(self._image, name)

    def read(self, *box):
        self.reads += 1
        if self.fails:
            raise InputError("cannot be read", advice="x", path="/x.png")
        return self._image.read(*box)


def test_no_more_is_read_ahead_than_was_said() -> None:
    image = Counted(in_memory("a", 60, 60))
    reader = PatchReader([image], patch_index([image], 16, 8), batch=4)
    stream = reader.stream(workers=2, ahead=3)
    for taken in range(1, 6):
        next(stream)
        assert image.reads <= 4 * (taken + 3)
    stream.close()
    after = image.reads
    assert after <= 4 * (5 + 3)


def test_what_a_thread_cannot_read_is_raised_to_the_caller() -> None:
    image = Counted(in_memory("a", 60, 60))
    reader = PatchReader([image], patch_index([image], 16, 8), batch=4)
    stream = reader.stream(workers=2)
    next(stream)
    image.fails = True
    with pytest.raises(InputError, match="cannot be read"):
        list(itertools.islice(stream, 10))


def test_few_images_at_once_are_decoded_once_an_epoch(tmp_path, monkeypatch) -> None:
    for seed in range(8):
        save(tmp_path / f"i{seed}.png", picture(40, 40, seed))
        save(tmp_path / f"i{seed}_mask.png", labels_of(40, 40, seed))
    found = open_pairs(tmp_path, limit=2 * 40 * 40 * 4)
    index = patch_index(found.images, 16, 8)
    assert images_that_fit(open_pairs(tmp_path, limit=8 * 40 * 40 * 4).images) is None
    assert images_that_fit(open_pairs(tmp_path, limit=10).images) == 1
    assert images_that_fit(IMAGES) is None
    fit = images_that_fit(found.images)
    assert fit == 2
    reader = PatchReader(found.images, index, batch=4, images_at_once=fit)
    order = reader.order(0)
    assert sorted(order) == list(range(len(index)))
    seen = index.image[order]
    groups = [set(g) for g in np.split(seen, np.flatnonzero(np.diff(seen)) + 1)]
    assert len(groups) > 8, "patches of a group are mixed"
    starts = [int(np.flatnonzero(seen == i)[0]) for i in range(8)]
    ends = [int(np.flatnonzero(seen == i)[-1]) for i in range(8)]
    open_at = [
        sum(s <= t <= e for s, e in zip(starts, ends, strict=True)) for t in range(len(seen))
    ]
    assert max(open_at) <= 2
    assert (reader.order(1) != order).any()
    decoded = []
    plain = decoding._picture
    monkeypatch.setattr(decoding, "_picture", lambda path: decoded.append(path) or plain(path))
    store = found.images[0].store
    for batch in reader.stream(0, reader.steps_per_epoch, workers=0):
        assert batch.rgb.shape == (4, 16, 16, 3)
        assert store.held <= store.limit
    assert len(decoded) == len(set(decoded)) == 8


def test_too_few_patches_one_class_or_wrong_numbers_are_refused() -> None:
    with pytest.raises(InputError, match="fewer than a batch of 999"):
        PatchReader(IMAGES, INDEX, batch=999)
    same = [one_class("a", "a", 3)]
    with pytest.raises(InputError, match="only CIN2"):
        PatchReader(same, patch_index(same, 10, 5), batch=2)
    for wrong in ({"seed": -1}, {"batch": 0}, {"images_at_once": 0}):
        with pytest.raises(InputError):
            PatchReader(IMAGES, INDEX, **wrong)
    for wrong in ({"first": -1}, {"workers": -1}, {"ahead": 0}):
        with pytest.raises(InputError):
            reader_of().stream(**wrong)
    with pytest.raises(InputError, match="Stains"):
        Augment(stain=1.0)


def test_the_balance_counts_pixels_images_and_patients() -> None:
    images = [
        in_memory("a", patient="P", values=(1, 2)),
        in_memory("b", patient="P", values=(2, 255)),
        in_memory("c", patient="Q", values=(4,)),
    ]
    balance = class_balance(images)
    all_labels = np.concatenate([image.labels.ravel() for image in images])
    for row in balance.rows:
        assert row.pixels == (all_labels == row.value).sum()
        assert row.share == pytest.approx(row.pixels / (all_labels != 255).sum())
    assert [row.images for row in balance.rows] == [0, 1, 2, 0, 1]
    assert [row.patients for row in balance.rows] == [0, 1, 1, 0, 1]
    assert (balance.images, balance.patients, balance.patches) == (3, 2, None)
    assert balance == class_balance(images, pixels=class_pixels(images))
    assert len(balance.lines()) == 6
    assert "CIN3" in balance.lines()[5]


def test_the_balance_of_an_index_counts_its_patches() -> None:
    balance = class_balance(IMAGES, INDEX)
    assert balance.patches == len(INDEX)
    for row in balance.rows:
        assert row.pixels == INDEX.counts[:, row.value].sum()
        assert row.patches == (INDEX.counts[:, row.value] > 0).sum()
    assert "patches" in balance.lines()[0]


def test_one_class_or_none_is_refused() -> None:
    check_classes(class_balance([in_memory("a")]))
    with pytest.raises(InputError, match="only normal"):
        check_classes(class_balance([one_class("a", "a", 1)]))
    with pytest.raises(InputError, match="no class at all"):
        check_classes(class_balance([one_class("a", "a", 255)]))
