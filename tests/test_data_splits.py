"""Splits hold whole groups, follow the classes' proportions, and depend on nothing but pixels and seed."""

from itertools import pairwise

import numpy as np
import pytest

from emoray.data import splits
from emoray.data.splits import SELECTION, TEST, TRAIN, VALIDATION
from emoray.errors import UserError

NAMES = ("a", "b", "c")


def images(counts=(400, 100, 30), copies=0.2, seed=0):
    """Digests and labels with a share of exact copies."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    digests = [f"{label}-{number}" for number, label in enumerate(labels)]
    for i in np.flatnonzero(random.random(len(labels)) < copies):
        same = np.flatnonzero(labels == labels[i])
        digests[i] = digests[random.choice(same)]
    return digests, labels


def assign(digests, labels, official=None, *, validation="auto", selection=0.1, test="auto", names=NAMES, seed=0):
    official = np.full(len(labels), -1) if official is None else official
    return splits.assign(
        digests, labels, official, validation=validation, selection=selection, test=test, names=names, seed=seed
    )


def test_equal_images_share_a_split():
    digests, labels = images()
    split = assign(digests, labels)
    places = {}
    for digest, place in zip(digests, split, strict=True):
        assert places.setdefault(digest, place) == place
    assert set(split.tolist()) == {TRAIN, SELECTION, VALIDATION, TEST}


def test_every_class_is_split_in_the_documented_shares():
    digests, labels = images(counts=(1000, 400, 200))
    split = assign(digests, labels, test=0.2, validation=0.1, selection=0.25)
    for label, count in enumerate((1000, 400, 200)):
        found = np.bincount(split[labels == label], minlength=4)
        assert found[TEST] == pytest.approx(0.2 * count, abs=2)
        assert found[VALIDATION] == pytest.approx(0.1 * 0.8 * count, abs=2)
        assert found[SELECTION] == pytest.approx(0.25 * 0.9 * 0.8 * count, abs=2)


def test_the_order_of_rows_changes_nothing():
    digests, labels = images()
    split = assign(digests, labels)
    order = np.random.default_rng(3).permutation(len(labels))
    again = assign([digests[i] for i in order], labels[order])
    np.testing.assert_array_equal(again, split[order])


def test_another_seed_gives_another_split():
    digests, labels = images()
    assert (assign(digests, labels) != assign(digests, labels, seed=1)).any()
    np.testing.assert_array_equal(assign(digests, labels, seed=1), assign(digests, labels, seed=1))


def test_places_are_the_same_in_every_process_and_version():
    digests, labels = [f"{i:032x}" for i in range(12)], np.array([0, 1] * 6)
    split = assign(digests, labels, names=("a", "b"), validation=0.2, test=0.2)
    assert split.tolist() == [0, 0, 1, 1, 0, 0, 2, 0, 3, 3, 0, 2]


def test_official_splits_stay_and_the_rest_is_carved():
    digests, labels = images()
    official = np.full(len(labels), TRAIN)
    official[::5] = TEST
    split = assign(digests, labels, official)
    assert (split[::5] == TEST).all()
    rest = np.delete(split, np.s_[::5])
    assert set(rest.tolist()) == {TRAIN, SELECTION, VALIDATION}


def test_a_share_in_place_of_an_official_split_pools_its_images():
    digests, labels = images(copies=0)
    official = np.where(np.arange(len(labels)) % 2 == 0, VALIDATION, TRAIN)
    split = assign(digests, labels, official, validation=0.2)
    assert 0.1 < (split[::2] == VALIDATION).mean() < 0.3
    assert (split[::2] == TRAIN).any()


def test_official_where_there_is_none_is_an_error():
    digests, labels = images()
    with pytest.raises(UserError, match=r"data\.split\.test: it is official, but the source marks no test images"):
        assign(digests, labels, test="official")


def test_a_share_of_nothing_leaves_a_split_empty():
    digests, labels = images()
    split = assign(digests, labels, selection=0.0)
    assert not (split == SELECTION).any()


def test_a_class_with_too_few_different_images_is_named_with_what_it_needs():
    digests, labels = images(counts=(50, 50, 5), copies=0)
    digests[-5:] = ["same", "same", "same", "x", "y"]
    with pytest.raises(
        UserError, match=r"class 'c' has 3 different images to split, but needs at least 4, one for each"
    ):
        assign(digests, labels)


def test_the_smallest_possible_class_has_one_image_in_each_split():
    digests, labels = images(counts=(50, 50, 4), copies=0)
    split = assign(digests, labels, validation=0.9)
    assert sorted(split[labels == 2].tolist()) == [TRAIN, SELECTION, VALIDATION, TEST]


def test_a_group_larger_than_a_share_does_not_swallow_it():
    digests, labels = images(counts=(100, 100), copies=0)
    digests[:60] = ["one"] * 60
    split = assign(digests, labels, names=("a", "b"))
    assert set(split[:60].tolist()) == {TRAIN}


def test_official_names_are_understood():
    names = ["Training", " PublicTest", "PrivateTest", "val", None, "holdout"]
    assert splits.official_roles(names).tolist() == [TRAIN, VALIDATION, TEST, VALIDATION, -1, -1]
    assert splits.official_roles(["train", "PublicTest"]).tolist() == [TRAIN, TEST]


def test_leaks_count_in_the_later_split_and_are_dropped_from_the_earlier():
    digests = ["p", "p", "q", "q", "r", "s", "s"]
    split = np.array([TRAIN, TEST, TRAIN, VALIDATION, TEST, VALIDATION, TEST])
    groups = splits.group(digests, np.zeros(7, int), classes=1, seed=0)
    assert splits.leaked(groups, split).tolist() == [False, True, False, True, False, False, True]
    assert (splits.last_split(groups, split) != split).tolist() == [True, False, True, False, False, True, False]


def test_groups_know_their_most_frequent_label_and_conflicts():
    groups = splits.group(["p", "p", "p", "q", "r", "r"], np.array([1, 0, 1, 2, 2, 0]), classes=3, seed=0)
    assert groups.of.tolist() == [0, 0, 0, 1, 2, 2]
    assert groups.sizes.tolist() == [3, 1, 2]
    assert groups.classes.tolist() == [1, 2, 0]
    assert groups.conflicting == 2


def test_limit_keeps_proportions_and_smaller_limits_are_subsets():
    digests, labels = images(counts=(400, 100, 30))
    groups = splits.group(digests, labels, classes=3, seed=0)
    rows = np.arange(len(labels))
    kept = [set(rows) - set(splits.beyond(n, rows, labels, groups, classes=3).tolist()) for n in (3, 10, 53, 265, 530)]
    assert [len(one) for one in kept] == [3, 10, 53, 265, 530]
    assert np.bincount(labels[sorted(kept[3])]).tolist() == [200, 50, 15]
    assert np.bincount(labels[sorted(kept[0])]).tolist() == [1, 1, 1]
    assert all(small <= large for small, large in pairwise(kept))


def test_a_limit_below_the_number_of_classes_is_an_error():
    digests, labels = images()
    groups = splits.group(digests, labels, classes=3, seed=0)
    with pytest.raises(UserError, match=r"data\.limit: 2 is too few for 3 classes"):
        splits.beyond(2, np.arange(len(labels)), labels, groups, classes=3)
