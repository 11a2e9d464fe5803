"""
Frozen features for any scikit-learn model
==========================================

A module's features are a fixed description of a structure. In a pipeline they serve any regressor,
and the module itself is a parameter to search.
"""

from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from matmosaic import ModuleFeaturizer, list_modules
from matmosaic.datasets import load_alloys

structures, y = load_alloys("vacancy_energy", return_X_y=True)
model = make_pipeline(
    ModuleFeaturizer("bundled:emt-eform"), StandardScaler(), RidgeCV([0.01, 0.1, 1, 10, 100])
)

# %%
# Which module knows most about vacancies?

search = GridSearchCV(
    model,
    {"modulefeaturizer__module": list_modules("bundled:*")},
    scoring="neg_mean_absolute_error",
    cv=KFold(3, shuffle=True, random_state=0),  # rows are ordered by prototype
)
search.fit(structures, y)
for parameters, score in zip(
    search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True
):
    print(f"{parameters['modulefeaturizer__module']:26s} {-score:.3f} eV")
assert -search.best_score_ < 0.2
