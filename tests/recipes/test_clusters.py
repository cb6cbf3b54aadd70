"""Every cluster recipe that ships parses, is found by name, and is what its file's name says."""

from pathlib import Path

import pytest

from astroflow.config import read_yaml
from astroflow.pipelines.clusters import KINDS, load_cluster, parse_cluster

FOLDER = Path(__file__).resolve().parents[2] / "configs" / "clusters"
RECIPES = sorted(FOLDER.glob("*.yaml"))


def test_there_is_one_of_each_kind():
    assert {path.stem for path in RECIPES} == set(KINDS)


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_it_says_what_it_is_and_is_found_by_name(path):
    assert path.read_text().startswith("# ")
    recipe = load_cluster(path.stem, None)
    assert recipe == load_cluster(str(path), None) == parse_cluster(read_yaml(path), str(path), FOLDER)
    assert recipe.kind == path.stem
