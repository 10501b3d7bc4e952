from email.message import EmailMessage

import pytest

from corpus.office_files import counts, shown
from mixrag.corpus import UnreadableError
from mixrag.corpus.parsers.office.mail import read_mail, read_mailbox


def message(text="Nine crowns.", **headers):
    made = EmailMessage()
    for name, value in ({"Subject": "Fees", "From": "a@b.c"} | headers).items():
        made[name] = value
    made.set_content(text)
    return made


def read(data):
    return read_mail(data if isinstance(data, bytes) else data.as_bytes(), "a.eml")


def body(data):
    return [text for _, text in shown(read(data))][1:]


def test_subject_sender_and_date():
    result = read(message(Subject="Grüße vom Hafen", To="d@e.f", Date="Mon, 27 Nov 2023 10:00:00 +0100"))
    (document,) = result.documents
    assert document.title == "Grüße vom Hafen"
    assert document.metadata == {"from": "a@b.c", "to": "d@e.f", "date": "2023-11-27T10:00:00+01:00"}
    assert document.text.startswith("From: a@b.c\nTo: d@e.f\n") and document.text.endswith("\n\nNine crowns.")


def test_the_plain_text_of_alternatives():
    made = message("The plain text.\n\nSecond paragraph.")
    made.add_alternative("<p>The <b>page</b></p>", subtype="html")
    assert body(made) == ["The plain text.", "Second paragraph."]


def test_the_page_where_the_plain_text_only_points_to_it():
    made = message("See HTML.")
    made.add_alternative("<p>" + "The whole story. " * 50 + "</p>", subtype="html")
    assert "The whole story." in " ".join(body(made))
    only = EmailMessage()
    only.set_content("<p>Only a page.</p>", subtype="html")
    assert [text for _, text in shown(read(only))] == ["Only a page."]


@pytest.mark.parametrize("way", ["quoted-printable", "base64", "8bit"])
@pytest.mark.parametrize("charset", ["utf-8", "iso-8859-1"])
def test_charsets_and_transfer_encodings(way, charset):
    made = EmailMessage()
    made.set_content("Fünf Kronen, für " + "Fähren " * 20, charset=charset, cte=way)
    assert read(made).documents[0].text.startswith("Fünf Kronen, für Fähren")


def test_attachments_are_counted_and_forwarded_messages_read():
    made = message("See below.")
    made.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="f.pdf")
    made.add_attachment(message("The inner text.", Subject="Old"))
    result = read(made)
    assert counts(result) == {"attachments": 1} and "f.pdf" in result.notices[0].detail
    assert body(made) == ["See below.", "From: a@b.c\nSubject: Old", "The inner text."]


def test_flowed_lines_are_joined():
    data = b"Subject: x\nContent-Type: text/plain; format=flowed\n\nThe fee is \nnine crowns.\n\nNext."
    assert body(data) == ["The fee is nine crowns.", "Next."]


@pytest.mark.parametrize(
    "data",
    [
        b"no header at all",
        b"Subject: =?what?q?x?=\nContent-Type: text/plain; charset=nonsense\n\ntext",
        b"Subject: \xff\xfe\n\ntext",
        b"Date: never\nContent-Type: multipart/mixed; boundary=x\n\ntext",
        b"Content-Type: multipart/mixed; boundary=x\n\n--x\n\ntext",
        b"Subject: x\nContent-Transfer-Encoding: base64\n\n!!!\nFrom: text\n",
        b"Content-Disposition: ;;;\nContent-Type: ;;;\n\ntext",
    ],
)
def test_broken_messages_are_read(data):
    assert read(data).documents[0].text


def test_a_message_without_text():
    with pytest.raises(UnreadableError, match="no extractable text"):
        read(b"\n\n")


def test_each_message_of_a_mailbox():
    one, two = message("First.").as_bytes(), message("Second.\n>From here on.", Subject="Two").as_bytes()
    data = b"From a@b.c Mon Nov 27 10:00:00 2023\n" + one + b"\nFrom a@b.c Mon Nov 27 10:00:00 2023\n" + two
    result = read_mailbox(data, "a.mbox")
    assert [(each.id, each.title) for each in result.documents] == [("1", "Fees"), ("2", "Two")]
    assert result.documents[1].text.endswith("Second.\nFrom here on.")
    with pytest.raises(UnreadableError, match="messages"):
        read_mailbox(b"nothing", "a.mbox")
