import pytest

from astroflow.config import parse_recipe
from astroflow.errors import ConfigError
from astroflow.posteriors.recipe import Architecture


def parse(**data):
    return parse_recipe(Architecture, data, "here")


def test_everything_has_a_default():
    made = parse()
    assert made.flow.kind == "maf"
    assert made.summary.kind == "residual"
    assert Architecture.model_validate(made.model_dump(mode="json")) == made


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"flow": {"kind": "nsf"}}, r"`flow.kind` \(= 'nsf'\)"),
        ({"summary": {"kind": "keras"}}, r"`summary.kind` \(= 'keras'\)"),
        ({"flow": {"layer": 3}}, r"unknown key `flow.layer`; known keys: .* Did you mean 'layers'\?"),
        ({"flow": {"layers": 0}}, r"`flow.layers` \(= 0\)"),
        ({"flow": {"layers": 17}}, r"`flow.layers` \(= 17\)"),
        ({"flow": {"hidden": []}}, r"`flow.hidden`"),
        ({"flow": {"hidden": [5000]}}, r"`flow.hidden"),
        ({"summary": {"channels": {"image": [0]}}}, r"`summary.channels"),
        ({"summary": {"context": 0}}, r"`summary.context` \(= 0\)"),
        ({"network": {}}, r"unknown key `network`; known keys: flow, summary"),
    ],
)
def test_what_no_network_has_is_refused(data, message):
    with pytest.raises(ConfigError, match=message):
        parse(**data)
