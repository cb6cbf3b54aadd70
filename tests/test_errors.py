import inspect

import pytest

from astroflow import errors
from astroflow.errors import AstroflowError, nearest

CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, AstroflowError)]


def test_every_error_is_drawn_in_the_tree():
    for each in CLASSES:
        assert each.__name__ in errors.__doc__
        if each is not AstroflowError:
            built_in = each.__mro__[2].__name__
            assert f"{each.__name__} ({built_in})" in errors.__doc__


@pytest.mark.parametrize("each", CLASSES)
def test_every_error_has_an_exit_code_of_the_command_line(each):
    assert each.exit_code == (4 if each is errors.IncompleteError else 2)


def test_bad_values_are_value_errors():
    for each in (errors.ConfigError, errors.InputError, errors.BundleError, errors.OutputError):
        assert issubclass(each, ValueError)


def test_nearest_names_the_closest_and_only_if_it_is_close():
    assert nearest("fhwm", ["fwhm", "beta"]) == " Did you mean 'fwhm'?"
    assert nearest("zzz", ["fwhm", "beta"]) == ""
    assert nearest("x", []) == ""
