"""Receivers of Alertmanager's messages in tests: webhook, Slack and mail, all on loopback."""

import email
import json
import socketserver
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import default
from itertools import takewhile
from typing import Any

import yaml

from exporter.simulator import Request, serve
from tests.support.alert_files import ROUTES_FILE
from tests.support.time_scaling import shorten

Json = dict[str, Any]


@dataclass(slots=True)
class Inbox:
    """The messages that arrived, in this order.

    Attributes:
        posts: Receiver's name and payload of each webhook message.
        slack: Payloads of the messages for Slack.
        mails: Mails, parsed.
        http: Base URL of the webhooks.
        smtp: Host and port of the mail server.
    """

    posts: list[tuple[str, Json]] = field(default_factory=list)
    slack: list[Json] = field(default_factory=list)
    mails: list[EmailMessage] = field(default_factory=list)
    http: str = ""
    smtp: str = ""

    def __call__(self, environ: Json, start_response: Any) -> Iterable[bytes]:  # noqa: ANN401 - WSGI's
        """Store a message that arrives over HTTP."""
        request = Request.of(environ)
        receiver, body = request.path.rpartition("/")[2], json.loads(request.body)
        if receiver == "slack":
            self.slack.append(body)
        else:
            self.posts.append((receiver, body))
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
        return [b"ok"]

    def routes(self, factor: int) -> str:
        """Return the shipped routes with shorter durations, and with this inbox as receivers.

        Each receiver of mails also gets a webhook: its payload has the data that the mail shows.
        """
        text = ROUTES_FILE.read_text(encoding="utf-8")
        config: Json = yaml.safe_load(shorten(text, factor))
        config["global"] |= {
            "smtp_smarthost": self.smtp,
            "smtp_require_tls": False,
            "slack_api_url": f"{self.http}/slack",
        }
        config["templates"] = [str(ROUTES_FILE.with_name("cavatica.tmpl"))]
        for receiver in config["receivers"]:
            if mails := receiver.get("email_configs"):
                receiver["webhook_configs"] = [
                    {
                        "url": f"{self.http}/{receiver['name']}",
                        "send_resolved": mails[0]["send_resolved"],
                    }
                ]
        return yaml.safe_dump(config)


class _Smtp(socketserver.StreamRequestHandler):
    """The part of RFC 5321 (SMTP) that a client needs for sending one mail."""

    def handle(self) -> None:
        """Answer commands, and store the mail that follows DATA."""
        self.wfile.write(b"220 inbox\r\n")
        while command := self.rfile.readline():
            match command[:4].upper():
                case b"DATA":
                    self.wfile.write(b"354 go on\r\n")
                    lines = takewhile(b".\r\n".__ne__, self.rfile)
                    mail = b"".join(line.removeprefix(b".") for line in lines)
                    self.server.mails.append(email.message_from_bytes(mail, policy=default))  # type: ignore[attr-defined] # set in `open_inbox`
                    self.wfile.write(b"250 stored\r\n")
                case b"QUIT":
                    self.wfile.write(b"221 bye\r\n")
                    return
                case _:
                    self.wfile.write(b"250 fine\r\n")


@contextmanager
def open_inbox() -> Iterator[Inbox]:
    """Receive messages inside the block."""
    inbox = Inbox()
    with (
        serve(inbox) as http,
        socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Smtp) as smtp,
    ):
        smtp.mails = inbox.mails  # type: ignore[attr-defined] # read by the handler
        inbox.http, inbox.smtp = http, f"127.0.0.1:{smtp.server_address[1]}"
        threading.Thread(target=smtp.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield inbox
        finally:
            smtp.shutdown()
