"""The providers' languages: tags as the setting has them, and names as the providers have them."""

import re

import pytest

from mediastreams.config import Settings
from mediastreams.transcription.languages import NAMES


@pytest.mark.parametrize("provider", NAMES)
class TestEach:
    def test_every_tag_can_be_set(self, provider):
        for tag in NAMES[provider]:
            assert Settings.read({"TRANSCRIBER_LANGUAGE": tag.swapcase()}).transcriber_language == tag

    def test_it_knows_the_default(self, provider):
        assert Settings().transcriber_language in NAMES[provider]

    def test_a_name_that_is_a_tag_is_allowed(self, provider):
        names = [name for name in NAMES[provider].values() if "_" not in name]
        assert [NAMES[provider][name] for name in names] == names


@pytest.mark.parametrize(
    ("tag", "google", "amazon", "watson"),
    [
        ("en-US", "en-US", "en-US", "en-US_Telephony"),
        ("de-DE", "de-DE", "de-DE", "de-DE_Telephony"),
        ("zh-CN", "zh", "zh-CN", "zh-CN_Telephony"),
        ("yue-HK", "yue-Hant-HK", "zh-HK", None),
        ("es-MX", "es-MX", "es-MX", "es-LA_Telephony"),
        ("es-419", None, None, "es-LA_Telephony"),
        ("ar", None, None, "ar-MS_Telephony"),
        ("pt-PT", "pt-PT", "pt-PT", "pt-PT"),
        ("he-IL", "iw-IL", "he-IL", None),
        ("nb-NO", "no-NO", "no-NO", None),
        ("fil-PH", "fil-PH", "tl-PH", None),
        ("et-EE", "et-EE", "et-ET", None),
        ("tlh", None, None, None),
    ],
)
def test_names(tag, google, amazon, watson):
    assert [NAMES[provider].get(tag) for provider in ("google", "amazon", "watson")] == [
        google,
        amazon,
        watson,
    ]


def test_watsons_models():
    for name in set(NAMES["watson"].values()) - {"pt-PT"}:
        assert re.fullmatch("[a-z]{2}-[A-Z]{2}_Telephony", name)


def test_none_is_missing():
    assert {provider: len(set(names.values())) for provider, names in NAMES.items()} == {
        "google": 146,
        "amazon": 99,
        "watson": 21,
    }
