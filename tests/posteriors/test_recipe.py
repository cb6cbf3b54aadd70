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


def test_one_number_of_blocks_is_a_list_of_it():
    assert parse(summary={"blocks": 2}).summary.blocks == (2,)
    assert parse(summary={"blocks": [0, 1]}).summary.blocks == (0, 1)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"flow": {"kind": "nsf"}}, r"unknown kind 'nsf' of `flow`; known kinds: maf, spline_maf, spline_coupling, mixture"),
        (
            {"flow": {"kind": "maf", "bins": 8}},
            r"`flow`: `bins` belongs to splines, and `kind: maf` has none; remove it, or write `kind: spline_maf`",
        ),
        ({"flow": {"bound": 5}}, r"`flow`: `bound` belongs to splines, and `kind: maf` has none"),
        (
            {"flow": {"kind": "mixture", "layers": 3}},
            r"`flow`: `layers` belongs to flows of layers, and `kind: mixture` has none; remove it, or write `kind: maf`",
        ),
        ({"flow": {"components": 4}}, r"`flow`: `components` belongs to mixtures, and `kind: maf` has none; .* write `kind: mixture`"),
        ({"flow": {"kind": "mixture", "components": 0}}, r"`flow.components` \(= 0\)"),
        ({"flow": {"kind": "spline_maf", "bins": 1}}, r"`flow.bins` \(= 1\)"),
        ({"flow": {"kind": "spline_coupling", "bound": 0}}, r"`flow.bound` \(= 0\)"),
        ({"flow": {"kind": "spline_maf", "bin": 8}}, r"unknown key `flow.bin`; known keys: .* Did you mean 'bins'\?"),
        ({"flow": 8}, r"`flow` should hold keys and values; it holds 8"),
        ({"summary": {"kind": "keras"}}, r"`summary.kind` \(= 'keras'\)"),
        ({"flow": {"layer": 3}}, r"unknown key `flow.layer`; known keys: .* Did you mean 'layers'\?"),
        ({"flow": {"layers": 0}}, r"`flow.layers` \(= 0\)"),
        ({"flow": {"layers": 17}}, r"`flow.layers` \(= 17\)"),
        ({"flow": {"hidden": []}}, r"`flow.hidden`"),
        ({"flow": {"hidden": [5000]}}, r"`flow.hidden"),
        ({"summary": {"channels": {"image": [0]}}}, r"`summary.channels"),
        ({"summary": {"blocks": -1}}, r"`summary.blocks.0` \(= -1\): Input should be greater than or equal to 0"),
        ({"summary": {"blocks": [0, 9]}}, r"`summary.blocks.1` \(= 9\)"),
        ({"summary": {"blocks": []}}, r"`summary.blocks` \(= \[\]\)"),
        ({"summary": {"blocks": True}}, r"`summary.blocks` \(= True\)"),
        ({"summary": {"context": 0}}, r"`summary.context` \(= 0\)"),
        ({"epistemic": {"kind": "ensemble", "members": 1}}, r"`epistemic.*members` \(= 1\)"),
        ({"epistemic": {"kind": "bagging"}}, "unknown kind 'bagging' of `epistemic`; known kinds: ensemble, variational"),
        ({"epistemic": {"kind": "ensemble", "layers": "last"}}, "unknown key `epistemic.layers`; known keys: kind, members"),
        ({"network": {}}, r"unknown key `network`; known keys: epistemic, flow, linearized, summary"),
    ],
)
def test_what_no_network_has_is_refused(data, message):
    with pytest.raises(ConfigError, match=message):
        parse(**data)


def test_every_kind_of_flow_has_its_recipe_and_comes_back_from_json():
    from astroflow.networks.flow_kinds import FLOWS

    for kind in FLOWS:
        made = parse(flow={"kind": kind})
        assert made.flow.kind == kind
        assert made.flow.hidden == (64, 64)
        assert Architecture.model_validate(made.model_dump(mode="json")) == made
    assert (parse(flow={"kind": "spline_maf"}).flow.bins, parse(flow={"kind": "spline_maf"}).flow.bound) == (8, 5.0)
    assert parse(flow={"kind": "spline_coupling", "bins": 4}).flow.bins == 4
    assert parse(flow={"kind": "spline_coupling"}).flow.layers == 5
    assert parse(flow={"kind": "mixture"}).flow.components == 8


def test_recipes_and_bundles_from_before_splines_mean_what_they_meant():
    """A flow without a kind is a MAF, and a MAF has no more keys than it had."""
    made = parse(flow={"layers": 3, "hidden": [16]})
    assert made == parse(flow={"kind": "maf", "layers": 3, "hidden": [16]})
    assert made.model_dump(mode="json")["flow"] == {"kind": "maf", "layers": 3, "hidden": [16]}


def test_an_input_without_channels_has_its_default():
    """Not those of an input that nobody has heard of."""
    images = ("image", "psf")
    default = parse().summary.channels_of(images)
    assert default == {"image": (16, 32, 64), "psf": (8, 16)}
    assert parse(summary={"channels": {"image": [4]}}).summary.channels_of(images) == {"image": (4,), "psf": (8, 16)}
    assert parse(summary={"channels": {}}).summary.channels_of(["picture"]) == {"picture": (16, 32)}
    assert parse().summary.channels_of([]) == {}


def test_channels_of_what_is_no_image_are_refused():
    summary = parse(summary={"channels": {"image": [4], "psf": [8, 16], "scalars": [3]}}).summary
    with pytest.raises(ConfigError, match=r"`summary.channels` names 'scalars', which is no image input; the image inputs are image, psf"):
        summary.channels_of(["image", "psf"])
    with pytest.raises(ConfigError, match="the image inputs are none"):
        parse(summary={"channels": {"x": [4]}}).summary.channels_of([])
