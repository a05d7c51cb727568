"""What must not leave the machine is masked, and put back exactly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillcalc.distill.redact import Redactor, restore, restore_messages
from distillcalc.errors import InputError, UnknownName

# Test numbers that the card schemes' processors publish: not one is a real card.
CARDS = (
    "4111 1111 1111 1111",
    "4012888888881881",
    "4222222222222",
    "5555-5555-5555-4444",
    "5105105105105100",
    "2223003122003222",
    "3782 822463 10005",
    "371449635398431",
    "6011111111111117",
    "6011000990139424",
    "3530111333300000",
    "30569309025904",
    "3852 000002 3237",
    "6200 0000 0000 0005",
)
# Examples of SWIFT's IBAN Registry.
IBANS = (
    "GB29 NWBK 6016 1331 9268 19",
    "DE89370400440532013000",
    "FR14 2004 1010 0505 0001 3M02 606",
    "NL91ABNA0417164300",
    "NO93 8601 1117 947",
    "MT84 MALT 0110 0001 2345 MTLC AST0 01S",
    "BE68 5390 0754 7034",
    "gb29nwbk60161331926819",
    "de89 3704 0044 0532 0130 00",
)
LETTERS = "".join(
    a + b for a, b in zip("aBdEgHjKmNpQsTvW", "3579246813579246", strict=True)
)  # no key of anybody's; in parts, so that no scanner takes it for one
KEYS = (
    "sk" + "-proj-" + LETTERS,
    "sk" + "-ant-api03-" + LETTERS,
    "AK" + "IA" + "IOSFODNN7EXAMPLE",
    "gh" + "p_" + LETTERS + "abcd",
    "github" + "_pat_" + LETTERS,
    "xo" + "xb-123456789012-" + LETTERS,
    "AI" + "za" + LETTERS + "abc",
    "ey" + "JhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0In0" + "." + LETTERS,
    "-----BEGIN RSA PRIV" + "ATE KEY-----\nMIIB\n+/9k\n-----END RSA PRIV" + "ATE KEY-----",
)
EMAILS = ("alice@example.com", "bob.o'neil+tag@mail.example.co.uk", "jörg@exämple.de", "user@例え.jp", "a_b@x-y.museum")
PHONES = ("+1 650-253-0000", "+44 20 7946 0958", "+49 30 123456", "+390236618300")


def masked(text: str, **options: object) -> dict[str, str]:
    return Redactor(**options).redact(text).originals  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("secret", "kind"),
    [
        (s, k)
        for k, many in (("EMAIL", EMAILS), ("CARD", CARDS), ("IBAN", IBANS), ("KEY", KEYS), ("PHONE", PHONES))
        for s in many
    ],
)
@pytest.mark.parametrize("around", ["{}", "see {}.", "({})", "x: {}, and\n{} again", "“{}”"])
def test_a_secret_is_masked_whole(secret: str, kind: str, around: str) -> None:
    text = around.replace("{}", secret)
    found = Redactor().redact(text)
    assert found.text == around.replace("{}", f"[{kind}_1]")
    assert found.originals == {f"[{kind}_1]": secret}
    assert found.counts == {kind.lower(): around.count("{}")}
    assert restore(found.text, found.originals) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Nothing here.",
        "On 2024-11-24 at 12:30:45, or 24/11/2024, or 24.11.2024 12.30",
        "Order 20241124001 and invoice #4155552671",
        "USD 1,234,567.89 or 1.234.567,89 € or $4155552671",
        "4111 1111 1111 1112 fails Luhn's check, 9111 1111 1111 1111 has no issuer",
        "IMEI 490154203237518, ISBN 978-3-16-148410-0, UPS 1Z999AA10123456784",
        "0.4111111111111111 of the whole, commit 4111111111111111ab",
        "GB29 NWBK 6016 1331 9268 18 has a wrong check digit; in 2024 0101 0101 0101 01",
        "an @ alone, @handle, a@b, user@localhost",
        "the token budget: 120000 tokens; password: required; the secret is out there",
        "the key is documentation, api_key: your-key-here, bearer representative",
        "192.168.0.1:8080, 1732480459000, 3.14159265358979",
    ],
)
@pytest.mark.parametrize("region", [None, "US"])
def test_dates_orders_amounts_and_talk_of_secrets_stay(text: str, region: str | None) -> None:
    assert masked(text, region=region) == {}


def test_a_regions_own_phones_are_found_where_it_is_given() -> None:
    text = "Call (650) 253-0000 or 020 7946 0958 today"
    assert masked(text) == {}
    assert masked(text, region="US") == {"[PHONE_1]": "(650) 253-0000"}
    assert masked(text, region="GB") == {"[PHONE_1]": "020 7946 0958"}


def test_a_card_is_found_among_other_numbers() -> None:
    text = "card 4111 1111 1111 1111 12/27 123, 371449635398431 987"
    assert list(masked(text).values()) == ["4111 1111 1111 1111", "371449635398431"]


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("password: {}!", "hunter" + "2"),
        ('{{"api_key": "{}"}}', "q8Zt5" + "Lm2Xw"),
        ("export CLIENT_SECRET='{}'", "Gq7-Tz" + "_91xW"),
        ("Authorization: Bearer {}", "abCD12" + "efGH34ij"),
        ("postgres://admin:{}@db.internal:5432/x", "s3cret" + "pw"),
        ("my password is {}.", "Tr0ub4" + "dor&3"),
    ],
)
def test_values_beside_a_word_for_secret_are_masked(text: str, secret: str) -> None:
    found = Redactor().redact(text.format(secret))
    assert found.originals == {"[KEY_1]": secret}
    assert found.text == text.format("[KEY_1]")


def test_a_key_without_its_end_is_masked_to_the_end() -> None:
    text = "-----BEGIN PRIV" + "ATE KEY-----\nMIIEvQ\nAB"
    assert Redactor().redact("x " + text).text == "x [KEY_1]"


def test_one_prompt_has_one_placeholder_for_one_original() -> None:
    messages = (
        {"role": "system", "content": "The password is x9Kq7Lm2."},
        {"role": "user", "content": "From alice@example.com: is x9Kq7Lm2 right? Ask bob@example.com"},
        {"role": "assistant", "content": "Ask bob@example.com, not alice@example.com"},
    )
    found = Redactor().redact_messages(messages)
    assert [m["content"] for m in found.messages] == [
        "The password is [KEY_1].",
        "From [EMAIL_1]: is [KEY_1] right? Ask [EMAIL_2]",
        "Ask [EMAIL_2], not [EMAIL_1]",
    ]
    assert found.counts == {"key": 2, "email": 4}
    assert restore_messages(found.messages, found.originals) == messages
    assert Redactor().redact_messages([]).messages == ()
    with pytest.raises(InputError, match="message 1 must have a text as content"):
        Redactor().redact_messages([{"role": "user", "content": [{"type": "text", "text": "a@example.com"}]}])  # type: ignore[dict-item]


def test_what_looks_like_a_placeholder_already_keeps_its_number() -> None:
    text = "Columns [EMAIL_1] and email_3, mail a@example.com, b@example.com, c@example.com"
    found = Redactor().redact(text)
    assert found.text == "Columns [EMAIL_1] and email_3, mail [EMAIL_2], [EMAIL_4], [EMAIL_5]"
    assert restore(found.text, found.originals) == text


def test_placeholders_are_known_as_models_write_them() -> None:
    originals = {"[EMAIL_1]": "a@example.com", "[CARD_12]": "4111111111111111"}
    written = r"[email_1], EMAIL_1, [Email 1], [EMAIL\_1], \[EMAIL\_1\], **[CARD_12]**; [EMAIL_12], CARD_1, [EMAIL_99]"
    assert restore(written, originals) == (
        r"a@example.com, a@example.com, a@example.com, a@example.com, \a@example.com, **4111111111111111**; "
        "[EMAIL_12], CARD_1, [EMAIL_99]"
    )
    assert restore("[EMAIL_1]", {}) == "[EMAIL_1]"


def test_only_the_kinds_asked_for_are_masked() -> None:
    text = "a@example.com pays with 4111111111111111"
    assert masked(text, kinds=("card",)) == {"[CARD_1]": "4111111111111111"}
    with pytest.raises(UnknownName, match=r"unknown kind of private text 'mail'\. Did you mean email"):
        Redactor(kinds=("mail",))
    with pytest.raises(InputError, match="one or more of email, phone"):
        Redactor(kinds=())
    with pytest.raises(InputError, match="one or more of"):
        Redactor(kinds="email")
    with pytest.raises(UnknownName, match="unknown region 'UK'"):
        Redactor(region="UK")


PARTS = st.text(max_size=12) | st.sampled_from(
    [
        "@",
        "EMAIL_",
        "[",
        "]",
        "1",
        "[EMAIL_1]",
        "Key_2",
        "password=",
        "+1",
        "a@b.cd",
        "EMAIL_1",
        *CARDS,
        *IBANS,
        *KEYS,
        *PHONES,
    ]
)


@given(st.lists(PARTS, max_size=12).map("".join), st.sampled_from([None, "US"]))
def test_restoring_gives_any_text_back(text: str, region: str | None) -> None:
    found = Redactor(region=region).redact(text)
    assert restore(found.text, found.originals) == text
    assert not any(original in found.text for original in found.originals.values())


@given(st.lists(st.text(max_size=20), max_size=4))
def test_restoring_gives_any_messages_back(texts: list[str]) -> None:
    messages = tuple({"role": "user", "content": text + " a@example.com"} for text in texts)
    found = Redactor().redact_messages(messages)
    assert restore_messages(found.messages, found.originals) == messages


SECRETS = st.sampled_from([*CARDS, *IBANS, *KEYS, *PHONES, *EMAILS])
WORDS = st.text("abcXYZ .,;:!?()\n", max_size=15) | st.sampled_from(
    ["12", "2024-11-24", "EMAIL_1", "costs 9.99", "café"]
)


@given(st.lists(st.tuples(WORDS, SECRETS), min_size=1, max_size=5))
def test_no_planted_secret_is_left(parts: list[tuple[str, str]]) -> None:
    text = " ; ".join(f"{words} = {secret}" for words, secret in parts)
    found = Redactor(region="US").redact(text)
    assert restore(found.text, found.originals) == text
    assert not any(secret in found.text for _, secret in parts)
