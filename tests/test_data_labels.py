"""What labels and votes of a source stand for."""

import numpy as np
import pytest

from emoray.data.labels import FER_CLASSES, name_classes, soft_labels
from emoray.errors import UserError


def test_numbers_stand_for_fer2013s_names_only_in_its_column_and_range():
    texts = ["6", "0", "3"]
    assert name_classes(texts, column="emotion", classes=None)[0] == ("angry", "happy", "neutral")
    assert name_classes(texts, column="label", classes=None)[0] == ("0", "3", "6")
    assert name_classes([*texts, "7"], column="emotion", classes=None)[0] == ("0", "3", "6", "7")


def test_numbers_index_the_names_that_are_given():
    names, labels, reasons = name_classes(["1", "0", "2", "x"], column="label", classes=["no", "yes"])
    assert names == ("no", "yes")
    assert labels.tolist() == [1, 0, -1, -1]
    assert reasons == [None, None, "label '2' is not in data.classes", "label 'x' is not in data.classes"]


def test_names_stand_in_fer2013s_order_or_the_alphabets_or_the_one_given():
    assert name_classes(["sad", "angry", "neutral"], column=None, classes=None)[0] == ("angry", "sad", "neutral")
    assert name_classes(["sad", "bored", "angry"], column=None, classes=None)[0] == ("angry", "bored", "sad")
    names, labels, reasons = name_classes(["a", " b ", "c", None, ""], column=None, classes=["b", "a"])
    assert (names, labels.tolist()) == (("b", "a"), [1, 0, -1, -1, -1])
    assert reasons[2:] == ["label 'c' is not in data.classes", "no label", "no label"]


def test_a_stray_text_among_numbers_is_unusable():
    names, labels, reasons = name_classes(["0", "1", "1", "happy", "-1"], column="label", classes=None)
    assert (names, labels.tolist()) == (("0", "1"), [0, 1, 1, -1, -1])
    assert reasons[3] == "label 'happy' is not a whole number from 0, as the others are"


def test_one_class_or_a_class_without_images_is_an_error():
    with pytest.raises(UserError, match="the data has one class, happy; a classifier needs at least two"):
        name_classes(["happy", "happy"], column=None, classes=None)
    with pytest.raises(UserError, match=r"data\.classes: it names 'fear', but no usable image has that label"):
        name_classes(["happy", "sad"], column=None, classes=["happy", "sad", "fear"])


def test_ferplus_votes_are_matched_by_name_and_others_left_out():
    votes = [[4, 0, 0, 1, 3, 2, 0, 0, 0, 0], [0, 2, 0, 0, 0, 0, 0, 8, 0, 0], [-1] * 10, [0] * 7 + [5, 4, 1], None]
    soft = soft_labels(votes, np.array([0, 3, 1, 4, 6]), FER_CLASSES)
    assert soft.dtype == np.float32
    assert soft[0] == pytest.approx([0.3, 0.2, 0, 0, 0.1, 0, 0.4])
    assert soft[1] == pytest.approx(np.eye(7)[3])
    np.testing.assert_array_equal(soft[2:], np.eye(7)[[1, 4, 6]])


def test_other_names_of_the_same_emotions_match_too():
    votes = [[1, 2, 0, 0, 1, 0, 0, 4, 0, 0]]
    soft = soft_labels(votes, np.array([0]), ["Happiness", "anger", "Neutral", "contempt"])
    assert soft[0] == pytest.approx([0.25, 0.125, 0.125, 0.5])


def test_as_many_votes_as_classes_stand_in_their_order():
    assert soft_labels([[3, 1], None], np.array([0, 1]), ["a", "b"]).tolist() == [[0.75, 0.25], [0.0, 1.0]]
    assert soft_labels([[3, None], [2, 2]], np.array([1, 1]), ["a", "b"]).tolist() == [[0.0, 1.0], [0.5, 0.5]]
    with pytest.raises(UserError, match=r"an image has 3 of them; 2 \(one for each class\) or 10 \(FER\+\) are read"):
        soft_labels([[1, 1, 1]], np.array([0]), ["a", "b"])
    with pytest.raises(UserError, match="the source has no column of votes"):
        soft_labels([None], np.array([0]), ["a", "b"])
