"""keras.wrappers: scikit-learn's own checks of estimators, and models in its tools."""

import pickle
import random as python_random
import subprocess
import sys

import numpy as np
import pytest
import sklearn
from compare import assert_close
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import keraslite
from keraslite import layers, models
from keraslite.wrappers import SKLearnClassifier, SKLearnRegressor, SKLearnTransformer

X, Y = make_classification(40, 4, n_informative=3, n_redundant=0, n_classes=3, n_clusters_per_class=1, random_state=0)  # fmt: skip
NAMES = np.array(["ash", "birch", "elm"])[Y]


def network(X, y, activation="softmax", units=8, loss="categorical_crossentropy"):
    model = models.Sequential(
        [
            layers.Input(X.shape[1:]), layers.Dense(units, activation="relu"), layers.Dropout(0.1),
            layers.Dense(y.shape[1], activation=activation),
        ]
    )  # fmt: skip
    model.compile(keraslite.optimizers.Adam(0.02), loss)
    return model


def line(X, y):
    return network(X, y, "linear", loss="mse")


QUIET = {"verbose": 0}


@pytest.fixture
def torch():
    """The backend of tests whose subject is on none; jax where torch is not tested."""
    with keraslite.use_backend("torch" if "torch" in keraslite.backend.available() else "jax"):
        yield


@pytest.mark.parametrize(
    "estimator",
    [
        SKLearnClassifier(network, fit_kwargs=QUIET),
        SKLearnRegressor(line, fit_kwargs=QUIET),
        SKLearnTransformer(line, fit_kwargs=QUIET),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_checks_of_scikit_learn(estimator, torch):
    """All of them, with no exception; on one backend, since they see nothing of it."""
    results = check_estimator(estimator, on_fail=None)
    failed = [f"{x['check_name']}: {x['exception']!r}" for x in results if x["status"] == "failed"]
    assert not failed
    skipped = {x["check_name"] for x in results if x["status"] == "skipped"}
    assert skipped <= {"check_array_api_input"}  # which needs another package
    assert len(results) - len(skipped) >= 40


def test_a_classifier_trains_on_every_backend(trains):
    """The same fits everywhere, for a random_state; weights, dropout and orders follow from it."""
    state = python_random.getstate()
    classifier = SKLearnClassifier(network, fit_kwargs={"epochs": 40, **QUIET}, random_state=3)
    pipeline = make_pipeline(StandardScaler(), classifier).fit(X, NAMES)
    assert python_random.getstate() == state
    outputs = pipeline.decision_function(X)
    assert outputs.shape == (40, 3) and pipeline.score(X, NAMES) > 0.8
    assert pipeline.predict(X).tolist() == pipeline.classes_[outputs.argmax(-1)].tolist()
    assert_close(outputs, _outputs_on_numpy_of(pipeline), rtol=1e-4)
    again = pickle.loads(pickle.dumps(pipeline))
    assert_close(again.decision_function(X), outputs)
    assert len(FITS.setdefault(trains, outputs)) == 40
    for other in FITS.values():
        assert_close(outputs, other, rtol=1e-3, atol=1e-3)


FITS: dict = {}  # backend -> outputs


def _outputs_on_numpy_of(pipeline):
    with keraslite.use_backend("numpy"):
        model = models.clone_model(pipeline[-1].model_)
        model.set_weights([np.asarray(w) for w in pipeline[-1].model_.get_weights()])
        return model.predict(pipeline[0].transform(X), verbose=0)


def test_two_classes_and_weights(torch):
    classifier = SKLearnClassifier(network, fit_kwargs=QUIET, random_state=0)
    binary = Y[Y < 2] * 2 - 1
    classifier.fit(X[Y < 2], binary, epochs=2)
    decision = classifier.decision_function(X)
    assert decision.shape == (40,)
    assert classifier.predict(X).tolist() == np.where(decision > 0, 1, -1).tolist()
    assert classifier.epoch_ == 2 and classifier.fit_kwargs == QUIET  # not changed by fit
    weights = np.where(binary > 0, 1.0, 0.0)
    with pytest.raises(ValueError, match="sample_weight must be positive in two classes"):
        classifier.fit(X[Y < 2], binary, sample_weight=weights)
    classifier.fit(X[Y < 2], binary, sample_weight=weights + 0.1)
    for y, message in (
        (np.zeros(40), "two classes at least"),
        (Y[:, None] * [1, 1], "Unknown label type"),
    ):
        with pytest.raises(ValueError, match=message):
            classifier.fit(X, y)


def test_models_are_copied_or_trained_on(torch):
    given = network(X, np.zeros((40, 2)), "linear", loss="mse")
    before = given.get_weights()
    targets = np.stack([X[:, 0], X[:, 1] - X[:, 2]], 1)
    regressor = SKLearnRegressor(given, fit_kwargs={"epochs": 3, **QUIET}).fit(X, targets)
    assert regressor.model_ is not given and regressor.predict(X).shape == (40, 2)
    assert_close(given.get_weights(), before)
    warm = SKLearnRegressor(given, warm_start=True, fit_kwargs=QUIET)
    assert clone(warm).model is not given and clone(warm).fit_kwargs == QUIET
    losses = [warm.fit(X, targets, epochs=20).history_.history["loss"] for _ in range(2)]
    assert warm.model_ is given and losses[1][0] < losses[0][0]
    pictures = np.repeat(X, 4, 1).reshape(40, 2, 2, 4)
    flat = models.Sequential([layers.Input((2, 2, 4)), layers.Flatten(), layers.Dense(1)])
    with pytest.raises(RuntimeError, match="must be compiled"):
        SKLearnRegressor(flat).fit(pictures, X[:, 0])
    flat.compile("sgd", "mse")
    assert SKLearnRegressor(flat, fit_kwargs=QUIET).fit(pictures, X[:, 0]).predict(
        pictures
    ).shape == (40,)


def test_searches_and_pipelines(torch):
    search = GridSearchCV(
        SKLearnClassifier(network, fit_kwargs=QUIET, random_state=0),
        {"model_kwargs": [{"units": 2}, {"units": 16}], "fit_kwargs": [{"epochs": 10, **QUIET}]},
        cv=2,
    )
    assert search.fit(X, NAMES).best_params_["model_kwargs"] == {"units": 16}
    embedding = SKLearnTransformer(line, fit_kwargs=QUIET)
    with pytest.raises(NotFittedError):
        embedding.transform(X)
    assert embedding.fit_transform(X, X[:, :2]).shape == (40, 2)


def test_weights_are_routed(torch):
    classifier = SKLearnClassifier(network, fit_kwargs=QUIET)
    with pytest.raises(RuntimeError, match="set_config"):
        classifier.set_fit_request(sample_weight=True)
    with sklearn.config_context(enable_metadata_routing=True):
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        pipeline = make_pipeline(scaler, classifier.set_fit_request(sample_weight=True))
        with pytest.raises(ValueError, match="sample_weight must be positive"):
            pipeline.fit(X, NAMES, sample_weight=(Y == 0) * 1.0)


def test_without_scikit_learn_the_error_says_what_to_install():
    code = (
        "import sys; sys.modules['sklearn'] = None\n"
        "import keraslite\n"
        "assert 'SKLearnRegressor' in dir(keraslite.wrappers)\n"
        "try: keraslite.wrappers.SKLearnClassifier\n"
        "except ImportError as error: print(error)\n"
        "try: keraslite.wrappers.Nothing\n"
        "except AttributeError: print('unknown')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("not installed: pip install scikit-learn.\nunknown\n")
