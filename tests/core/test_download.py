"""The download command against a small hub on this machine: what arrives, what is refused, what survives."""

from __future__ import annotations

import ast
import random
import shutil
import socket
import sys
from pathlib import Path

import pytest

pytest.importorskip("huggingface_hub")

from panodiff_core import __main__ as cli
from panodiff_core.commands.downloader import job, transfer
from panodiff_core.engines import ENGINES
from panodiff_core.engines.dit360.checkpoint import sources
from panodiff_core.engines.star.sources import SOURCES as STAR_SOURCES
from panodiff_core.runtime.errors import InputError
from tests.core.hub_server import GOOD_TOKEN, HubServer, etag
from tests.test_publish_hygiene import ROOT, archive_files

FLUX, TEXT, LORA = sources.FLUX, sources.TEXT_ENCODERS, sources.LORA
# The layout of FLUX.1-dev's repository, with what must stay there: the single files and a picture.
FLUX_TREE = {
    "": ["model_index.json"],
    "scheduler": ["scheduler_config.json"],
    "transformer": [
        "config.json",
        "diffusion_pytorch_model.safetensors.index.json",
        "diffusion_pytorch_model-00001-of-00002.safetensors",
        "diffusion_pytorch_model-00002-of-00002.safetensors",
    ],
    "vae": ["config.json", "diffusion_pytorch_model.safetensors"],
    "text_encoder": ["config.json", "model.safetensors"],
    "text_encoder_2": ["config.json", "model.safetensors.index.json", "model-00001-of-00001.safetensors"],
    "tokenizer": ["vocab.json", "merges.txt", "tokenizer_config.json"],
    "tokenizer_2": ["tokenizer.json", "spiece.model", "tokenizer_config.json"],
}
FLUX_FILES = [f"{folder}/{name}".lstrip("/") for folder, names in FLUX_TREE.items() for name in names]
LEFT_THERE = ["flux1-dev.safetensors", "ae.safetensors", "README.md", "dev_grid.jpg"]


def content(name: str, size: int) -> bytes:
    return random.Random(name).randbytes(size)


@pytest.fixture(autouse=True)
def this_machine_only(monkeypatch):
    """Whatever the library asks for by itself, too: any address but this machine's fails the test."""
    look_up, strangers = socket.getaddrinfo, []

    def guarded(host, *arguments, **options):
        if host not in ("127.0.0.1", "localhost"):
            strangers.append(host)
            raise socket.gaierror(socket.EAI_NONAME, "only this machine")
        return look_up(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", guarded)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY", True)
    yield
    assert strangers == []


@pytest.fixture
def hub(monkeypatch):
    """A hub with everything the table names; large files have 9,000 bytes, small ones 300."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", "/nonexistent/token")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(transfer, "FIRST_PAUSE_S", 0.0)
    names = {
        FLUX: FLUX_FILES + LEFT_THERE,
        TEXT: ["clip_l.safetensors", "t5xxl_fp16.safetensors", "t5xxl_fp8_e4m3fn.safetensors", "README.md"],
        LORA: ["adapter_model.safetensors", "README.md"],
    }
    repos = {
        repo: {name: content(repo + name, 9000 if name.endswith(".safetensors") else 300) for name in files}
        for repo, files in names.items()
    }
    with HubServer(repos) as server:
        yield server


@pytest.fixture
def fetch(hub, tmp_path, capsys):
    """Run `download dit360 --to models …` against the hub: (exit code, stdout, stderr)."""

    def run(*options: str, endpoint: str | None = None) -> tuple[int, str, str]:
        argv = ["download", "dit360", "--to", str(tmp_path / "models"), *options]
        code = cli.main([*argv, "--endpoint", endpoint or hub.address])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return run


@pytest.fixture
def models(tmp_path) -> Path:
    return tmp_path / "models"


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def lora_file(models: Path) -> Path:
    return models / "loras/DiT360/adapter_model.safetensors"


def test_diffusers_layout_is_the_model_folder_and_the_lora(hub, fetch, models):
    code, out, err = fetch()
    assert code == 0, err
    folder = models / "diffusers/FLUX.1-dev"
    assert files_in(folder) == set(FLUX_FILES) and ENGINES["dit360"].missing_files(folder) == []
    assert files_in(models) - {f"diffusers/FLUX.1-dev/{n}" for n in FLUX_FILES} == {
        "loras/DiT360/adapter_model.safetensors"
    }
    for name in FLUX_FILES:
        assert (folder / name).read_bytes() == hub.repos[FLUX][name], name
    assert lora_file(models).read_bytes() == hub.repos[LORA]["adapter_model.safetensors"]
    assert set(out.split()) == {str(path) for path in models.rglob("*") if path.is_file()}
    assert f"The licence of {FLUX} applies" in err and "100% of 9.00 kB" in err


def test_comfyui_layout_is_single_files_in_their_folders(hub, fetch, models):
    hub.repos[LORA]["adapter_config.json"] = b'{"r": 64}'
    assert fetch("--layout", "comfyui")[0] == 0
    expected = {
        "diffusion_models/flux1-dev.safetensors": (FLUX, "flux1-dev.safetensors"),
        "vae/ae.safetensors": (FLUX, "ae.safetensors"),
        "text_encoders/clip_l.safetensors": (TEXT, "clip_l.safetensors"),
        "text_encoders/t5xxl_fp16.safetensors": (TEXT, "t5xxl_fp16.safetensors"),
        "loras/DiT360/adapter_model.safetensors": (LORA, "adapter_model.safetensors"),
        "loras/DiT360/adapter_config.json": (LORA, "adapter_config.json"),
    }
    assert files_in(models) == set(expected)
    for place, (repo, name) in expected.items():
        assert (models / place).read_bytes() == hub.repos[repo][name], place


def test_only_some_parts_and_the_small_t5(fetch, models):
    assert fetch("--layout", "comfyui", "--only", "t5", "--only", "vae", "--t5", "fp8")[0] == 0
    assert files_in(models) == {"text_encoders/t5xxl_fp8_e4m3fn.safetensors", "vae/ae.safetensors"}


def test_another_lora_by_its_full_name(hub, fetch, models):
    hub.repos["someone/else"] = {"new/pano.safetensors": b"other", "new/adapter_config.json": b"{}"}
    assert fetch("--only", "lora", "--lora-from", "someone/else/new/pano.safetensors")[0] == 0
    assert files_in(models / "loras/DiT360") == {"pano.safetensors"}, "no PEFT layout"


def test_a_broken_transfer_is_resumed_within_a_run(hub, fetch, models):
    hub.breaks["adapter_model.safetensors"] = [4000, 2500]
    code, _, err = fetch("--only", "lora")
    assert code == 0 and "Trying again (1 of 5)" in err and "HF_ENDPOINT" not in err
    ranges = [r.range for r in hub.transfers("adapter_model.safetensors") if "/storage/" in r.path]
    assert ranges == [None, "bytes=4000-", "bytes=6500-"]
    assert lora_file(models).read_bytes() == hub.repos[LORA]["adapter_model.safetensors"]


def test_a_run_goes_on_where_the_last_one_stopped(hub, fetch, models, monkeypatch):
    monkeypatch.setattr(transfer, "RETRIES", 0)
    hub.breaks["adapter_model.safetensors"] = [5000]
    code, out, err = fetch("--only", "lora")
    assert code == 1 and out == "" and "continues where it stopped" in err
    assert not lora_file(models).exists() and [p.stat().st_size for p in models.rglob("*.part")] == [5000]
    _, listed, _ = fetch("--only", "lora", "--dry-run")
    assert "begun, 5.00 kB" in listed and "4.00 kB to fetch" in listed
    hub.requests.clear()
    assert fetch("--only", "lora")[0] == 0
    assert {r.range for r in hub.transfers("adapter_model.safetensors")} == {"bytes=5000-"}
    assert lora_file(models).read_bytes() == hub.repos[LORA]["adapter_model.safetensors"]
    assert list(models.rglob("*.part")) == []


def test_what_belongs_to_an_older_version_is_not_continued(hub, fetch, models, monkeypatch):
    monkeypatch.setattr(transfer, "RETRIES", 0)
    hub.breaks["adapter_model.safetensors"] = [5000]
    assert fetch("--only", "lora")[0] == 1
    hub.repos[LORA]["adapter_model.safetensors"] = content("a newer one", 9000)
    hub.requests.clear()
    assert fetch("--only", "lora")[0] == 0
    assert {r.range for r in hub.transfers("adapter_model.safetensors")} == {None}
    assert lora_file(models).read_bytes() == content("a newer one", 9000)


def test_a_server_that_does_not_resume_starts_again(hub, fetch, models):
    hub.breaks["adapter_model.safetensors"] = [4000]
    hub.ignores_ranges = True
    assert fetch("--only", "lora")[0] == 0
    assert lora_file(models).read_bytes() == hub.repos[LORA]["adapter_model.safetensors"]


def test_a_server_that_always_starts_again_is_given_up(hub, fetch, models):
    hub.breaks["adapter_model.safetensors"] = [4000] * 20
    hub.ignores_ranges = True
    code, _, err = fetch("--only", "lora")
    assert code == 1 and err.count("Trying again") == 5 and not lora_file(models).exists()


def test_an_overfull_part_is_begun_anew(hub, fetch, models):
    remote = hub.repos[LORA]["adapter_model.safetensors"]
    name = f".adapter_model.safetensors.{etag('.safetensors', remote)[:16]}.part"
    part = lora_file(models).with_name(name)
    part.parent.mkdir(parents=True)
    part.write_bytes(remote + b"x")
    assert fetch("--only", "lora")[0] == 0
    assert lora_file(models).read_bytes() == remote and not part.exists()


def test_it_gives_up_after_five_tries_without_progress(hub, fetch, models):
    hub.breaks["adapter_model.safetensors"] = [0] * 20
    code, _, err = fetch("--only", "lora")
    assert code == 1 and "(5 of 5)" in err and "(6 of" not in err
    assert len(hub.breaks["adapter_model.safetensors"]) == 14
    # Tries count from the last byte that came: eight short pieces are progress.
    hub.breaks["adapter_model.safetensors"] = [1000] * 8
    code, _, err = fetch("--only", "lora")
    assert code == 0 and err.count("(1 of 5)") == 8 and "(2 of" not in err


def test_a_busy_hub_is_asked_again_for_a_file_and_named_for_a_list(hub, fetch, models):
    hub.statuses["tokenizer/merges.txt"] = [503, 429]
    assert fetch("--only", "clip")[0] == 0
    assert len(hub.transfers("tokenizer/merges.txt")) == 3
    hub.statuses[FLUX] = [503]
    code, _, err = fetch("--only", "vae")
    assert (
        code == 1 and f"answers 503 for {FLUX}" in err and not (models / "diffusers/FLUX.1-dev/vae").exists()
    )


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json"])
def test_a_wrong_checksum_is_refused_and_the_old_file_stays(hub, fetch, models, name):
    hub.repos[LORA]["adapter_config.json"] = b'{"r": 64, "lora_alpha": 64}'
    good = hub.repos[LORA][name]
    hub.served[name] = bytes([good[0] ^ 1]) + good[1:]
    target = lora_file(models).with_name(name)
    target.parent.mkdir(parents=True)
    target.write_bytes(b"from before")
    code, out, err = fetch("--only", "lora", "--replace")
    assert code == 1 and str(target) not in out.split()
    assert f"{name} of {LORA} arrived damaged" in err and etag(name, good) in err
    assert target.read_bytes() == b"from before" and list(models.rglob("*.part")) == []
    del hub.served[name]
    assert fetch("--only", "lora", "--replace")[0] == 0
    assert target.read_bytes() == good


def test_more_bytes_than_announced_are_refused(hub, fetch, models):
    hub.served["adapter_model.safetensors"] = content("long", 9001)
    code, _, err = fetch("--only", "lora")
    assert code == 1 and "longer than the 9000 bytes" in err and not lora_file(models).exists()
    hub.served.clear()
    assert fetch("--only", "lora")[0] == 0


def test_what_is_there_is_verified_and_not_fetched_again(hub, fetch, models):
    assert fetch("--only", "lora", "--only", "vae")[0] == 0
    hub.requests.clear()
    code, out, _ = fetch("--only", "lora", "--only", "vae")
    assert code == 0 and out.count("(was there, checksum right)") == 3
    assert [r.method for r in hub.requests if "/api/" not in r.path] == []


@pytest.mark.parametrize("old", [b"short", content("same size", 9000)], ids=["size", "content"])
def test_another_file_of_that_name_is_only_replaced_when_told(hub, fetch, models, old):
    lora_file(models).parent.mkdir(parents=True)
    lora_file(models).write_bytes(old)
    code, _, err = fetch("--only", "lora", "--only", "vae")
    assert code == 1 and str(lora_file(models)) in err and "--replace" in err
    assert lora_file(models).read_bytes() == old and not (models / "diffusers").exists()
    assert fetch("--only", "lora", "--replace")[0] == 0
    assert lora_file(models).read_bytes() == hub.repos[LORA]["adapter_model.safetensors"]


def test_a_gated_repository_without_a_token(hub, fetch, models):
    hub.gated.add(FLUX)
    code, out, err = fetch()
    assert code == 1 and out == "" and not models.exists()
    assert (
        "no token was sent" in err
        and f"{hub.address}/{FLUX}, accept the licence" in err
        and "--token-file" in err
    )


def test_a_gated_repository_with_tokens(hub, fetch, models, tmp_path, monkeypatch):
    hub.gated.add(FLUX)
    token = tmp_path / "token"
    token.write_text("hf_bad\n")
    code, _, err = fetch("--only", "vae", "--token-file", str(token))
    assert (
        code == 1
        and "(403)" in err
        and "the token that was sent has no access" in err
        and "hf_bad" not in err
    )
    monkeypatch.setenv("HF_TOKEN", "hf_bad")
    assert "the token that was sent has no access" in fetch("--only", "vae")[2]
    token.write_text(f"{GOOD_TOKEN}\n")
    assert fetch("--only", "vae", "--token-file", str(token))[0] == 0
    monkeypatch.setenv("HF_TOKEN", GOOD_TOKEN)
    assert fetch("--only", "clip")[0] == 0
    # The storage behind the hub is another host: the token is none of its business.
    stored = [r for r in hub.requests if r.path.startswith("/storage/")]
    assert len(stored) == 2 and {r.token for r in stored} == {None}


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_without_a_reason_is_explained_too(hub, fetch, status):
    hub.statuses["adapter_model.safetensors"] = [status]
    code, _, err = fetch("--only", "lora")
    assert code == 1 and f"({status}): no token was sent" in err and "accept the licence" in err
    hub.statuses[LORA] = [status]
    code, _, err = fetch("--only", "lora")
    assert code == 1 and "A repository that does not exist is refused in the same words" in err


def test_files_and_repositories_that_are_not_there(hub, fetch):
    hub.repos[LORA] = {"dit360.safetensors": b"x", "README.md": b"y"}
    code, _, err = fetch("--only", "lora")
    assert code == 1 and "no file adapter_model.safetensors" in err and "it has dit360.safetensors" in err
    assert "--lora-from OWNER/REPO/FILE" in err
    del hub.repos[TEXT]
    code, _, err = fetch("--layout", "comfyui", "--only", "clip")
    assert code == 1 and f"has no {TEXT} (404)" in err and "sources.py" in err


def test_without_checksums_nothing_is_fetched(hub, fetch, models):
    hub.without_checksums = True
    code, _, err = fetch("--only", "lora")
    assert code == 1 and "no size or checksum for adapter_model.safetensors" in err and not models.exists()


def test_file_names_that_leave_the_folder_are_refused(hub, fetch, tmp_path):
    hub.repos[FLUX]["vae/../../../../../evil.json"] = b"{}"
    code, _, err = fetch("--only", "vae")
    assert code == 1 and "no plain file name" in err and list(tmp_path.rglob("*.json")) == []


def test_offline(hub, fetch, models, monkeypatch):
    with HubServer({}) as gone:
        address = gone.address
    code, _, err = fetch("--only", "lora", endpoint=address)
    assert code == 1 and f"no connection to {address}" in err and "HF_ENDPOINT" in err
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    code, _, err = fetch("--only", "lora")
    assert code == 1 and "HF_HUB_OFFLINE is set" in err and not models.exists()


def test_what_is_no_hub(fetch, hub, monkeypatch):
    monkeypatch.setattr("tests.core.hub_server.json.dumps", lambda _: "<html>please log in</html>")
    code, _, err = fetch("--only", "lora")
    assert code == 1 and "does not answer like a hub" in err


def test_the_library_s_own_endpoint_is_the_default(hub, models, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.address)
    template = hub.address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    assert cli.main(["download", "dit360", "--only", "lora", "--to", str(models)]) == 0
    assert lora_file(models).read_bytes() == hub.repos[LORA]["adapter_model.safetensors"]


def test_star_s_files_are_listed_to_be_fetched_by_hand(hub, models, capsys):
    assert cli.main(["download", "star", "--to", str(models)]) == 1
    error = capsys.readouterr().err
    assert all(source.page in error and source.files[0] in error for source in STAR_SOURCES)
    assert "convert star" in error and not models.exists()
    assert cli.main(["download", "--help"]) == 0
    assert "fetched by hand: `download star` lists them" in " ".join(capsys.readouterr().out.split())


def test_dry_run_lists_and_writes_nothing(hub, fetch, models):
    hub.gated.add(FLUX)
    code, out, _ = fetch("--layout", "comfyui", "--dry-run")
    assert code == 0 and not models.exists()
    rows = [line.split() for line in out.splitlines()]
    assert rows[1] == [
        str(models / "diffusion_models/flux1-dev.safetensors"),
        "9.00",
        "kB",
        "to",
        "fetch",
    ] + [f"{FLUX}/flux1-dev.safetensors"]
    assert len(rows) == 1 + 5 + 1 and out.endswith("45.00 kB in all, 45.00 kB to fetch\n")
    assert {r.path.split("/")[1] for r in hub.requests} == {"api"}


def test_dry_run_without_a_hub_lists_what_is_known(hub, fetch, models, monkeypatch):
    """Files, sizes and folders stand in our table; the hub alone knows exact sizes and what patterns stand for."""
    (models / "vae").mkdir(parents=True)
    (models / "vae/ae.safetensors").write_bytes(b"mine")
    code, out, err = fetch("--layout", "comfyui", "--dry-run", endpoint="http://127.0.0.1:9")
    assert code == 0 and "not known: no connection to http://127.0.0.1:9" in err
    rows = [line.split() for line in out.splitlines()]
    place, gated = str(models / "diffusion_models/flux1-dev.safetensors"), f"{FLUX}/flux1-dev.safetensors"
    assert rows[1] == ["transformer", "about", "23.8", "GB", place, "to", "fetch", gated]
    assert rows[2] == [
        "vae",
        "about",
        "0.34",
        "GB",
        str(models / "vae/ae.safetensors"),
        "there",
        f"{FLUX}/ae.safetensors",
    ]
    assert rows[5][:4] == ["lora", "not", "known", str(lora_file(models))]
    assert out.endswith("about 34.19 GB in all, without lora\n") and len(rows) == 1 + 6 + 1
    assert files_in(models) == {"vae/ae.safetensors"} and hub.requests == []
    (models / "diffusers/FLUX.1-dev/vae").mkdir(parents=True)
    (models / "diffusers/FLUX.1-dev/vae/config.json").write_bytes(b"{}")
    _, out, _ = fetch("--dry-run", "--only", "vae", endpoint="http://127.0.0.1:9")
    assert "vae/*.json  " in out and [line.split()[-3:-1] for line in out.splitlines()[1:3]] == [
        ["some", "there"],
        ["to", "fetch"],
    ]
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    code, out, err = fetch("--dry-run", "--only", "vae")
    assert code == 0 and "vae/*.safetensors" in out and 'pip install "huggingface_hub>=1.0"' in err


def test_dry_run_knows_what_is_there(hub, fetch, models):
    lora_file(models).parent.mkdir(parents=True)
    lora_file(models).write_bytes(hub.repos[LORA]["adapter_model.safetensors"])
    assert "there" in fetch("--only", "lora", "--dry-run")[1].splitlines()[1].split()
    lora_file(models).write_bytes(b"mine")
    assert "another file" in fetch("--only", "lora", "--dry-run")[1]


def test_a_full_disk_is_refused_before_the_first_byte(hub, fetch, models, monkeypatch):
    usage = shutil.disk_usage(models.parent)
    free = 9000 + 300 + 9000 - 1
    monkeypatch.setattr(job.shutil, "disk_usage", lambda _: usage._replace(free=free))
    code, out, err = fetch("--only", "lora", "--only", "vae")
    assert code == 1 and out == "" and "18.30 kB are still to be fetched and 18.30 kB are free" in err
    assert not models.exists()
    free += 1
    assert fetch("--only", "lora", "--only", "vae")[0] == 0


def test_what_has_arrived_needs_no_space_again(hub, fetch, models, monkeypatch):
    usage = shutil.disk_usage(models.parent)
    monkeypatch.setattr(transfer, "RETRIES", 0)
    hub.breaks["adapter_model.safetensors"] = [5000]
    assert fetch("--only", "lora")[0] == 1
    monkeypatch.setattr(job.shutil, "disk_usage", lambda _: usage._replace(free=3999))
    assert "4.00 kB are still to be fetched" in fetch("--only", "lora")[2]
    monkeypatch.setattr(job.shutil, "disk_usage", lambda _: usage._replace(free=4000))
    assert fetch("--only", "lora")[0] == 0


def test_a_disk_that_fills_up_on_the_way(hub, fetch, models, monkeypatch):
    def full(_number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(transfer.os, "fsync", full)
    code, _, err = fetch("--only", "lora")
    assert code == 1 and f"cannot write {lora_file(models)}: No space left" in err
    assert not lora_file(models).exists()


def test_ctrl_c_keeps_what_has_arrived(hub, fetch, models, monkeypatch):
    hub.breaks["adapter_model.safetensors"] = [3000]

    def interrupt(_self, done: int) -> None:
        if done == 3000:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(job.ByteProgress, "__call__", interrupt)
        code, _, err = fetch("--only", "lora")
    assert code == 130 and "run it again to go on" in err
    assert [p.stat().st_size for p in models.rglob("*.part")] == [3000] and not lora_file(models).exists()
    hub.requests.clear()
    assert fetch("--only", "lora")[0] == 0
    assert {r.range for r in hub.transfers("adapter_model.safetensors")} == {"bytes=3000-"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--only", "settings", "--layout", "comfyui"],
            "no part settings: there are transformer, vae, clip, t5, lora",
        ),
        (["--t5", "fp8"], "--t5 fp8 has no effect"),
        (["--lora-from", "owner/repo"], "give OWNER/REPO/FILE"),
        (["--lora-from", "owner/repo/lora.bin"], "must be safetensors"),
        (["--lora-from", "a/b/c.safetensors", "--only", "vae"], "has no effect without the part lora"),
        (["--token-file", "nowhere"], "cannot read the token file nowhere: No such file"),
        (["--to", __file__], "which is a file"),
    ],
)
def test_bad_options_are_refused_before_anything_is_asked(hub, fetch, options, message):
    code, _, err = fetch(*options)
    assert code == 1 and message in err and hub.requests == []


def test_a_token_file_with_more_than_a_token(fetch, tmp_path):
    (tmp_path / "token").write_text("hf_one hf_two")
    assert "one access token and nothing else" in fetch("--token-file", str(tmp_path / "token"))[2]
    assert "give a full address" in fetch(endpoint="huggingface.co")[2]


def test_without_the_library_the_error_has_the_pip_command(fetch, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    code, _, err = fetch()
    assert code == 1 and 'pip install "huggingface_hub>=1.0"' in err


def test_the_published_archive_has_no_downloader_and_the_command_says_so(hub, fetch, monkeypatch):
    archive = archive_files()
    assert not [path for path in archive if "downloader" in path.parts]
    for path in (path for path in archive if path.suffix == ".py"):
        for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.startswith(("huggingface_hub", "urllib.request"))], (
                path
            )
    monkeypatch.setitem(sys.modules, "panodiff_core.commands.downloader", None)
    monkeypatch.delattr("panodiff_core.commands.downloader", raising=False)
    code, _, err = fetch("--layout", "comfyui", "--only", "vae")
    assert (
        code == 1
        and "this installation has no downloader" in err
        and "archive of the ComfyUI registry" in err
    )
    assert (
        f"ae.safetensors (about 0.34 GB) from https://huggingface.co/{FLUX}" in err and "models/vae/" in err
    )
    assert hub.requests == []


def test_where_to_get_names_file_origin_folder_and_command():
    text = sources.where_to_get("transformer")
    for words in (
        "flux1-dev.safetensors",
        "transformer/*.safetensors",
        f"https://huggingface.co/{FLUX} (accept its licence there first)",
        "models/diffusion_models/",
        "models/diffusers/FLUX.1-dev/",
        "python -m panodiff_core download dit360 --layout comfyui --only transformer --to models",
    ):
        assert words in text, words
    lora = sources.where_to_get("lora", "comfyui")
    assert (
        f"https://huggingface.co/{LORA}" in lora and "models/loras/DiT360/" in lora and "licence" not in lora
    )
    whole = sources.where_to_get_all()
    for words in (
        "model_index.json, scheduler, transformer, vae, text_encoder, tokenizer, text_encoder_2, tokenizer_2",
        "(about 33.7 GB)",
        f"https://huggingface.co/{FLUX} (accept its licence there first) to models/diffusers/FLUX.1-dev/",
        "python -m panodiff_core download dit360 --to models",
    ):
        assert words in whole, words
    assert sources.where_to_get("text_encoder_2/config.json") == sources.where_to_get("t5")
    assert "single file" not in sources.where_to_get("vae", "diffusers")
    with pytest.raises(InputError, match="no part of DiT360 is called 'unet'"):
        sources.where_to_get("unet")
    with pytest.raises(InputError, match="comfyui layout has no part settings"):
        sources.where_to_get("model_index.json", "comfyui")


def test_every_command_that_is_named_can_be_parsed():
    parser = cli.build_parser()
    for source in sources.SOURCES:
        line = sources.command(source.part, source.layout)
        args = parser.parse_args(line.removeprefix("python -m panodiff_core ").split())
        assert [source.part] == args.only and source.layout in (None, args.layout)
        assert line in sources.where_to_get(source.part)


def test_the_page_about_weights_has_the_whole_table():
    page = (ROOT / "docs/weights.md").read_text(encoding="utf-8")
    for source in sources.SOURCES:
        size = "not known" if source.size_gb is None else f"{source.size_gb:g} GB"
        files = ", ".join(f"`{name}`" for name in (*source.files, *source.optional))
        row = f"| {source.part} | {files} | [{source.repo}]({source.page}) | `{source.folder}/` | {size} |"
        assert row in page, row
