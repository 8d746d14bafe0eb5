import importlib
import os
import pathlib
import sys

import grpc
import httpx
import openai
import pytest

from daemon import SOURCE_DIR, Daemon, binary_path, model_path, test_data_path


def pytest_collection_modifyitems(config, items):
    """Without a binary or a model nothing here can run: a failure in CI, elsewhere a stated skip."""
    missing = [path for path in (binary_path(), model_path()) if not pathlib.Path(path).exists()]
    if not missing:
        return
    reason = f"{missing[0]} is missing: set COMET_BINARY and COMET_MODEL"
    if os.environ.get("CI") == "true":
        pytest.exit(reason, returncode=1)
    for item in items:
        item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def daemon():
    with Daemon() as running:
        yield running


@pytest.fixture(autouse=True)
def leaves_nothing_behind(request):
    """After each test that used the shared daemon, it is idle and all its pages are free."""
    yield
    if "daemon" in request.fixturenames:
        request.getfixturevalue("daemon").wait_idle()


@pytest.fixture(scope="session")
def client(daemon):
    with make_client(daemon) as made:
        yield made


def make_client(daemon) -> openai.OpenAI:
    return openai.OpenAI(base_url=daemon.url + "/v1", api_key="none", max_retries=0, timeout=120)


@pytest.fixture(scope="session")
def http(daemon):
    with httpx.Client(base_url=daemon.url, timeout=120) as made:
        yield made


class Stubs:
    """comet.v1 as Python modules, made from the .proto."""

    def __init__(self, folder: pathlib.Path):
        from grpc_tools import protoc

        root = SOURCE_DIR / "proto"
        code = protoc.main(["protoc", f"--proto_path={root}", f"--python_out={folder}",
                            f"--grpc_python_out={folder}", "comet/v1/comet.proto"])
        assert code == 0
        sys.path.insert(0, str(folder))
        self.messages = importlib.import_module("comet.v1.comet_pb2")
        self.services = importlib.import_module("comet.v1.comet_pb2_grpc")


@pytest.fixture(scope="session")
def stubs(tmp_path_factory):
    return Stubs(tmp_path_factory.mktemp("stubs"))


@pytest.fixture(scope="session")
def channel(daemon):
    with grpc.insecure_channel(daemon.grpc_address) as made:
        yield made


@pytest.fixture(scope="session")
def comet(channel, stubs):
    return stubs.services.CometStub(channel)


def skip_unless_ci(reason: str) -> None:
    pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)


@pytest.fixture(scope="session")
def require_data():
    def require(name: str) -> pathlib.Path:
        path = test_data_path(name)
        if not path.exists():
            reason = f"{path} is missing: set COMET_TEST_DATA"
            skip_unless_ci(reason)
        return path

    return require
