"""Files by which a killed training continues, and stores, that are damaged; a disk that was full for a while."""

import errno

import pytest

from recsys import cli, tracking
from recsys.errors import DataWarning, TrackingError
from recsys.workspace import Workspace


def runs(client, name="exp"):
    experiment = client.get_experiment_by_name(name)
    return [] if experiment is None else client.search_runs([experiment.experiment_id])


@pytest.fixture
def client(mlflow_root):
    from mlflow import MlflowClient

    return MlflowClient(tracking.configure(Workspace()))


@pytest.mark.parametrize("content", ["[]", "", "{}"])
def test_a_run_whose_file_is_damaged_is_found_by_its_tag(mlflow_root, client, content):
    file = mlflow_root / "mlruns" / "checkpoints" / "0123.json"
    with pytest.raises(KeyboardInterrupt), tracking.start_run(Workspace(), "exp", "first", resume=file) as first:
        raise KeyboardInterrupt
    client.update_run(first.run_id, status="RUNNING")  # as after a kill
    file.write_text(content)
    with pytest.warns(DataWarning, match="0123.json is damaged; the run first"):
        tracking.configure(Workspace())
    assert client.get_run(first.run_id).info.status == "KILLED"
    file.write_text(content)
    with (
        pytest.warns(DataWarning, match="is damaged"),
        tracking.start_run(Workspace(), "exp", "second", resume=file) as second,
    ):
        assert second.resumed
    assert [(run.info.run_id, run.info.status) for run in runs(client)] == [(first.run_id, "FINISHED")]
    assert not file.exists()


def test_a_run_that_failed_for_want_of_disk_is_continued(mlflow_root, client):
    file = mlflow_root / "mlruns" / "checkpoints" / "0123.json"
    for error in (OSError(errno.ENOSPC, "No space left on device"), TrackingError("the store cannot be written")):
        with pytest.raises(type(error)), tracking.start_run(Workspace(), "exp", resume=file, interrupted=False):
            raise error
    with tracking.start_run(Workspace(), "exp", resume=file, interrupted=False) as tracker:
        assert tracker.resumed
    assert len(runs(client)) == 1
    with pytest.raises(ZeroDivisionError), tracking.start_run(Workspace(), "exp", resume=file, interrupted=False):
        raise ZeroDivisionError
    with tracking.start_run(Workspace(), "exp", resume=file, interrupted=False) as tracker:
        assert not tracker.resumed


def test_a_store_with_flipped_bytes_is_one_line(tmp_path, mlflow_template, capsys, monkeypatch):
    file = tmp_path / "mlruns" / "mlflow.db"
    file.parent.mkdir()
    content = bytearray((mlflow_template / "mlruns" / "mlflow.db").read_bytes())
    for page in range(3 * 4096, len(content), 4096):
        for place in range(page + 100, page + 140):
            content[place] ^= 0xFF
    file.write_bytes(content)
    assert cli.main(["registry", "list", "--root", str(tmp_path)]) == 5
    err = capsys.readouterr().err
    assert f"{file} is damaged" in err
    assert err.count("\n") == 1
    assert file.read_bytes() == content


def test_a_training_looks_at_the_store_before_the_data(tmp_path, capsys):
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns" / "mlflow.db").write_text("something else")
    job = tmp_path / "job.toml"
    job.write_text('[data]\nname = "synthetic"\n[model]\nname = "EASE"\n')
    assert cli.main(["train", str(job), "--root", str(tmp_path)]) == 5
    out, err = capsys.readouterr()
    assert out == ""
    assert "mlflow.db is damaged" in err


def test_an_error_of_a_library_that_names_no_file_names_the_output(tmp_path, capsys, monkeypatch):
    def full(workspace, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("recsys.jobs.serve.export", full)
    assert cli.main(["export", "model", "--onnx", str(tmp_path / "x.onnx")]) == 3
    assert capsys.readouterr().err == f"recsys export: {tmp_path / 'x.onnx'}: No space left on device\n"
