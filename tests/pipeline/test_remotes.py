"""Data of a team on shared storage: push, clone, pull, and nothing is left to run."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipeline.conftest import Workspace, commit
from tests.servers import free_port, running_server

# Without targets, DVC also looks for the demo videos, which this workspace does not build.
TARGETS = ("videos.dvc", "dvc.yaml")
BUCKET = "videos"
# A server of tests accepts any key.
AWS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "eu"}


@pytest.fixture(scope="module")
def s3_server(tmp_path_factory) -> Iterator[dict[str, str]]:
    """A server that speaks S3, with an empty bucket; the settings of a remote."""
    boto3 = pytest.importorskip("boto3", reason="needs the packages of make install-cluster")
    pytest.importorskip("moto", reason="needs the packages of make install-cluster")
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = ["moto_server", "--host", "127.0.0.1", "--port", str(port)]
    with running_server(command, cwd=tmp_path_factory.mktemp("s3"), health=f"{url}/moto-api/"):
        keys = {
            "aws_access_key_id": AWS["AWS_ACCESS_KEY_ID"],
            "aws_secret_access_key": AWS["AWS_SECRET_ACCESS_KEY"],
        }
        client = boto3.client("s3", endpoint_url=url, region_name="us-east-1", **keys)
        client.create_bucket(Bucket=BUCKET)
        yield {"url": f"s3://{BUCKET}/dvc", "endpointurl": url}


@pytest.fixture(scope="module")
def ssh_server(tmp_path_factory) -> Iterator[dict[str, str]]:
    """A server for SSH and SFTP on this machine; the settings of a remote."""
    pytest.importorskip("dvc_ssh", reason="needs the packages of make install-cluster")
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if sshd is None:
        pytest.skip("no sshd (on Debian: apt-get install openssh-server)")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    folder = tmp_path_factory.mktemp("ssh")
    for name in ("host", "client"):
        keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name]
        subprocess.run(keygen, check=True)
    shutil.copy(folder / "client.pub", folder / "authorized")
    port = free_port()
    (folder / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\n"
        f"AuthorizedKeysFile {folder}/authorized\nPasswordAuthentication no\nUsePAM no\n"
        "StrictModes no\nPermitRootLogin yes\nSubsystem sftp internal-sftp\n"
    )
    server = subprocess.Popen([sshd, "-D", "-e", "-f", folder / "config"])
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        else:
            pytest.fail(f"no sshd answers at port {port}")
        user = subprocess.check_output(["id", "-un"], text=True).strip()
        yield {
            "url": f"ssh://{user}@127.0.0.1:{port}{folder}/storage",
            "keyfile": str(folder / "client"),
        }
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def folder_remote(tmp_path) -> dict[str, str]:
    """The settings of a remote in a folder, such as a network disk."""
    return {"url": str(tmp_path / "shared disk")}


@pytest.mark.parametrize(
    "remote",
    [
        "folder_remote",
        pytest.param("ssh_server", marks=pytest.mark.long),
        pytest.param("s3_server", marks=pytest.mark.long),
    ],
)
def test_a_fresh_clone_pulls_everything_and_has_nothing_to_run(
    remote, request, built, workspace, tmp_path
):
    settings = dict(request.getfixturevalue(remote))
    workspace.run("dvc", "remote", "add", "--default", "storage", settings.pop("url"))
    for name, value in settings.items():
        workspace.run("dvc", "remote", "modify", "storage", name, value)
    track_videos(workspace)
    workspace.run("dvc", "push", "--quiet", environment=AWS)
    commit(workspace, "Add the videos and a remote")
    clone = clone_of(workspace, tmp_path / "clone")
    clone.run("dvc", "pull", "--quiet", *TARGETS, environment=AWS)
    assert_nothing_to_run(clone, workspace, built)


@pytest.mark.long
def test_clones_share_a_cache_on_a_network_disk_by_link(built, workspace, tmp_path):
    cache = tmp_path / "network disk" / "cache"
    shutil.copytree(workspace.root / ".dvc/cache", cache)
    workspace.run("dvc", "cache", "dir", str(cache))
    workspace.run("dvc", "config", "cache.type", "symlink,copy")  # hard links stay on one disk
    track_videos(workspace)
    commit(workspace, "Share the cache")
    clone = clone_of(workspace, tmp_path / "clone")
    clone.run("dvc", "checkout", "--quiet", *TARGETS)
    frames = next((clone.root / "data/frames").glob("*.frames.zip"))
    assert frames.is_symlink()
    assert frames.resolve().is_relative_to(cache)
    assert_nothing_to_run(clone, workspace, built)


def track_videos(workspace: Workspace) -> None:
    ignored = workspace.root / ".gitignore"
    ignored.write_text(ignored.read_text().replace("/videos/\n", ""))
    workspace.run("dvc", "add", "--quiet", "videos")


def clone_of(workspace: Workspace, root: Path) -> Workspace:
    subprocess.run(["git", "clone", "--quiet", workspace.root, root], check=True)
    assert not (root / "videos").exists()
    return Workspace(root)


def assert_nothing_to_run(clone: Workspace, workspace: Workspace, built: Workspace) -> None:
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{built.root / 'mlflow.db'}"}
    done = clone.run("vidpipe", "repro", environment=store)
    assert "Running stage" not in done.stdout
    assert "Data and pipelines are up to date." in done.stdout
    assert clone.snapshot() == workspace.snapshot()
    assert clone.run("git", "status", "--porcelain").stdout == ""
