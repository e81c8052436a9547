"""Codebooks of numbers and of vectors."""

from __future__ import annotations

import numpy as np
import pytest

from genlangsplat_ns.scene_io.codebooks import number_codebook, vector_codebook


def test_a_few_different_numbers_are_kept_exactly() -> None:
    values = np.array([[3.0, -1.0], [0.5, 3.0], [1e6, -1.0]])
    book, indices = number_codebook(values)
    assert len(book) == 256 and (np.diff(book) >= 0).all()
    assert np.array_equal(book[indices], values)


def test_numbers_get_the_nearest_entry_of_a_codebook_that_follows_them() -> None:
    values = np.random.default_rng(0).normal(size=(20_000, 3))
    book, indices = number_codebook(values)
    errors = np.abs(values - book[indices])
    assert np.allclose(errors, np.abs(values.reshape(-1, 1) - book).min(axis=1).reshape(values.shape))
    # Evenly spaced entries have an error of a quarter of their distance.
    assert errors.mean() < 0.7 * np.ptp(values) / 255 / 4
    assert errors.max() < 2 * np.ptp(values) / 255


@pytest.mark.parametrize("value", [0.0, -3.5])
def test_one_number_is_its_own_codebook(value: float) -> None:
    book, indices = number_codebook(np.full((10, 1), value))
    assert (book[indices] == value).all()


def test_vectors_stand_for_themselves_if_there_is_room() -> None:
    vectors = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    book, labels = vector_codebook(vectors, 50)
    assert np.array_equal(book[labels], vectors)


def test_groups_of_vectors_are_found() -> None:
    random = np.random.default_rng(0)
    centers = random.normal(size=(40, 9)).astype(np.float32)
    vectors = centers[random.integers(0, 40, 5000)]
    book, labels = vector_codebook(vectors, 64)
    assert len(book) <= 64 and np.allclose(book[labels], vectors, atol=1e-5)


def test_more_entries_leave_smaller_errors() -> None:
    vectors = np.random.default_rng(0).normal(size=(6000, 9)).astype(np.float32)
    errors = []
    for size in (1, 7, 64, 1024, 4096):
        book, labels = vector_codebook(vectors, size)
        assert len(book) == size and labels.max() == size - 1
        # Each entry is the mean of its vectors.
        sums = np.zeros((size, 9))
        np.add.at(sums, labels, vectors)
        assert np.allclose(sums / np.bincount(labels)[:, None], book, atol=1e-4)
        errors.append(float(np.square(vectors - book[labels]).mean()))
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.15 * errors[0]


def test_a_strong_outlier_gets_its_own_entry() -> None:
    vectors = np.random.default_rng(0).normal(scale=0.01, size=(1000, 3)).astype(np.float32)
    vectors[17] = 100.0
    book, labels = vector_codebook(vectors, 4)
    assert (labels == labels[17]).sum() == 1 and np.allclose(book[labels[17]], 100.0)
