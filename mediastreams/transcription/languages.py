"""The languages of each provider: what it calls them, by their BCP 47 tags.

A tag is a language and a region, such as en-US, and a script where a provider has it. A provider's own names
are allowed, too, where they are tags.

The lists are those of November 2026:
https://docs.cloud.google.com/speech-to-text/docs/v1/speech-to-text-supported-languages
https://docs.aws.amazon.com/transcribe/latest/APIReference/API_streaming_StartStreamTranscription.html,
"LanguageCode"
https://cloud.ibm.com/docs/speech-to-text?topic=speech-to-text-models-ng, "Telephony models", and
https://cloud.ibm.com/docs/speech-to-text?topic=speech-to-text-models-large-speech-languages
"""

from collections.abc import Mapping


def _same(tags: str) -> dict[str, str]:
    """Return the languages that a provider calls by their tags."""
    return {tag: tag for tag in tags.split()}


_GOOGLE = {
    **_same(
        """
        af-ZA am-ET ar-AE ar-BH ar-DZ ar-EG ar-IL ar-IQ ar-JO ar-KW ar-LB ar-MA ar-MR ar-OM ar-PS ar-QA ar-SA
        ar-SY ar-TN ar-YE az-AZ bg-BG bn-BD bn-IN bs-BA ca-ES cs-CZ da-DK de-AT de-CH de-DE el-GR en-AU en-CA
        en-GB en-GH en-HK en-IE en-IN en-KE en-NG en-NZ en-PH en-PK en-SG en-TZ en-US en-ZA es-AR es-BO es-CL
        es-CO es-CR es-DO es-EC es-ES es-GT es-HN es-MX es-NI es-PA es-PE es-PR es-PY es-SV es-US es-UY es-VE
        et-EE eu-ES fa-IR fi-FI fil-PH fr-BE fr-CA fr-CH fr-FR gl-ES gu-IN hi-IN hr-HR hu-HU hy-AM id-ID is-IS
        it-CH it-IT iw-IL ja-JP jv-ID ka-GE kk-KZ km-KH kn-IN ko-KR lo-LA lt-LT lv-LV mk-MK ml-IN mn-MN mr-IN
        ms-MY my-MM ne-NP nl-BE nl-NL no-NO pa-Guru-IN pl-PL pt-BR pt-PT ro-RO ru-RU rw-RW si-LK sk-SK sl-SI
        sq-AL sr-RS ss-Latn-ZA st-ZA su-ID sv-SE sw-KE sw-TZ ta-IN ta-LK ta-MY ta-SG te-IN th-TH tn-Latn-ZA
        tr-TR ts-ZA uk-UA ur-IN ur-PK uz-UZ ve-ZA vi-VN xh-ZA yue-Hant-HK zh zh-TW zu-ZA
        """
    ),
    "he-IL": "iw-IL",
    "nb-NO": "no-NO",
    "pa-IN": "pa-Guru-IN",
    "ss-ZA": "ss-Latn-ZA",
    "tn-ZA": "tn-Latn-ZA",
    "yue-HK": "yue-Hant-HK",
    "zh-CN": "zh",
}

_AMAZON = {
    **_same(
        """
        af-ZA am-ET ar-AE ar-SA be-BY bg-BG bn-IN bs-BA ca-ES ckb-IQ ckb-IR cs-CZ cy-WL da-DK de-CH de-DE
        el-GR en-AB en-AU en-GB en-IE en-IN en-NZ en-US en-WL en-ZA es-ES es-MX es-US et-ET eu-ES fa-AF fa-IR
        fi-FI fr-CA fr-FR gl-ES gu-IN he-IL hi-IN hr-HR ht-HT hu-HU hy-AM id-ID is-IS it-IT ja-JP jv-ID ka-GE
        kab-DZ kk-KZ km-KH kn-IN ko-KR lg-IN lt-LT lv-LV mk-MK ml-IN mr-IN ms-MY my-MM ne-NP nl-NL no-NO or-IN
        pa-IN pl-PL ps-AF pt-BR pt-PT ro-RO ru-RU si-LK sk-SK sl-SI so-SO sq-AL sr-RS su-ID sv-SE sw-BI sw-KE
        sw-RW sw-TZ sw-UG ta-IN te-IN th-TH tl-PH tr-TR uk-UA uz-UZ vi-VN zh-CN zh-HK zh-TW zu-ZA
        """
    ),
    "cy-GB": "cy-WL",
    "et-EE": "et-ET",
    "fil-PH": "tl-PH",
    "lg-UG": "lg-IN",
    "nb-NO": "no-NO",
    "yue-HK": "zh-HK",
}

# The models for telephone audio; Portuguese of Portugal has only one for all audio.
_WATSON = {
    **{
        tag: f"{tag}_Telephony"
        for tag in _same(
            """
            cs-CZ de-DE en-AU en-GB en-IN en-US es-ES fr-CA fr-FR hi-IN it-IT ja-JP ko-KR nl-BE nl-NL pt-BR
            sv-SE zh-CN
            """
        )
    },
    "ar": "ar-MS_Telephony",  # Modern Standard Arabic
    **dict.fromkeys(("es-419", "es-AR", "es-CL", "es-CO", "es-MX", "es-PE"), "es-LA_Telephony"),
    "pt-PT": "pt-PT",
}

NAMES: Mapping[str, Mapping[str, str]] = {"google": _GOOGLE, "amazon": _AMAZON, "watson": _WATSON}
"""What each provider calls its languages, by tag."""
