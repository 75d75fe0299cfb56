"""Twilio's REST API, as far as it is asked here.

Its answers have the fields of Twilio's published OpenAPI document (twilio_api_v2010), and it refuses
parameters that are not in it; `tests/rest/test_api.py` compares both with Twilio's own library.
"""

import base64
import contextlib
import json
import secrets
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit

from support.server import TOKEN

SID = "AC" + "0123456789abcdef" * 2
KEY, SECRET = "SK" + "0123456789abcdef" * 2, "secret-of-the-key-0123456789"
NUMBER = "+15550123456"

UPDATES = {
    *("AccountSid", "ApiVersion", "FriendlyName", "SmsApplicationSid", "SmsFallbackMethod", "SmsFallbackUrl"),
    *("SmsMethod", "SmsUrl", "StatusCallback", "StatusCallbackMethod", "VoiceApplicationSid"),
    *("VoiceCallerIdLookup", "VoiceFallbackMethod", "VoiceFallbackUrl", "VoiceMethod", "VoiceUrl"),
    *("EmergencyStatus", "EmergencyAddressSid", "TrunkSid", "VoiceReceiveMode", "IdentitySid", "AddressSid"),
    "BundleSid",
}
LISTS = {"Beta", "FriendlyName", "PhoneNumber", "Origin", "PageSize", "Page", "PageToken"}
CALLS = {
    *("To", "From", "Method", "FallbackUrl", "FallbackMethod", "StatusCallback", "StatusCallbackEvent"),
    *("StatusCallbackMethod", "SendDigits", "Timeout", "Record", "RecordingChannels", "Url", "Twiml"),
    *("ApplicationSid", "MachineDetection", "CallerId", "TimeLimit", "CallToken", "CallReason"),
}
METHODS = {"GET", "POST"}


class Rest:
    """A REST API with one account. A context manager: it ends with the block.

    `numbers` and `calls` are the account's resources; `asked` has the method, the path and the parameters of
    each request. `answer` may be a status and a body with which all requests are answered; `skew`, how
    many seconds the answers' `Date` is ahead; `pause`, seconds before each byte of a body, or None: no body.
    """

    def __init__(self):
        self.numbers = []
        self.calls = {}
        self.asked = []
        self.answer = None
        self.skew = 0
        self.pause = 0.0
        self.page_size = 50  # at most
        self.account = {"status": "active", "type": "Full"}
        rest = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                form = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                parts = urlsplit(self.path)
                parameters = parse_qs(form if self.command == "POST" else parts.query, keep_blank_values=True)
                rest.asked.append((self.command, parts.path, parameters))
                status, answer = rest.answer or rest.ask(
                    self.command, parts.path, parameters, self.headers.get("Authorization")
                )
                body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                if status in (301, 302, 307):
                    self.send_header("Location", "http://127.0.0.1:1/")
                self.end_headers()
                if rest.pause:  # a byte at a time, until the client has gone
                    with contextlib.suppress(OSError):
                        for i in range(len(body)):
                            time.sleep(rest.pause)
                            self.wfile.write(body[i : i + 1])
                elif rest.pause is None:
                    self.close_connection = True  # in the middle of the answer
                else:
                    with contextlib.suppress(OSError):  # the client need not take all of it
                        self.wfile.write(body)

            do_POST = do_GET  # noqa: N815

            def date_time_string(self, timestamp=None):
                return formatdate(time.time() + rest.skew, usegmt=True)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True  # a client may keep its connection
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.environ = {"TWILIO_API_URL": self.url, "TWILIO_ACCOUNT_SID": SID, "TWILIO_AUTH_TOKEN": TOKEN}
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def add(self, phone_number=NUMBER, **fields):
        """Add a number to the account, and return it."""
        sid = "PN" + secrets.token_hex(16)
        number = {
            "account_sid": SID,
            "address_sid": None,
            "address_requirements": "none",
            "api_version": "2010-04-01",
            "beta": False,
            "bundle_sid": None,
            "capabilities": {"voice": True, "sms": True, "mms": True, "fax": False},
            "date_created": "Thu, 30 Jul 2015 23:19:04 +0000",
            "date_updated": "Thu, 30 Jul 2015 23:19:04 +0000",
            "emergency_address_sid": None,
            "emergency_address_status": "unregistered",
            "emergency_status": "Inactive",
            "friendly_name": phone_number,
            "identity_sid": None,
            "origin": "twilio",
            "phone_number": phone_number,
            "sid": sid,
            "sms_application_sid": "",
            "sms_fallback_method": "POST",
            "sms_fallback_url": "",
            "sms_method": "POST",
            "sms_url": "",
            "status": "in-use",
            "status_callback": "",
            "status_callback_method": "POST",
            "trunk_sid": None,
            "type": "local",
            "uri": f"/2010-04-01/Accounts/{SID}/IncomingPhoneNumbers/{sid}.json",
            "voice_application_sid": "",
            "voice_caller_id_lookup": False,
            "voice_fallback_method": "POST",
            "voice_fallback_url": None,
            "voice_method": "POST",
            "voice_receive_mode": "voice",
            "voice_url": None,
        }
        assert fields.keys() <= number.keys()
        self.numbers.append({**number, **fields})
        return self.numbers[-1]

    def ask(self, method, path, parameters, authorization):
        """Return the status and the body of the answer to a request."""
        allowed = [
            base64.b64encode(f"{user}:{word}".encode()) for user, word in ((SID, TOKEN), (KEY, SECRET))
        ]
        if authorization not in [f"Basic {each.decode()}" for each in allowed]:
            return error(401, 20003, "Authenticate")
        account = f"/2010-04-01/Accounts/{SID}"
        if (method, path) == ("GET", f"{account}.json"):
            if authorization != f"Basic {allowed[0].decode()}":  # the key is a standard one
                return error(401, 20003, "Authenticate")
            return 200, self.of_account()
        if (method, path) == ("GET", f"{account}/IncomingPhoneNumbers.json"):
            return self.list(path, parameters)
        if (method, path) == ("POST", f"{account}/Calls.json"):
            return self.call(parameters)
        if method == "POST" and path.startswith(f"{account}/Calls/"):
            return self.end(path.rpartition("/")[2].removesuffix(".json"), parameters)
        for number in self.numbers:
            if (method, path) == ("POST", number["uri"]):
                return self.update(number, parameters)
        return error(404, 20404, f"The requested resource {path} was not found")

    def of_account(self):
        return {
            "auth_token": "a token that nobody must show",
            "date_created": "Thu, 30 Jul 2015 20:00:00 +0000",
            "date_updated": "Thu, 30 Jul 2015 20:00:00 +0000",
            "friendly_name": "My account",
            "owner_account_sid": SID,
            "sid": SID,
            "subresource_uris": {},
            "uri": f"/2010-04-01/Accounts/{SID}.json",
            **self.account,
        }

    def list(self, path, parameters):
        if unknown := parameters.keys() - LISTS:
            return error(400, 20001, f"Unknown {unknown}")
        (wanted,) = parameters.get("PhoneNumber", [""])
        # As Twilio does, it finds parts of numbers too.
        found = [number for number in self.numbers if wanted in number["phone_number"]]
        size = min(int(parameters.get("PageSize", ["50"])[0]), self.page_size)
        page = int(parameters.get("Page", ["0"])[0])
        part = found[page * size : (page + 1) * size]
        query = {"PageSize": size, **({"PhoneNumber": wanted} if wanted else {})}
        more = len(found) > (page + 1) * size
        return 200, {
            "end": page * size + len(part) - 1,
            "first_page_uri": f"{path}?{urlencode({**query, 'Page': 0})}",
            "incoming_phone_numbers": part,
            "next_page_uri": f"{path}?{urlencode({**query, 'Page': page + 1})}" if more else None,
            "page": page,
            "page_size": size,
            "previous_page_uri": None,
            "start": page * size,
            "uri": f"{path}?{urlencode(query)}",
        }

    def update(self, number, parameters):
        if unknown := parameters.keys() - UPDATES:
            return error(400, 20001, f"Unknown {unknown}")
        for name, (value,) in parameters.items():
            if name.endswith("Method") and value not in METHODS:
                return error(400, 21403, f"{name} is not valid")
            if name.endswith(("Url", "Callback")) and value and "://" not in value:
                return error(400, 21502, f"{name} is not a valid URL")
            key = "".join(f"_{c.lower()}" if c.isupper() else c for c in name).strip("_")
            number[key] = value or (None if key == "trunk_sid" else "")
        return 200, number

    def call(self, parameters):
        if unknown := parameters.keys() - CALLS:
            return error(400, 20001, f"Unknown {unknown}")
        (to,), (caller,) = parameters["To"], parameters["From"]
        if caller not in [number["phone_number"] for number in self.numbers]:
            return error(400, 21210, f"'From' number {caller} is not a valid, SMS-capable or verified number")
        sid = "CA" + secrets.token_hex(16)
        self.calls[sid] = {
            "account_sid": SID,
            "answered_by": None,
            "api_version": "2010-04-01",
            "caller_name": None,
            "date_created": None,
            "date_updated": None,
            "direction": "outbound-api",
            "duration": None,
            "end_time": None,
            "forwarded_from": None,
            "from": caller,
            "from_formatted": caller,
            "group_sid": None,
            "parent_call_sid": None,
            "phone_number_sid": self.numbers[0]["sid"],
            "price": None,
            "price_unit": "USD",
            "queue_time": "0",
            "sid": sid,
            "start_time": None,
            "status": "queued",
            "subresource_uris": {},
            "to": to,
            "to_formatted": to,
            "trunk_sid": None,
            "uri": f"/2010-04-01/Accounts/{SID}/Calls/{sid}.json",
        }
        return 201, self.calls[sid]

    def end(self, sid, parameters):
        if sid not in self.calls:
            return error(404, 20404, f"The requested resource Calls/{sid} was not found")
        (status,) = parameters["Status"]
        self.calls[sid]["status"] = status
        return 200, self.calls[sid]


def error(status, code, message):
    """Return an answer of Twilio to what it refuses."""
    page = f"https://www.twilio.com/docs/errors/{code}"
    return status, {"code": code, "message": message, "more_info": page, "status": status}
