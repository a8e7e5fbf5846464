"""A server that asks for a key gets it, from the same arguments by which it asks for it, and nobody else does."""

from __future__ import annotations

import http.server
import json
import threading

import pytest
from ansible.module_utils.plumbline.benchmark import counters
from ansible.module_utils.plumbline.serving import api_key
from ansible.module_utils.plumbline.serving.command import printable
from ansible.module_utils.plumbline.serving.startup import complete

KEY = "keyMadeUp4711"


@pytest.fixture
def server():
    """A server that answers where the key is shown, and 401 elsewhere, as vLLM does; ``moved`` sends everybody to another address."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def answer(self):
            self.server.seen.append(self.headers.get("Authorization"))
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.server.moved and self.path != "/moved":
                self.send_response(302)
                self.send_header("Location", self.server.moved)
            else:
                self.send_response(200 if self.server.seen[-1] == "Bearer " + KEY else 401)
            self.end_headers()
            metrics = "vllm:num_preemptions_total 3.0\n"
            self.wfile.write((json.dumps({"choices": [{}]}) if self.command == "POST" else metrics).encode())

        do_GET = do_POST = answer  # noqa: N815 - the names that http.server calls

        def log_message(self, *_args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as made:
        made.seen, made.moved, made.url = [], "", "http://127.0.0.1:%d" % made.server_port
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


def test_completion_and_counters_show_the_key(server):
    assert complete(server.url, "m", 5, KEY) == (True, "") and counters.read(server.url, KEY)["preemptions"] == 3


def test_without_it_or_with_another_the_server_refuses(server):
    for key in ("", "another"):
        ready, said = complete(server.url, "m", 5, key)
        assert not ready and said.startswith("HTTP 401: ")
        assert counters.read(server.url, key)["preemptions"] is None
    assert server.seen[:2] == [None, None], "no key, no header"


def test_a_redirection_does_not_take_the_key_elsewhere(server):
    server.moved = server.url + "/moved"
    counters.read(server.url, KEY)
    assert server.seen == ["Bearer " + KEY, None]


@pytest.mark.parametrize("argv, env, expected", [
    ([], None, ""),
    (["--api-key-file", "x"], {}, ""),
    (["--api-key", "A"], {}, "A"),
    (["--api_key=A", "--port", "1"], {}, "A"),
    (["--api-key", "A", "B", "--port", "1"], {}, "A"),
    (["--api-key", "", "B"], {}, "B"),
    (["--api-key", "A", "--api-key", "B"], {}, "B"),  # the layout's arguments follow the role's
    ([], {"VLLM_API_KEY": "E"}, "E"),
    ([], {"VLLM_API_KEY": 4711}, "4711"),
    (["--api-key", "A"], {"VLLM_API_KEY": "E"}, "A"),
    (["--api-key"], {"VLLM_API_KEY": "E"}, "E"),
    ([], {"VLLM_API_KEY": ""}, ""),
])  # fmt: skip
def test_which_key_a_server_takes(argv, env, expected):
    assert api_key.accepted(argv, env) == expected


def test_the_client_gets_it_in_its_environment_and_is_left_alone_without_one():
    assert api_key.client_environment({"A": "1"}, "K") == {"A": "1", "OPENAI_API_KEY": "K"}
    assert api_key.client_environment({"OPENAI_API_KEY": "own"}, "") == {"OPENAI_API_KEY": "own"}


@pytest.mark.parametrize("key", ["lineEndMadeUp47\n", " blankMadeUp47", "umlautMadeUp47\u00fc", "two\nlinesMadeUp47"])
def test_a_key_that_no_header_carries_is_named_without_it(server, key):
    ready, said = complete(server.url, "m", 5, key)
    assert not ready and "no HTTP header carries" in said and "MadeUp" not in said
    assert counters.read(server.url, key)["preemptions"] is None and server.seen == []


def test_none_of_several_keys_is_in_a_command_that_is_kept():
    text = printable(["vllm", "serve", "--api-key", "one", "two", "--port", "8000"])
    assert text == "vllm serve --api-key [scrubbed] [scrubbed] --port 8000"
