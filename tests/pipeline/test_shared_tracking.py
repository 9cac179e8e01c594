"""A shared MLflow server: PostgreSQL, accounts and outages, with the commands of docs/deploy."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import requests
from mlflow import MlflowClient
from mlflow.server import get_app_client

from pipeline.common.errors import PipelineError
from pipeline.tracking.store import StoreUnreachableError, connect
from tests.pipeline.conftest import Workspace
from tests.servers import free_port, running_server

GUIDE = Path(__file__).parents[2] / "docs/deploy/README.md"
NAME = "video-classifier"
PUBLIC_NAME = "mlflow.example.org"
ADMIN = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": "a long password"}


def commands_of_the_guide() -> str:
    blocks = re.findall(r"```bash\n(.*?)```", GUIDE.read_text(), flags=re.DOTALL)
    (block,) = [block for block in blocks if "mlflow server" in block]
    return block


def postgres_programs() -> Path:
    """The folder of initdb and pg_ctl, which Debian keeps off PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    on_path = shutil.which("pg_ctl")
    if not found and on_path is None:
        pytest.skip("no PostgreSQL (on Debian: apt-get install postgresql)")
    return found[-1].parent if found else Path(str(on_path)).resolve().parent


@pytest.fixture(scope="module")
def database(tmp_path_factory) -> Iterator[str]:
    """The address of a new PostgreSQL database."""
    pytest.importorskip("psycopg", reason="needs the packages of make install-cluster")
    programs = postgres_programs()
    folder = tmp_path_factory.mktemp("postgres")
    user: list[str] = []
    if os.getuid() == 0:  # PostgreSQL does not run as root
        if shutil.which("runuser") is None:
            pytest.skip("PostgreSQL does not run as root, and there is no runuser")
        user = ["runuser", "-u", "postgres", "--"]
        folder = Path("/tmp") / f"{folder.name}-{os.getpid()}"  # readable by postgres
        folder.mkdir()
        shutil.chown(folder, "postgres")
    port = free_port()
    data = folder / "data"
    options = f"-c port={port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"

    def run(program: str, *arguments: str | Path) -> None:
        command = [*user, programs / program, *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/")

    run("initdb", "--auth=trust", "--username=mlflow", "--no-sync", "-D", data)
    run("pg_ctl", "start", "-w", "-D", data, "-l", folder / "log", "-o", options)
    try:
        run("createdb", "--host=127.0.0.1", f"--port={port}", "--username=mlflow", "mlflow")
        yield f"postgresql://mlflow@127.0.0.1:{port}/mlflow"
    finally:
        run("pg_ctl", "stop", "-m", "immediate", "-D", data)
        shutil.rmtree(folder, ignore_errors=True)


class Server:
    """A server with the commands of the guide. It can be stopped and started again."""

    def __init__(self, database: str, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.settings = {
            "DATABASE": database,
            "ARTIFACTS": str(folder / "artifacts"),
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "ALLOWED_HOSTS": f"{PUBLIC_NAME},127.0.0.1:{self.port}",
            "ALLOWED_ORIGINS": f"https://{PUBLIC_NAME}",
            "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN["MLFLOW_TRACKING_PASSWORD"],
            "MLFLOW_FLASK_SERVER_SECRET_KEY": "a secret",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }

    @contextmanager
    def running(self) -> Iterator[None]:
        command = ["env", *(f"{name}={value}" for name, value in self.settings.items())]
        health = f"{self.url}/health"
        script = commands_of_the_guide().replace("mlflow server", "mlflow server --workers 1")
        with running_server([*command, "bash", "-c", script], cwd=self.folder, health=health):
            yield

    def environment(self) -> dict[str, str]:
        return {"MLFLOW_TRACKING_URI": self.url, **ADMIN}

    def account(self, name: str) -> dict[str, str]:
        """Create an account as ``admin``; return its variables."""
        with pytest.MonkeyPatch.context() as patch:
            for variable, value in ADMIN.items():
                patch.setenv(variable, value)
            password = f"the password of {name}"
            get_app_client("basic-auth", self.url).create_user(name, password)
        return {"MLFLOW_TRACKING_USERNAME": name, "MLFLOW_TRACKING_PASSWORD": password}

    def client(self, monkeypatch) -> MlflowClient:
        for name, value in ADMIN.items():
            monkeypatch.setenv(name, value)
        return MlflowClient(tracking_uri=self.url)


@pytest.fixture(scope="module")
def server(database, tmp_path_factory) -> Server:
    return Server(database, tmp_path_factory.mktemp("server"))


def vidpipe(workspace: Workspace, server: Server, *arguments: str, **changes: str):
    return workspace.run(
        "vidpipe", *arguments, check=False, environment={**server.environment(), **changes}
    )


def runs_of(client: MlflowClient):
    experiment = client.get_experiment_by_name(NAME)
    return client.search_runs([experiment.experiment_id])


def test_a_database_that_refuses_a_connection_is_no_outage(database, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{database}_of_another_name")
    with pytest.raises(PipelineError, match="does not exist") as caught:
        connect()
    assert not isinstance(caught.value, StoreUnreachableError)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", re.sub(r":\d+/", f":{free_port()}/", database))
    with pytest.raises(StoreUnreachableError, match="Connection refused"):
        connect()


@pytest.mark.long
def test_an_outage_from_training_to_registration_loses_nothing(workspace, server, monkeypatch):
    """Trained without a server, sent to PostgreSQL with an account, and registered there."""
    workspace.set_params(train={"epochs": 3}, tracking={"on_error": "buffer"})
    done = vidpipe(workspace, server, "repro")
    assert done.returncode == 0, done.stdout
    assert "Connection refused" in done.stdout
    assert "not registered yet), run: vidpipe sync" in done.stdout
    done = vidpipe(workspace, server, "sync")
    assert done.returncode == 1
    assert "Start the server" in done.stdout
    with server.running():
        refused = vidpipe(workspace, server, "sync", MLFLOW_TRACKING_PASSWORD="wrong")
        assert refused.returncode == 1
        assert refused.stdout.startswith(f"error: MLflow at {server.url}: ")
        assert "MLFLOW_TRACKING_PASSWORD" in refused.stdout
        done = vidpipe(workspace, server, "sync", **server.account("trainer"))
        assert done.returncode == 0, done.stdout
        client = server.client(monkeypatch)
        (run,) = runs_of(client)
        assert run.info.status == "FINISHED"
        assert run.data.params["train.epochs"] == "3"
        assert "test/accuracy" in run.data.metrics
        steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "val_loss")]
        assert steps == [1, 2, 3]
        version = client.get_model_version_by_alias(NAME, "challenger")
        assert version.run_id == run.info.run_id
        assert any((server.folder / "artifacts").rglob("model.keras"))
        assert vidpipe(workspace, server, "sync").returncode == 0
        assert len(runs_of(client)) == 1
        video = next((workspace.root / "videos").rglob("*.mp4"))
        done = vidpipe(workspace, server, "predict", str(video))
        assert done.returncode == 0, done.stdout
        again = ("repro", "--force", "--single-item", "register")
        refused = vidpipe(workspace, server, *again, **server.account("reader"))
        assert refused.returncode != 0
        assert "MLFLOW_TRACKING_PASSWORD" in refused.stdout
        assert "Not registered" not in refused.stdout
        done = vidpipe(workspace, server, "sync")
        assert done.returncode == 1
        assert "Run: vidpipe repro" in done.stdout


@pytest.mark.long
def test_browsers_reach_the_server_by_its_public_name(server):
    """A proxy passes on the name; a browser sends the origin with every change and search."""
    headers = {"Host": PUBLIC_NAME, "Origin": f"https://{PUBLIC_NAME}"}
    account = tuple(ADMIN.values())
    with server.running():
        search = partial(
            requests.post,
            f"{server.url}/ajax-api/2.0/mlflow/experiments/search",
            auth=account,
            json={"max_results": 1},
        )
        assert search(headers=headers).status_code == 200
        assert search(headers={**headers, "Host": "another.example.org"}).status_code == 403
        assert (
            search(headers={**headers, "Origin": "https://another.example.org"}).status_code == 403
        )


TRAINING = """
import sys, time
from pipeline.tracking.runs import tag_model, training_run
with training_run(params={}, dataset="d", name="interrupted") as run:
    for step in range(1, 4):
        print("ready", flush=True)
        sys.stdin.readline()
        run.log_metrics({"loss": step / 2}, step=step)
"""


@pytest.mark.long
def test_metrics_of_a_training_arrive_when_the_server_is_back(server, tmp_path, monkeypatch):
    with server.running():
        child = subprocess.Popen(
            [sys.executable, "-c", TRAINING],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.getcwd(), **server.environment()},  # noqa: PTH109
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

        def step() -> None:
            assert child.stdout.readline() == "ready\n"
            child.stdin.write("\n")
            child.stdin.flush()

        step()
        assert child.stdout.readline() == "ready\n"  # the first step is logged
    child.stdin.write("\n")
    child.stdin.flush()
    assert child.stdout.readline() == "ready\n"  # the second one is kept
    assert list(tmp_path.glob("mlflow-buffer/*.jsonl"))
    with server.running():
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.wait() == 0
        client = server.client(monkeypatch)
        (run,) = [run for run in runs_of(client) if run.info.run_name == "interrupted"]
        history = client.get_metric_history(run.info.run_id, "loss")
        assert [(metric.step, metric.value) for metric in history] == [(1, 0.5), (2, 1), (3, 1.5)]
        assert run.info.status == "FINISHED"
    assert not list(tmp_path.glob("mlflow-buffer/*.jsonl"))
