"""Distances, copies and self-checks; on random weights and made-up pictures where that will do."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from amtutor import _files, data, evaluate
from amtutor.evaluate import c10, damage
from amtutor.train import evaluation

needs_fidelity = pytest.mark.skipif(
    not all(map(__import__("importlib").util.find_spec, ("torch_fidelity", "torchvision"))),
    reason='needs pip install "amtutor[train]"',
)
needs_weights = pytest.mark.skipif(not c10.WEIGHTS.is_file(), reason="no c10 weights here yet")


def made_up(n: int, *, seed: int = 0, contrast: float = 60.0) -> np.ndarray:
    """Smooth random pictures."""
    g = np.random.default_rng(seed)
    coarse = g.normal(128, contrast, (n, 3, 8, 8)).repeat(4, 2).repeat(4, 3)
    return damage.blur(np.clip(coarse, 0, 255).astype(np.uint8), 1.5)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A small classifier with random weights, saved as ours are."""
    torch.manual_seed(3)
    model = c10.Classifier((8, 12, 16))
    model.whiten(torch.from_numpy(made_up(50)))
    model.train()
    model(torch.from_numpy(made_up(200)))  # gives the normalisations something to know
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    c10.save(model, path)
    return path


@pytest.fixture(scope="module")
def cifar():
    try:
        return {name: data.cifar10(name, download=False) for name in ("train", "test")}
    except data.DataNotFound as error:
        pytest.skip(f"CIFAR-10 is not here: {error}")


# ---------------------------------------------------------------------- the classifier


def test_weights_go_to_disk_as_float16_and_come_back(weights):
    model = c10.load(weights)
    assert model.widths == (8, 12, 16) and not model.training
    again = weights.with_name("again.safetensors")
    c10.save(model, again)
    assert again.read_bytes() == weights.read_bytes()
    assert all(p.dtype == torch.float32 and not p.requires_grad for p in model.parameters())


def test_whitening_leaves_patches_uncorrelated():
    model = c10.Classifier((8, 8, 8))
    images = torch.from_numpy(made_up(100))
    model.whiten(images, eps=1e-9)
    out = model.whitening((images - model.mean) / model.std)[:, :12]
    flat = out.transpose(0, 1).flatten(1).double()
    second = flat @ flat.T / flat.shape[1]
    torch.testing.assert_close(second, torch.eye(12).double(), atol=0.02, rtol=0)


def test_first_filters_of_a_new_convolution_hand_their_input_on():
    block = c10.Block(5, 9)
    x = torch.rand(2, 5, 6, 6)
    torch.testing.assert_close(block.conv1(x)[:, :5], x)


def test_features_do_not_depend_on_how_many_are_asked_for(weights):
    model, images = c10.load(weights), made_up(2 * c10.BLOCK + 7)
    features, logits = c10.extract(model, images)
    for rows in (slice(0, 1), slice(3, 40), slice(250, 257), slice(490, 507)):
        some, answers = c10.extract(model, images[rows])
        assert torch.equal(some, features[rows])
        torch.testing.assert_close(answers, logits[rows])
    torch.testing.assert_close(logits[:9], model(torch.from_numpy(images[:9])))


def test_wrong_weights_are_refused_in_one_line(tmp_path, weights):
    with pytest.raises(FileNotFoundError, match="no such file"):
        c10.load(tmp_path / "nothing.safetensors")
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ValueError, match="bad.safetensors: no weights of amtutor") as caught:
        c10.load(bad)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="three numbers of channels"):
        c10.Classifier((8, 8))


def test_a_missing_package_is_named_with_the_command(monkeypatch, weights):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(ImportError, match=r'pip install "amtutor\[train\]"'):
        evaluate.features.torch_fidelity()


def test_importing_needs_torch_only():
    code = (
        "import sys\n"
        "for m in ('torch_fidelity', 'torchvision', 'safetensors', 'accelerate'):\n"
        "    sys.modules[m] = None\n"
        "import amtutor.evaluate\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_hash_of_a_set_does_not_depend_on_order():
    images = made_up(20)
    assert c10.picture_hash(images) == c10.picture_hash(images[::-1])
    changed = images.copy()
    changed[3, 1, 4, 4] ^= 1
    assert c10.picture_hash(images) != c10.picture_hash(changed)


@needs_weights
def test_the_weights_that_ship_are_small_and_say_what_they_are():
    about = json.loads(c10.WEIGHTS.with_suffix(".json").read_text("utf-8"))
    assert c10.WEIGHTS.stat().st_size <= 3_000_000
    assert about["metrics"]["test_accuracy"] >= 0.92
    assert about["training_images"] == 50_000 and about["config"]["held_out"] == 0
    assert about["sha256"] == evaluate.extractor("c10").protocol["features_sha256"]


@needs_weights
def test_the_weights_that_ship_know_the_test_pictures(cifar):
    images, labels = (a[:1000] for a in cifar["test"])
    _, logits = c10.extract(c10.load(), images)
    right = float((logits.argmax(1).numpy() == labels).mean())
    about = json.loads(c10.WEIGHTS.with_suffix(".json").read_text("utf-8"))
    assert abs(right - about["metrics"]["test_accuracy"]) < 0.03


# ---------------------------------------------------------------------- distances


@needs_fidelity
def test_a_set_has_distance_zero_to_itself_and_more_to_others(weights):
    extract = evaluate.extractor(weights)
    a, b = extract(made_up(300)), extract(made_up(300, seed=1))
    far = extract(made_up(300, seed=1, contrast=20))
    assert abs(evaluate.frechet(a, a)) < 1e-8
    assert 0 < evaluate.frechet(a, b) < evaluate.frechet(a, far)
    assert evaluate.frechet(a, b) == pytest.approx(evaluate.frechet(b, a), rel=1e-6)


@needs_fidelity
def test_frechet_distance_of_two_known_gaussians():
    def gaussian(mean: float, std: float) -> evaluate.Features:
        x = torch.randn(500, 4, dtype=torch.float64)
        x = x - x.mean(0)
        x = x @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T))).T  # covariance exactly 1
        return evaluate.Features(mean + std * x, torch.zeros(500, 2), "made up")

    # |mu1 - mu2|^2 + sum over dimensions of (std1 - std2)^2
    known = 4 * 1.5**2 + 4 * (3 - 2) ** 2
    assert evaluate.frechet(gaussian(0, 2), gaussian(1.5, 3)) == pytest.approx(known, rel=1e-9)


@needs_fidelity
def test_all_numbers_are_those_of_torch_fidelity(weights):
    """The same pictures through torch-fidelity's own front door, our network registered there."""
    fidelity = evaluate.features.torch_fidelity()
    base = evaluate.features.torch_fidelity("feature_extractor_base").FeatureExtractorBase
    model = c10.load(weights)

    class Ours(base):
        def __init__(self, name, features_list, **kwargs):
            super().__init__(name, features_list)
            self.model = model

        @staticmethod
        def get_provided_features_list():
            return "features", "logits"

        @staticmethod
        def get_default_feature_layer_for_metric(metric):
            return "logits" if metric == "isc" else "features"

        @staticmethod
        def can_be_compiled():
            return False

        @staticmethod
        def get_dummy_input_for_compile():
            return torch.zeros(1, 3, 32, 32, dtype=torch.uint8)

        def forward(self, x):
            found = dict(zip(("features", "logits"), c10.extract(self.model, x), strict=True))
            return tuple(found[name] for name in self.features_list)

    class Set(torch.utils.data.Dataset):
        def __init__(self, images):
            self.images = torch.from_numpy(images)

        def __len__(self):
            return len(self.images)

        def __getitem__(self, k):
            return self.images[k]

    fidelity.register_feature_extractor("amtutor-test", Ours)
    samples, reference = made_up(260, seed=1, contrast=40), made_up(300)
    theirs = fidelity.calculate_metrics(
        **{"input1": Set(samples), "input2": Set(reference), "feature_extractor": "amtutor-test"},
        **{"isc": True, "fid": True, "kid": True, "prc": True, "kid_subset_size": 260},
        **{"cuda": False, "cache": False, "save_cpu_ram": True, "verbose": False, "rng_seed": 5},
    )
    ours = evaluate.fidelity(samples, reference, features=weights, seed=5)
    pairs = {
        "fd-c10": "frechet_inception_distance",
        "is-c10": "inception_score_mean",
        "kd-c10": "kernel_inception_distance_mean",
        "precision-c10": "precision",
        "recall-c10": "recall",
    }
    for name, other in pairs.items():
        assert ours[name] == pytest.approx(theirs[other], rel=2e-3, abs=1e-6), name


@needs_fidelity
@pytest.mark.parametrize("sizes", [(12, 30), (30, 12)])
def test_no_subset_is_larger_than_the_smaller_set(sizes):
    """Whichever set that is; a subset that is the whole of both leaves nothing to chance."""
    g = torch.Generator().manual_seed(0)
    a, b = (
        evaluate.Features(torch.randn(n, 6, generator=g), torch.randn(n, 10, generator=g), "")
        for n in sizes
    )
    ours = evaluate.Extractor(
        lambda x: x, {k: k for k in ("fid", "is", "kid", "precision", "recall")}
    )
    found = evaluate.compare(ours, a, b)
    assert found["protocol"]["kid"].startswith("100 subsets of 12,")
    both = evaluate.compare(ours, a[:12], b[:12])
    assert both["kid-std"] == pytest.approx(0, abs=1e-9) and found["kid-std"] > 1e-6


@needs_fidelity
def test_our_features_never_give_a_fid_and_the_protocol_says_all(weights):
    found = evaluate.fidelity(made_up(40), made_up(50, seed=1), features=weights)
    assert not {"fid", "is", "kid", "precision", "recall"} & found.keys()
    protocol = found["protocol"]
    assert (protocol["samples"], protocol["reference"]) == (40, 50)
    assert protocol["reference_sha256"] == c10.picture_hash(made_up(50, seed=1))
    assert protocol["features_sha256"] == _files.digest(weights)
    assert {"torch-fidelity", "torch"} <= protocol["versions"].keys()
    assert "none" in protocol["resize"] and "50 pictures" in protocol["precision-c10"]
    assert "subsets of 40" in protocol["kd-c10"]
    json.dumps(found)


@needs_fidelity
def test_pictures_that_are_none_are_refused(weights):
    good = made_up(12)
    with pytest.raises(ValueError, match=r"samples: got float32 of shape \(12, 3, 32, 32\)"):
        evaluate.fidelity(good.astype(np.float32), good, features=weights)
    with pytest.raises(ValueError, match="reference: got uint8 of shape"):
        evaluate.fidelity(good, good[:, :1], features=weights)
    with pytest.raises(ValueError, match="number of samples = 9"):
        evaluate.fidelity(good[:9], good, features=weights)
    with pytest.raises(ValueError, match=r"expected \(N, 3, 32, 32\) for c10"):
        evaluate.fidelity(good[..., :16], good, features=weights)


def test_features_that_are_none_are_refused(tmp_path):
    with pytest.raises(ValueError, match="expected 'c10', 'inception', or a path"):
        evaluate.extractor("clip")
    with pytest.raises(FileNotFoundError, match="no such file"):
        evaluate.extractor(tmp_path / "inception.pth")


@needs_fidelity
def test_a_file_that_would_run_code_is_not_read(tmp_path):
    import pickle

    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    path = tmp_path / "inception.pth"
    path.write_bytes(pickle.dumps(Trap(), protocol=2))
    with pytest.raises(ValueError, match="no weights of Inception"):
        evaluate.extractor(path)
    assert not (tmp_path / "sprung").exists()
    torch.save({"a": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match="no weights of Inception"):
        evaluate.extractor(path)


def test_without_network_inception_says_what_to_do_in_one_line(tmp_path, monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(FileNotFoundError, match="--features PATH, or use --features c10") as caught:
        evaluate.extractor("inception")
    assert "\n" not in str(caught.value)


@needs_fidelity
def test_cached_features_keep_their_rows_and_their_network(weights, tmp_path, monkeypatch):
    """The same pictures in another order, or seen by another network, are other features."""
    monkeypatch.setenv("AMTUTOR_CACHE", str(tmp_path))
    extract, images = evaluate.extractor(weights), made_up(30)
    known = extract(images, cache=True)
    order = np.random.default_rng(1).permutation(30)
    shuffled = extract(images[order], cache=True)
    assert torch.equal(shuffled.features, known.features[order])
    assert torch.equal(shuffled.logits, known.logits[order])
    assert shuffled.sha256 == known.sha256  # the protocol speaks of the set
    torch.manual_seed(4)
    other = tmp_path / "other.safetensors"
    c10.save(c10.Classifier((8, 12, 16)), other)
    seen = evaluate.extractor(other)(images, cache=True)
    assert not torch.equal(seen.features, known.features)
    assert len(list((tmp_path / "features").iterdir())) == 3


def test_features_are_cached_whole_and_a_broken_cache_is_made_anew(weights, tmp_path, monkeypatch):
    monkeypatch.setenv("AMTUTOR_CACHE", str(tmp_path))
    extract, images = evaluate.extractor(weights), made_up(30)
    first = extract(images, cache=True)
    (file,) = (tmp_path / "features").iterdir()
    second = evaluate.Extractor(None, extract.names, extract.protocol)(images, cache=True)
    assert torch.equal(first.features, second.features)
    file.write_bytes(file.read_bytes()[:200])
    third = extract(images, cache=True)
    assert torch.equal(first.features, third.features)


# ---------------------------------------------------------------------- self-checks


@needs_fidelity
def test_self_check_measures_nothing_a_little_and_more(weights):
    extract = evaluate.extractor(weights)
    train, images = extract(made_up(600)), made_up(300, seed=1)
    found = evaluate.self_check(extract, train, extract(images), images)
    assert abs(found["train-train"]) < 1e-6
    assert found["train-train"] < found["test-train"] < found["300-noisy-test-train"]


@needs_fidelity
def test_self_check_stops_a_measure_that_does_not_measure(weights):
    extract = evaluate.extractor(weights)
    images = made_up(300, seed=1)
    train, test = extract(made_up(600)), extract(images)
    with pytest.raises(evaluate.SelfCheckError, match="fd-c10 of test against train"):
        far = evaluate.Features(test.features + 100, test.logits, "")
        evaluate.self_check(extract, train, far, images)
    with pytest.raises(ValueError, match="features: .* entries are NaN or infinite"):
        broken = evaluate.Features(train.features * float("nan"), train.logits, "")
        evaluate.self_check(extract, broken, test, images)
    clean_far_noisy_near = iter([(test.features + 1, test.logits), (test.features, test.logits)])
    fooled = evaluate.Extractor(lambda x: next(clean_far_noisy_near), extract.names)
    with pytest.raises(evaluate.SelfCheckError, match="expected noise to be farther"):
        evaluate.self_check(fooled, train, test, images)


# ---------------------------------------------------------------------- copies


def test_nearest_pictures_are_those_of_a_plain_search():
    samples, train = made_up(23, seed=1), made_up(61)
    found = evaluate.nearest_training_images(samples, train, chunk=10)
    gaps = (samples[:, None] / 255.0 - train[None] / 255.0).reshape(23, 61, -1)
    distance = np.sqrt((gaps**2).sum(-1))
    order = np.argsort(distance, 1, kind="stable")[:, :2]
    np.testing.assert_array_equal(found.index, order)
    np.testing.assert_allclose(found.distance, np.take_along_axis(distance, order, 1), rtol=1e-12)
    whole = evaluate.nearest_training_images(samples, train)
    np.testing.assert_array_equal(whole.index, found.index)
    np.testing.assert_array_equal(whole.distance, found.distance)


def test_a_copy_is_found_exactly_among_near_copies():
    train = np.full((200, 3, 32, 32), 255, np.uint8)
    train[np.arange(200), 0, 0, np.arange(200) % 32] -= np.arange(200, dtype=np.uint8)
    found = evaluate.nearest_training_images(train[150:151], train)
    assert found.index[0, 0] == 150 and found.distance[0, 0] == 0
    other = train[150:151].copy()
    other[0, 2, 9, 9] = 254
    assert evaluate.nearest_training_images(other, train).distance[0, 0] == pytest.approx(1 / 255)


def test_memorised_fraction_counts_copies_and_only_copies():
    train = made_up(80)
    new = made_up(30, seed=1)
    near = damage.noise(train[:10], 2.0)
    samples = np.concatenate((new, near))
    assert evaluate.memorised_fraction(samples, train) == 0.25
    assert evaluate.memorised_fraction(new, train) == 0
    assert evaluate.memorised_fraction(train, train) == 1
    nearest = evaluate.nearest_training_images(samples, train)
    assert evaluate.memorised_fraction(nearest, ratio=1.1) == 1
    # an exact copy counts even where its original is there twice; a near one hides
    twice = np.concatenate((train, train))
    assert evaluate.memorised_fraction(train[:5], twice) == 1
    assert evaluate.memorised_fraction(near, twice) == 0


def test_copies_of_what_is_no_picture_are_refused():
    train = made_up(5)
    with pytest.raises(ValueError, match="samples: got a float32 tensor"):
        evaluate.nearest_training_images(torch.zeros(2, 3, 32, 32), train)
    with pytest.raises(ValueError, match="expected 3072 as in train"):
        evaluate.nearest_training_images(train[:, :1], train)
    with pytest.raises(ValueError, match="number of training pictures = 1"):
        evaluate.nearest_training_images(train, train[:1])


# ---------------------------------------------------------------------- damage


def test_damages_are_what_they_are_called():
    images = made_up(20)
    shaken = damage.noise(images, 8).astype(float) - images
    inside = (images > 40) & (images < 215)
    assert abs(shaken[inside].std() - 8) < 0.3 and abs(shaken[inside].mean()) < 0.1
    soft = damage.blur(images, 1.0)
    assert (
        np.abs(np.diff(soft.astype(float), axis=3)).mean()
        < np.abs(np.diff(images.astype(float), axis=3)).mean()
    )
    assert abs(soft.mean() - images.mean()) < 0.5
    flat = np.full((1, 3, 32, 32), 77, np.uint8)
    assert (damage.blur(flat, 2.0) == 77).all()
    errors = [np.abs(damage.jpeg(images, q).astype(float) - images).mean() for q in (90, 50, 10)]
    assert 0 < errors[0] < errors[1] < errors[2]


def test_noise_is_a_function_of_its_seed():
    images = made_up(3)
    first, again, other = (damage.noise(images, 8, seed=s) for s in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_blur_is_scipys():
    from scipy.ndimage import gaussian_filter

    images = made_up(3)
    theirs = gaussian_filter(
        images.astype(np.float64), (0, 0, 1.2, 1.2), mode="mirror", truncate=4.0
    )
    assert np.abs(damage.blur(images, 1.2) - theirs).max() < 0.75  # rounding, and the kernel's end


def test_dropping_classes_keeps_the_count():
    labels = np.arange(100) % 10
    rows = damage.drop_classes(labels, 6, count=40)
    assert len(set(rows)) == 40 and labels[rows].min() == 6
    with pytest.raises(ValueError, match="at most 20"):
        damage.drop_classes(labels, 8, count=21)


@pytest.mark.parametrize("count", [1, 10_001])
def test_how_many_to_damage_is_asked_before_features_are_computed(monkeypatch, count):
    def compute(*args, **options):
        raise AssertionError("the long work came first")

    few = (np.zeros((10_000, 1, 1, 3), np.uint8), np.zeros(10_000, np.int64))
    monkeypatch.setattr("amtutor.data.cifar10", lambda split: few)
    with pytest.raises(ValueError, match=f"count = {count}: expected a whole number"):
        damage.report(compute, count=count)


@needs_fidelity
@needs_weights
def test_fd_c10_rises_with_damage(cifar):
    """A small part of results/c10-features/damage.json, measured again."""
    extract = evaluate.extractor("c10")
    train = extract(cifar["train"][0][:2500])
    images, labels = (a[:1500] for a in cifar["test"])
    strengths = {"noise": (16, 48), "blur": (0.8, 1.6), "jpeg": (40, 10), "classes_dropped": (3, 7)}
    found = damage.measure(extract, train, images, labels, count=300, strengths=strengths)
    for kind, row in found["damages"].items():
        assert row["rises"], (kind, found["whole"], row)
        assert row["rank_correlation"] == pytest.approx(1)


def test_the_record_of_damage_holds():
    from pathlib import Path

    path = Path(__file__).parents[2] / "results" / "c10-features" / "damage.json"
    if not path.is_file():
        pytest.skip("results/c10-features/damage.json is not here: amtutor damage")
    found = json.loads(path.read_text("utf-8"))
    assert set(found["damages"]) == set(damage.STRENGTHS)
    for kind, row in found["damages"].items():
        distances = [found["whole"], *row["fd-c10"]]
        readable = distances[:5] if kind == "noise" else distances  # the last noise drowns it all
        assert readable == sorted(readable) and min(distances[1:]) > found["whole"], kind
        assert row["rises"] == (distances == sorted(distances))
        assert row["rank_correlation"] > 0.9
    floor = list(found["floor_by_count"].values())
    assert floor == sorted(floor, reverse=True)
    assert 0 < found["train_half_against_half"] < floor[-1]
    if c10.WEIGHTS.is_file():
        assert found["features_sha256"] == _files.digest(c10.WEIGHTS)


# ---------------------------------------------------------------------- whole runs


@pytest.fixture
def run_folder(tmp_path, monkeypatch, weights):
    """A tiny run whose task copies half of its pictures, and a CIFAR-10 of 200 pictures."""
    pytest.importorskip("accelerate", reason='needs pip install "amtutor[train]"')
    from amtutor.train import Settings, Task, fit, register

    train, test = made_up(120), made_up(80, seed=1)
    labels = np.zeros(120, np.int64)
    monkeypatch.setattr(
        data, "cifar10", lambda s: (train, labels) if s == "train" else (test, labels[:80])
    )
    monkeypatch.setenv("AMTUTOR_CACHE", str(tmp_path / "cache"))

    @register("evaluate-test")
    class Copier(Task):
        Config = Settings

        def data(self):
            return {"images": torch.from_numpy(train)}

        def build(self):
            return torch.nn.Linear(2, 1)

        def loss(self, model, data, draws):
            return model(draws.normal("x", (2,))).square().mean(), {}

        def evaluate(self, model, data):
            return {"weight": float(model.weight.sum())}

        def sample(self, model, n, *, seed):
            new = made_up(n, seed=seed)
            new[: n // 2] = damage.noise(train[: n // 2], 1.0, seed=seed)
            return torch.from_numpy(new)

    config = Settings(task="evaluate-test", steps=2, batch_size=2, lr=0.1)
    fit(config, tmp_path / "run", progress=False)
    return tmp_path / "run"


@needs_fidelity
def test_a_run_is_evaluated_and_the_protocol_stored_beside_the_numbers(run_folder, weights):
    said = []
    options = {"features": weights, "n_samples": 60, "batch_size": 20, "say": said.append}
    found = evaluation.evaluate_run(run_folder, **options)
    assert found["memorised"]["fraction"] == 0.5 and found["memorised"]["of_test_pictures"] == 0
    assert found["protocol"]["samples"] == 60 and found["protocol"]["reference"] == 120
    assert found["protocol"]["split"] == "CIFAR-10 train" and "weight" in found["numbers"]
    assert 0 < found["floor"]["value"] and "60 real pictures" in found["floor"]["what"]
    text = "\n".join(said)
    assert "fd-c10" in text and "memorised: 50.00%" in text and "FID" not in text
    stored = json.loads((run_folder / "evaluation.json").read_text("utf-8"))
    assert stored == {weights.name: json.loads(json.dumps(found))}
    assert (run_folder / "nearest.png").stat().st_size > 1000
    again = evaluation.evaluate_run(run_folder, **options)
    assert again == found


@needs_fidelity
def test_a_failed_self_check_writes_nothing(run_folder, weights, monkeypatch):
    def fails(*_):
        raise evaluate.SelfCheckError("self-check: no")

    monkeypatch.setattr(evaluation, "self_check", fails)
    with pytest.raises(evaluate.SelfCheckError):
        evaluation.evaluate_run(run_folder, features=weights, n_samples=20)
    assert not (run_folder / "evaluation.json").exists()


def test_a_run_that_is_none_is_refused(tmp_path, run_folder):
    with pytest.raises(ValueError, match="no run there"):
        evaluation.evaluate_run(tmp_path / "nowhere", features="c10")
    with pytest.raises(ValueError, match="split = 'all'"):
        evaluation.evaluate_run(run_folder, split="all")
