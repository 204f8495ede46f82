import json

import pytest

from pipeline.errors import RecordError
from pipeline.losses import parse_losses
from pipeline.records.folder import StudyFolder
from pipeline.study.continuation import read_matching_study
from pipeline.study.request import StudyRequest
from pipeline.training.learning_rate import SEARCH
from pipeline.training.optimizer import OPTIMIZER


def begun(tmp_path, request, **changes):
    """A study that was begun with this request, as its settings say."""
    losses = [{"label": spec.label, "spec": spec.text} for spec in parse_losses(request.losses)]
    rates = list(request.learning_rates or (0.003, 0.008, 0.024))
    settings = {"request": request.identity().to_json(), "losses": losses, "seeds": [0], "optimizer": OPTIMIZER}
    study = StudyFolder(tmp_path / "study")
    study.root.mkdir()
    study.settings.write_text(json.dumps(settings | {"learning_rates": rates} | changes, default=str))
    return study


def request_for(tmp_path, **changes):
    return StudyRequest(dataset=tmp_path / "data", out=tmp_path / "study", losses="ce", **changes)


def test_a_study_begun_with_another_search_over_learning_rates_is_not_continued(tmp_path):
    request = request_for(tmp_path)
    with pytest.raises(RecordError, match="by hard Dice → by average precision"):
        read_matching_study(begun(tmp_path, request), request, parse_losses("ce"))


def test_a_study_of_the_same_search_is_continued(tmp_path):
    request = request_for(tmp_path)
    read_matching_study(begun(tmp_path, request, learning_rate_search=SEARCH), request, parse_losses("ce"))


def test_a_study_without_a_search_is_continued_whatever_version_began_it(tmp_path):
    request = request_for(tmp_path, learning_rates=(0.01,))
    read_matching_study(begun(tmp_path, request), request, parse_losses("ce"))
