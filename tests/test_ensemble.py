"""Ensemble methods on simulated pools."""

import json
import time
import tracemalloc

import numpy as np
import pytest
from scipy import optimize

from emoray import crossfit, ensemble, metrics, solvers
from emoray.blend import Blend, softmax
from tests.pools import METHODS, METRICS, pool


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("members", "n"), [(1, 40), (2, 40), (9, 60), (4, 2), (3, 1)])
def test_every_method_gives_a_prediction_however_small_the_data(method, metric, members, n):
    probabilities, labels = pool(n, members, n)
    blend = method(probabilities, labels, metric)
    predicted = blend.predict(probabilities)
    assert predicted.shape == (n, 7)
    assert predicted.dtype == np.float32
    np.testing.assert_allclose(predicted.sum(1), 1.0, rtol=1e-5)
    if blend.weights:
        assert len(blend.weights) == members
        assert min(blend.weights) >= 0
        assert sum(blend.weights) == pytest.approx(1.0)
    again = Blend.from_json(json.loads(json.dumps(blend.to_json())))
    assert again == blend
    assert method(probabilities, labels, metric) == blend  # no unseeded randomness


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_member_that_guesses_hardly_counts(method):
    probabilities, labels = pool(0, 4, 1500)
    probabilities[2] = np.random.default_rng(1).dirichlet(np.ones(7), len(labels))
    blend = method(probabilities, labels, "accuracy")
    if blend.weights:
        assert blend.weights[2] < 0.1
    with_it = metrics.value("accuracy", labels, blend.predict(probabilities))
    assert with_it >= max(metrics.value("accuracy", labels, member) for member in probabilities) - 0.005


def test_members_that_are_not_used_need_not_be_computed():
    probabilities, labels = pool(3, 5, 300)
    blend = ensemble.single(probabilities, labels, "accuracy")
    without = np.full_like(probabilities, np.nan)
    without[list(blend.used)] = probabilities[list(blend.used)]
    np.testing.assert_array_equal(blend.predict(without), blend.predict(probabilities))
    with pytest.raises(ValueError, match="5 members, but got 4"):
        blend.predict(probabilities[:4])


def test_single_and_uniform_choose_by_the_metric():
    probabilities, labels = pool(1, 6, 400, spread=0.3)
    for metric in METRICS:
        values = [metrics.value(metric, labels, member) for member in probabilities]
        (best,) = ensemble.single(probabilities, labels, metric).used
        assert values[best] == max(values)
        chosen = ensemble.uniform(probabilities, labels, metric)
        reached = metrics.value(metric, labels, chosen.predict(probabilities))
        for k in range(1, 7):
            fixed = ensemble.uniform(probabilities, labels, metric, top_k=k)
            assert len(fixed.used) == k
            assert reached >= metrics.value(metric, labels, fixed.predict(probabilities)) - 1e-9


@pytest.mark.parametrize("metric", METRICS)
def test_greedy_takes_what_a_plain_search_would(metric):
    probabilities, labels = pool(2, 5, 250, spread=0.3)
    blend = ensemble.greedy(probabilities, labels, metric, rounds=12, sorted_start=0)
    chosen, history = [int(np.argmax(ensemble.single(probabilities, labels, metric).weights))], []
    while True:
        history.append(metrics.value(metric, labels, probabilities[chosen].mean(0)))
        if len(chosen) == 12:
            break
        means = [probabilities[[*chosen, m]].mean(0) for m in range(5)]
        keys = [(round(metrics.value(metric, labels, p), 9), -metrics.log_loss(labels, p)) for p in means]
        chosen.append(max(range(5), key=keys.__getitem__))
    reached = metrics.value(metric, labels, blend.predict(probabilities))
    assert reached == pytest.approx(max(history), abs=1e-6)


def test_greedy_settings():
    probabilities, labels = pool(4, 8, 300)
    three = ensemble.greedy(probabilities, labels, "accuracy", rounds=3)
    assert all(round(w * k) == pytest.approx(w * k) for k in [len(three.used)] for w in three.weights)
    bagged = ensemble.greedy(probabilities, labels, "accuracy", bags=8, seed=1)
    assert bagged != ensemble.greedy(probabilities, labels, "accuracy", bags=8, seed=2)
    assert len(bagged.used) > len(three.used)


@pytest.mark.parametrize(("members", "n"), [(2, 50), (10, 500), (30, 20)])
@pytest.mark.parametrize("pull", [0.0, 5.0, 1e6])
def test_log_loss_weights_are_the_optimum(members, n, pull):
    probabilities, labels = pool(members, members, n, spread=0.3)
    likelihoods = probabilities[:, np.arange(n), labels]
    weights = np.array(ensemble.log_loss(probabilities, labels, "accuracy", pull=pull).weights)

    def loss(w):
        return -np.log(w @ likelihoods).sum() - (pull * np.log(w).mean() if pull else 0.0)

    start = np.full(members, 1 / members)
    reference = optimize.minimize(
        loss,
        start,
        method="SLSQP",
        bounds=[(1e-9, 1)] * members,
        constraints={"type": "eq", "fun": lambda w: 1 - w.sum()},
    )
    assert loss(weights) <= reference.fun + 1e-4
    if pull == 1e6:
        np.testing.assert_allclose(weights, start, rtol=0.01)


def test_log_loss_shares_among_equal_members_and_drops_a_worse_one():
    probabilities, labels = pool(0, 1, 400)
    worse = 0.5 * probabilities[0] + 0.5 / 7
    weights = solvers.mixture_weights(
        np.stack([probabilities[0], probabilities[0], worse])[:, np.arange(400), labels], 0
    )
    assert weights[:2].sum() == pytest.approx(1.0, abs=0.2)
    assert np.isfinite(weights).all()


def test_cma_es_finds_the_lowest_point_of_hard_functions():
    def ellipsoid(points):
        return (10.0 ** (6 * np.arange(8) / 7) * (points - 1.0) ** 2).sum(axis=1)

    def rosenbrock(points):
        return (100 * (points[:, 1:] - points[:, :-1] ** 2) ** 2 + (1 - points[:, :-1]) ** 2).sum(axis=1)

    for function in (ellipsoid, rosenbrock):
        found = solvers.cma_es(function, np.zeros(8), 0.5, 8000, seed=0)
        np.testing.assert_allclose(found, 1.0, atol=1e-3)


def test_stacking_repairs_what_no_weights_can():
    probabilities, labels = pool(5, 3, 4000)
    probabilities = probabilities[:, :, [1, 0, 2, 3, 4, 5, 6]]  # every member confuses the first two classes
    half = slice(0, 2000), slice(2000, None)
    blends = [METHODS[m](probabilities[:, half[0]], labels[half[0]], "accuracy") for m in ("stacking", "log_loss")]
    stacked, weighted = (
        metrics.value("accuracy", labels[half[1]], blend.predict(probabilities[:, half[1]])) for blend in blends
    )
    assert stacked > weighted + 0.05


def test_stacking_with_a_strong_penalty_is_the_geometric_mean():
    probabilities, labels = pool(6, 4, 200)
    blend = ensemble.stacking(probabilities, labels, "accuracy", penalty=1e6)
    np.testing.assert_allclose(
        blend.predict(probabilities), softmax(np.log(np.maximum(probabilities, metrics.FLOOR)).mean(0)), atol=1e-3
    )
    assert len(ensemble.stacking(probabilities, labels, "accuracy", top_k=2).used) == 2


def test_auto_keeps_uniform_unless_another_is_surely_better():
    noise, labels = pool(9, 6, 300, spread=0.0)
    assert ensemble.auto(noise, labels, "accuracy").method == "uniform"
    clear, labels = pool(9, 6, 3000, spread=0.0)
    clear = clear[:, :, [1, 0, 2, 3, 4, 5, 6]]
    assert ensemble.auto(clear, labels, "log_loss").method == "stacking"


def test_a_pool_is_not_copied_whole():
    probabilities, labels = pool(12, 20, 4000)
    for name, method in METHODS.items():
        tracemalloc.start()
        method(probabilities, labels, "accuracy")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < (3.0 if name == "auto" else 1.5) * probabilities.nbytes, name


def test_speed_of_the_fast_methods():
    """A fifth of the promised size in far more than a fifth of the promised time: catches only a lost algorithm."""
    probabilities, labels = pool(13, 50, 4000)
    for method in (ensemble.log_loss, ensemble.greedy):
        begin = time.process_time()
        method(probabilities, labels, "accuracy")
        assert time.process_time() - begin < 2.0


@pytest.mark.parametrize("metric", ["accuracy", "log_loss"])
def test_auto_is_not_taken_in_by_copies(metric):
    """40 images, 30 times each: whoever has seen one copy knows the others, and chance repeated 30 times looks sure."""
    probabilities, labels = pool(3, 6, 40, spread=0.0)
    copies = np.tile(np.arange(40), 30)
    probabilities, labels = probabilities[:, copies], labels[copies]
    assert ensemble.auto(probabilities, labels, metric).method == "stacking"
    assert ensemble.auto(probabilities, labels, metric, copies).method == "uniform"
    methods = {"single": ensemble.single, "uniform": ensemble.uniform, "auto": ensemble.auto}
    report = crossfit.evaluate(probabilities, labels, methods, metric, groups=copies)
    assert report.methods["auto"].blend.method == "uniform", "a report hands on the groups that it was given"


def test_stacking_chooses_its_penalty_on_images_that_it_has_not_seen():
    """Copies alone speak for the weakest penalty."""
    probabilities, labels = pool(3, 6, 60, spread=0.0)
    copies = np.tile(np.arange(60), 10)
    probabilities, labels = probabilities[:, copies], labels[copies]
    by_hand = {p: ensemble.stacking(probabilities, labels, "accuracy", penalty=p) for p in (10.0, 1.0, 0.001)}
    assert ensemble.stacking(probabilities, labels, "accuracy", None) == by_hand[0.001]
    assert ensemble.stacking(probabilities, labels, "accuracy", copies) in (by_hand[10.0], by_hand[1.0])
