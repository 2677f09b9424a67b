"""Associative memories against scikit-learn on four real tables, everyone tuned alike.

    python tools/prediction_tables.py            # writes results/prediction/, about 10 minutes

Five outer folds; in each of them every model chooses its settings by three inner folds of the
training part, and is then asked once about the held-out part. Every row of a table is held out
once, so two models are compared row by row: the interval is a paired bootstrap over rows.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import sklearn
from sklearn import datasets
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from amtutor.memory.prediction import AssociativeMemoryClassifier, AssociativeMemoryRegressor

FOLDER = Path(__file__).resolve().parents[1] / "results" / "prediction"
TABLES = ("wine", "breast_cancer", "digits", "diabetes")
C, R = AssociativeMemoryClassifier, AssociativeMemoryRegressor


def models(kind: str, classes: int) -> dict:
    """Each model with the grid that it may choose from."""
    powers = list(np.logspace(-2, 2, 5))
    if kind == "classes":
        few = {"n_memories": [classes, 3 * classes], "alpha": [0.03, 0.3]}
        return {
            "memory, all pairs": (C(), {}),
            "memory, learned": (C(random_state=0, max_iter=60), few),
            "k-NN": (KNeighborsClassifier(), {"n_neighbors": [1, 3, 5, 9, 15]}),
            "logistic": (LogisticRegression(max_iter=500), {"C": powers}),
            "SVM": (SVC(), {"C": [1, 10, 100], "gamma": ["scale", 0.003, 0.1]}),
            "forest": (RandomForestClassifier(200, random_state=0), {}),
        }
    few = {"n_memories": [2, 4], "alpha": [0.03, 0.3]}
    ridge = {"alpha": list(np.logspace(-1, 3, 5))}
    kernel = {"alpha": powers, "gamma": [0.003, 0.01, 0.03]}
    return {
        "memory, all pairs": (R(), {}),
        "memory, learned": (R(random_state=0, max_iter=100), few),
        "k-NN": (KNeighborsRegressor(), {"n_neighbors": [5, 9, 15, 25, 40]}),
        "ridge": (Ridge(), ridge),
        "kernel ridge": (KernelRidge(kernel="rbf"), kernel),
        "forest": (RandomForestRegressor(200, random_state=0), {}),
    }


def tuned(model, grid: dict, folds):
    """The model behind a scaler, choosing from its grid by inner folds."""
    pipe = make_pipeline(StandardScaler(), model)
    name = pipe.steps[-1][0]
    wide = {f"{name}__{key}": values for key, values in grid.items()}
    return GridSearchCV(pipe, wide, cv=folds) if wide else pipe


def held_out(table: str) -> dict:
    """Loss of every model on every row, when it was held out."""
    X, y = getattr(datasets, f"load_{table}")(return_X_y=True)
    kind = "numbers" if table == "diabetes" else "classes"
    split = KFold if kind == "numbers" else StratifiedKFold
    outer = split(5, shuffle=True, random_state=0)
    inner = split(3, shuffle=True, random_state=1)
    losses = {}
    for name, (model, grid) in models(kind, len(np.unique(y))).items():
        began = time.perf_counter()
        guess = cross_val_predict(tuned(model, grid, inner), X, y, cv=outer)
        losses[name] = (guess != y).astype(float) if kind == "classes" else (guess - y) ** 2
        seconds = time.perf_counter() - began
        print(f"{table:14s}{name:18s}{losses[name].mean():10.4g}{seconds:8.1f} s", flush=True)
    return losses


def interval(values: np.ndarray, rng) -> list[float]:
    """A 95 % bootstrap interval of a mean over rows."""
    picks = rng.integers(0, len(values), (4000, len(values)))
    return [float(q) for q in np.quantile(values[picks].mean(1), [0.025, 0.975])]


def main() -> None:
    """Run all tables and write them down."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    rng, found = np.random.default_rng(0), {}
    for table in sys.argv[1:] or TABLES:
        losses = held_out(table)
        baselines = [n for n in losses if not n.startswith("memory")]
        best = min(baselines, key=lambda n: losses[n].mean())
        found[table] = {
            name: {
                "loss": float(loss.mean()),
                "interval": interval(loss, rng),
                "minus_best_baseline": float((loss - losses[best]).mean()),
                "minus_best_interval": interval(loss - losses[best], rng),
            }
            for name, loss in losses.items()
        } | {"best_baseline": best, "rows": len(losses[best])}
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / "tables.json"
    record = {"scikit_learn": sklearn.__version__, "tables": found}
    path.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    print(f"wrote {path.relative_to(FOLDER.parents[1])}")


if __name__ == "__main__":
    main()
