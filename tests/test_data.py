from contextlib import nullcontext

import numpy as np
import pytest
import torch
from PIL import Image

from dsaccel.config.study import DataConfig
from dsaccel.data.ahead import brought_ahead
from dsaccel.data.images import Images
from dsaccel.data.load import load_data, load_test
from dsaccel.data.source import DataSource
from dsaccel.errors import ConfigError
from dsaccel.seeds import derive

CPU = torch.device("cpu")
SIDE = 8


def make_images(counts=(30, 20, 10), channels=3, side=SIDE):
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts)).astype(np.int64)
    # bright, so that the black of the padding is seen
    pixels = rng.integers(50, 256, (len(labels), side, side, channels)).astype(np.uint8)
    return Images(pixels, labels, tuple("abcdefghij"[: len(counts)]))


class Given(DataSource):
    name = "a source"

    def __init__(self, **splits):
        self.splits = splits

    def read(self, split):
        return self.splits.get(split)


@pytest.fixture
def load():
    """Data of given images."""

    def load(images=None, *, val=None, test=None, seed=1, batch_size=16, **settings):
        source = Given(train=images or make_images(), val=val, test=test)
        config = DataConfig(**settings)
        return load_data(config, seed=seed, batch_size=batch_size, device=CPU, source=source)

    return load


def original(data):
    """The training images before padding, normalised with numpy: (N, H, W, C)."""
    padding = (data.train_pixels.shape[1] - data.side) // 2
    inner = slice(padding, padding + data.side)
    pixels = data.train_pixels[:, inner, inner].numpy().astype(np.float64)
    return (pixels / 255 - np.array(data.mean)) / np.array(data.std)


def as_nhwc(x_BCHW):
    return x_BCHW.permute(0, 2, 3, 1).numpy()


def order(data, epoch):
    generator = torch.Generator().manual_seed(derive(data.seed, "order", epoch))
    return torch.randperm(data.num_train, generator=generator).tolist()


def epoch_images(data, epoch=1):
    return torch.cat([x for x, _ in data.train_batches(epoch)])


def test_batches_are_normalised_training_images_in_the_order_of_the_epoch(load):
    data = load(crop_padding=0, flip=False)
    expected, used = original(data), order(data, 3)
    for step, (x, y) in enumerate(data.train_batches(3)):
        indices = used[step * 16 : (step + 1) * 16]
        np.testing.assert_allclose(as_nhwc(x), expected[indices], atol=1e-5)
        assert y.tolist() == data.train_labels[indices].tolist()
        assert (x.dtype, y.dtype) == (torch.float32, torch.int64)


def test_mean_and_std_are_those_of_the_training_images_alone(load):
    data = load()
    padding = data.resolved.crop_padding
    pixels = data.train_pixels[:, padding:-padding, padding:-padding].numpy() / 255
    np.testing.assert_allclose(data.mean, pixels.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(data.std, pixels.std((0, 1, 2)), rtol=1e-9)
    everything = make_images().images / 255
    assert not np.allclose(data.mean, everything.mean((0, 1, 2)), rtol=1e-6)


def test_a_constant_channel_is_centred_and_not_divided_by_zero(load):
    images = make_images(channels=1)
    constant = Images(np.full_like(images.images, 200), images.labels, images.class_names)
    data = load(constant, crop_padding=0)
    assert data.std == (1.0,)
    assert epoch_images(data).abs().max() < 1e-6


def test_crop_and_flip_are_those_of_a_loop_over_the_images(load):
    data = load(crop_padding=2, flip=True)
    mean, std = np.array(data.mean), np.array(data.std)
    seen = set()
    used = order(data, 1)
    for image, index in zip(as_nhwc(epoch_images(data)), used, strict=False):
        padded = data.train_pixels[index].numpy() / 255
        matches = [
            (top, left, flip)
            for top in range(5)
            for left in range(5)
            for flip in (False, True)
            if np.allclose(image, crop(padded, top, left, flip=flip) / std - mean / std, atol=1e-5)
        ]
        assert len(matches) == 1
        seen.add(matches[0])
    tops, lefts, flips = (set(values) for values in zip(*seen, strict=True))
    assert tops == lefts == set(range(5))
    assert flips == {False, True}
    assert len(seen) > 20  # of 48 draws from 50: each is drawn on its own


def crop(padded, top, left, *, flip):
    window = padded[top : top + SIDE, left : left + SIDE]
    return window[:, ::-1] if flip else window


def test_crops_are_padded_with_black(load):
    data = load(crop_padding=8, flip=False)
    black = -np.array(data.mean) / np.array(data.std)
    is_black = np.isclose(as_nhwc(epoch_images(data)), black, atol=1e-5).all(-1)
    assert is_black.any()
    assert is_black.mean() < 0.8


def test_cutout_erases_a_square_to_the_mean_and_nothing_else(load):
    plain = as_nhwc(epoch_images(load(crop_padding=2, flip=True)))
    cut = as_nhwc(epoch_images(load(crop_padding=2, flip=True, cutout=3)))
    corners = set()
    for before, after in zip(plain, cut, strict=True):
        rows, columns = np.nonzero((before != after).any(-1))
        top, bottom, left, right = rows.min(), rows.max(), columns.min(), columns.max()
        assert len(rows) == (bottom - top + 1) * (right - left + 1)
        assert (after[rows, columns] == 0).all()
        assert (bottom - top == 2) or top == 0 or bottom == SIDE - 1
        assert (right - left == 2) or left == 0 or right == SIDE - 1
        assert max(bottom - top, right - left) <= 2
        corners.add((top, left))
    assert len(corners) > 10


def test_batches_are_channels_last_in_memory_with_and_without_cutout(load):
    for cutout in (0, 3):
        data = load(cutout=cutout)
        for x, _ in (next(data.train_batches(1)), next(data.val_batches())):
            assert x.is_contiguous(memory_format=torch.channels_last)


def test_an_epoch_repeats_and_another_epoch_or_seed_differs(load):
    data = load()
    assert torch.equal(epoch_images(data, 1), epoch_images(data, 1))
    assert not torch.equal(epoch_images(data, 1), epoch_images(data, 2))
    assert not torch.equal(epoch_images(data, 1), epoch_images(load(seed=2), 1))


def test_data_leaves_the_global_generators_alone(load):
    def states():
        return torch.get_rng_state().tolist(), repr(np.random.get_state())  # noqa: NPY002

    before = states()
    epoch_images(load(train_images=20, cutout=2))
    assert states() == before


def test_two_epochs_at_once_do_not_disturb_each_other(load):
    data = load()
    pairs = list(zip(data.train_batches(1), data.train_batches(2), strict=True))
    assert torch.equal(torch.cat([first[0] for first, _ in pairs]), epoch_images(data, 1))


def test_the_last_partial_batch_is_dropped_and_each_image_is_seen_once(load):
    data = load(batch_size=16, crop_padding=0, flip=False)
    batches = list(data.train_batches(1))
    assert data.num_train == 54
    assert len(batches) == data.num_steps == 3
    assert {len(y) for _, y in batches} == {16}
    assert len({x.numpy().tobytes() for batch, _ in batches for x in batch}) == 48


def test_fewer_images_than_a_batch_are_one_batch(load):
    data = load(batch_size=500)
    (batch,) = data.train_batches(1)
    assert data.num_steps == 1
    assert sorted(batch[1].tolist()) == sorted(data.train_labels.tolist())


@pytest.mark.parametrize(
    ("batch_size", "sizes"), [(250, [250, 250, 100]), (512, [512, 88]), (600, [512, 88])]
)
def test_validation_images_are_all_seen_unchanged_in_batches_of_training_size(
    load, batch_size, sizes
):
    images = make_images((600, 600), channels=1)
    data = load(images, val_fraction=0.5, batch_size=batch_size)
    batches = list(data.val_batches())
    assert [len(y) for _, y in batches] == sizes
    x_NCHW, y_N = torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])
    expected = (data.val.pixels.numpy() / 255 - data.mean[0]) / data.std[0]
    np.testing.assert_allclose(as_nhwc(x_NCHW), expected, atol=1e-5)
    assert torch.equal(y_N, data.val.labels)


def keys(pixels):
    return {image.tobytes() for image in pixels}


def test_the_split_is_stratified_seeded_and_without_overlap(load):
    data = load(crop_padding=0, val_fraction=0.1)
    train, val = keys(data.train_pixels.numpy()), keys(data.val.pixels.numpy())
    assert np.bincount(data.val.labels).tolist() == [3, 2, 1]
    assert np.bincount(data.train_labels).tolist() == [27, 18, 9]
    assert not train & val
    assert train | val == keys(make_images().images)
    assert val == keys(load(val_fraction=0.1, batch_size=3).val.pixels.numpy())
    assert val != keys(load(val_fraction=0.1, seed=2).val.pixels.numpy())


def test_labels_stay_with_their_images_through_the_split(load):
    images = make_images()
    label_of = {i.tobytes(): y for i, y in zip(images.images, images.labels, strict=True)}
    data = load(images, crop_padding=0, train_images=20)
    for pixels, labels in (
        (data.train_pixels, data.train_labels),
        (data.val.pixels, data.val.labels),
    ):
        assert [label_of[i.tobytes()] for i in pixels.numpy()] == labels.tolist()


@pytest.mark.parametrize("val_fraction", [0.01, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("counts", [(2, 2), (2, 300), (7, 7, 7), (2, 3, 50, 41)])
def test_each_class_is_in_both_parts_whatever_the_fraction(load, counts, val_fraction):
    data = load(make_images(counts), val_fraction=val_fraction)
    train, val = np.bincount(data.train_labels), np.bincount(data.val.labels)
    assert (train + val).tolist() == list(counts)
    assert min(train) >= 1
    assert min(val) >= 1


@pytest.mark.parametrize("wanted", [3, 4, 10, 29, 53, 54])
def test_train_images_gives_exactly_that_many_in_proportion_and_keeps_the_validation(load, wanted):
    everything, data = load(crop_padding=0), load(crop_padding=0, train_images=wanted)
    counts = np.bincount(data.train_labels)
    assert data.num_train == wanted == counts.sum()
    assert (counts >= 1).all()
    assert (abs(counts - np.array([27, 18, 9]) * wanted / 54) < 1.01).all()
    assert keys(data.train_pixels.numpy()) <= keys(everything.train_pixels.numpy())
    assert torch.equal(data.val.pixels, everything.val.pixels)


def test_given_validation_images_are_taken_and_none_are_held_out(load):
    images, val = make_images(), make_images((1, 5, 2))
    data = load(images, val=val, crop_padding=0)
    assert np.array_equal(data.train_pixels, images.images)
    assert np.array_equal(data.train_labels, images.labels)
    assert np.array_equal(data.val.pixels, val.images)
    assert np.array_equal(data.val.labels, val.labels)
    assert data.val_is_given
    assert not load(images).val_is_given
    # mean and std are of the training images alone
    np.testing.assert_allclose(data.mean, (images.images / 255).mean((0, 1, 2)), rtol=1e-12)
    # the split is of no seed, the share of none, and images to train on may still be few
    assert load(images, val=val, seed=2, val_fraction=0.5).fingerprint == data.fingerprint
    few = load(images, val=val, train_images=20)
    assert (few.num_train, few.num_val) == (20, 8)
    # a class needs no second image to be validated on
    single = load(make_images((1, 3)), val=make_images((1, 1)))
    assert (single.num_train, single.num_val) == (4, 2)


def test_shape_and_defaults_are_resolved(load):
    data = load(make_images((20, 20), channels=1, side=24))
    assert (data.num_classes, data.channels, data.side) == (2, 1, 24)
    assert (data.num_train, data.num_val, data.has_test) == (36, 4, False)
    resolved = data.resolved
    assert (resolved.image_size, resolved.channels) == (24, 1)
    assert (resolved.crop_padding, resolved.flip) == (3, True)
    kept = load(crop_padding=0, flip=False).resolved
    assert (kept.crop_padding, kept.flip) == (0, False)


def test_the_fingerprint_is_that_of_images_labels_and_split(load):
    images = make_images((20, 20))
    relabelled = Images(images.images, 1 - images.labels, images.class_names)  # splits alike
    repainted = Images(images.images.copy(), images.labels, images.class_names)
    repainted.images[0, 0, 0, 0] ^= 1
    prints = [
        load(images).fingerprint,
        load(images, seed=2).fingerprint,
        load(images, train_images=20).fingerprint,
        load(images, val_fraction=0.2).fingerprint,
        load(relabelled).fingerprint,
        load(repainted).fingerprint,
    ]
    assert len(set(prints)) == len(prints)
    assert load(images, cutout=2, batch_size=4).fingerprint == prints[0]


def test_a_split_has_the_fingerprint_of_its_own_images_and_labels(load):
    def test_print(images, **settings):
        return load_test(load(test=images, **settings)).fingerprint

    images = make_images((5, 5, 5))
    fewer = Images(images.images[1:], images.labels[1:], images.class_names)
    relabelled = Images(images.images, 2 - images.labels, images.class_names)
    assert len({test_print(made) for made in (images, fewer, relabelled)}) == 3
    # neither the seed nor the training images are in it
    assert test_print(images, seed=2, train_images=20, batch_size=4) == test_print(images)
    assert load(val=images).val.fingerprint == test_print(images)


def test_digits_are_split_by_the_seed_but_tested_on_the_same_images():
    config = DataConfig()
    first = load_data(config, seed=1, batch_size=128, device=CPU)
    other = load_data(config, seed=2, batch_size=128, device=CPU)
    assert (first.num_train, first.num_val, first.side, first.channels) == (1293, 144, 8, 1)
    assert (first.resolved.flip, first.resolved.crop_padding) == (False, 1)
    assert first.has_test
    assert torch.equal(load_test(first).pixels, load_test(other).pixels)
    assert not torch.equal(first.val.pixels, other.val.pixels)
    assert sum(len(y) for _, y in load_test(first).batches()) == 360


def test_test_images_get_the_size_channels_and_normalisation_of_the_training(tmp_path, monkeypatch):
    monkeypatch.setenv("DSACCEL_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for split, side in (("train", 12), ("test", 20)):
        for name in "ab":
            folder = tmp_path / "set" / split / name
            folder.mkdir(parents=True)
            for index in range(4):
                image = np.full((side, side, 3), rng.integers(256), np.uint8)
                Image.fromarray(image).save(folder / f"{index}.png")
    config = DataConfig(name=str(tmp_path / "set"), channels=1)
    data = load_data(config, seed=1, batch_size=4, device=CPU)
    assert len(list((tmp_path / "cache" / "images").glob("*x1.npz"))) == 1  # the training images
    test = load_test(data)
    x, y = (torch.cat(parts) for parts in zip(*test.batches(), strict=True))
    assert x.shape == (8, 1, 12, 12)
    assert y.tolist() == [0] * 4 + [1] * 4
    expected = (test.pixels.numpy() / 255 - data.mean[0]) / data.std[0]
    np.testing.assert_allclose(as_nhwc(x), expected, atol=1e-5)


def test_a_class_too_small_to_split_is_refused_by_name(load):
    with pytest.raises(ConfigError, match=r"class 'c' .* at least 2 .* has 1: add images"):
        load(make_images((5, 5, 1)))


@pytest.mark.parametrize("wanted", [2, 55])
def test_train_images_out_of_range_are_refused_with_the_range(load, wanted):
    with pytest.raises(ConfigError, match=rf"train_images must be within 3..54 .* got {wanted}"):
        load(train_images=wanted)


@pytest.mark.parametrize("name", ["crop_padding", "cutout"])
def test_augmentation_larger_than_the_image_is_refused(load, name):
    with pytest.raises(ConfigError, match=rf"data.{name} must be within 0..8, .* but got 9"):
        load(**{name: 9})


def test_a_missing_test_split_is_refused_when_it_is_asked_for(load):
    with pytest.raises(ConfigError, match="a source must have test images"):
        load_test(load())


@pytest.mark.parametrize("stay", [False, True])
def test_images_that_take_most_of_a_gpu_stay_on_the_host(monkeypatch, stay):
    """Tensors without numbers play the GPU's."""
    gpu = torch.device("meta")

    def moved(made, device):
        return (tuple(tensor.to(device) for tensor in batch) for batch in made)

    monkeypatch.setattr("dsaccel.data.batches.on_device", moved)
    given = Given(train=make_images(), test=make_images())
    data = load_data(
        DataConfig(),
        seed=1,
        batch_size=16,
        device=gpu,
        source=given,
        room_bytes=10**3 if stay else 10**6,
    )
    kept = data.train_pixels, data.train_labels, data.val.pixels, load_test(data).pixels
    assert {tensor.device for tensor in kept} == {CPU if stay else gpu}
    for made in (data.train_batches(1), data.val_batches()):
        assert {tensor.device for tensor in next(made)} == {gpu}


class Stream:
    """A CUDA stream where there is none: it notes what is asked of it."""

    def __init__(self, calls, name):
        self.calls, self.name = calls, name

    def record_event(self):
        self.calls.append("copied")
        return len(self.calls)

    def wait_event(self, event):
        self.calls.append("waited")


def test_each_batch_is_copied_while_the_one_before_it_is_used(monkeypatch):
    calls = []
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream(calls, "own"))
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream(calls, "user"))
    monkeypatch.setattr(torch.Tensor, "pin_memory", torch.Tensor.clone)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda self, stream: calls.append("kept"))
    given = [(torch.full((2,), float(n)), torch.tensor(n)) for n in range(3)]
    for number, (x, y) in enumerate(brought_ahead(given[0], iter(given[1:]), CPU)):
        calls.append("used")
        assert (x.tolist(), int(y)) == ([float(number)] * 2, number)
    in_turn = ["copied", "waited", "kept", "kept", "used"]
    assert calls == ["copied", *in_turn, *in_turn, *in_turn[1:]]
