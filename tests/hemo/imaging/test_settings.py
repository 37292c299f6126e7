import pytest

from hemo.config.convert import ConvertConfig
from hemo.corpus.sources import media_of
from hemo.errors import ConfigError
from hemo.imaging.settings import ImageSettings, image_settings
from hemo.pseudonym import Pseudonymiser


def settings(**given: object) -> ImageSettings:
    config = ConvertConfig.model_validate({"source": "/corpus", "out": "/out", "corpus": "rsna", **given})
    return image_settings(config, media_of(config.source, config.corpus), Pseudonymiser())


def test_windows_are_channels_of_8_bits():
    made = settings(windows=["bone", "brain"])
    assert (made.channels, made.dtype, made.version) == (("bone", "brain"), "uint8", 2)


def test_hounsfield_units_are_one_channel_of_16_bits_whatever_the_windows():
    made = settings(pixels="hu16", windows=["no such window"])
    assert (made.channels, made.dtype, made.windows, made.version) == (("hu",), "int16", (), 3)
    assert made == settings(pixels="hu16")


def test_stored_settings_keep_their_version():
    older = {**settings(pixels="hu16").model_dump(mode="json"), "version": 2}
    assert ImageSettings.model_validate(older).version == 2
    assert settings(corpus="image_folder").version == 2


def test_what_shapes_pixels_makes_other_settings():
    assert len({settings(), settings(crop="head"), settings(pixels="hu16"), settings(side_px=128)}) == 4


def test_an_image_folder_has_colours():
    assert settings(corpus="image_folder", colour="grey").channels == ("grey",)
    assert settings(corpus="image_folder").channels == ("red", "green", "blue")


def test_an_unknown_window_is_refused():
    with pytest.raises(ConfigError, match="'lung' is not a known window"):
        settings(windows=["lung"])


def test_public_classes_are_stored_sorted_where_there_are_some():
    keyed = {"corpus": "image_folder", "pseudonym_key": "/key"}
    made = settings(**keyed, public_classes=["PNEUMONIA", "NORMAL", "NORMAL"])
    assert made.model_dump(mode="json")["public_classes"] == ["NORMAL", "PNEUMONIA"]
    assert "public_classes" not in settings(**keyed).model_dump(mode="json")


@pytest.mark.parametrize("given", [{"pixels": "hu16"}, {"crop": "head"}])
def test_what_pictures_cannot_be_is_refused(given):
    with pytest.raises(ConfigError, match=r"holds pictures, which have no Hounsfield units"):
        settings(corpus="image_folder", **given)
