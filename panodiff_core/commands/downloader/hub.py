"""What is asked of a hub: which files a repository has, and their bytes. Its refusals become plain sentences."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from ...runtime.errors import PanoDiffError

TIMEOUT_S = 30.0
OLDEST = 1
INSTALL = 'pip install "huggingface_hub>=1.0"'
_RETRYABLE = {408, 429, 500, 502, 503, 504}


class DownloadError(PanoDiffError):
    """A file cannot be fetched: no access, not there, not reachable, no space, or not what was announced."""


class Unreachable(DownloadError):
    """The hub could not be asked: no network, switched off, or no library to ask with."""


class Interrupted(Unreachable):
    """A transfer or its server failed in a way that may pass; asking again can help. `reason` leaves the way out
    away.
    """

    def __init__(self, reason: str, way_out: str) -> None:
        super().__init__(f"{reason} {way_out}")
        self.reason = reason


@dataclass(frozen=True)
class RemoteFile:
    """One file at one commit, with what the hub says of its content: `sha256` for large files, else the git
    blob's id.
    """

    repo: str
    commit: str
    path: str
    size: int
    sha256: str | None
    blob_id: str | None

    @property
    def checksum(self) -> str:
        """What `digest` must give in the end, in hexadecimal."""
        return self.sha256 or self.blob_id

    def digest(self):
        """A fresh hashlib object; feed it the file's bytes and compare with `checksum`."""
        if self.sha256:
            return hashlib.sha256()
        # git's id of a blob: SHA-1 over a header with the size, then the content.
        return hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)


def check_library() -> None:
    """Raises Unreachable with the pip command when huggingface_hub is missing or too old."""
    try:
        import huggingface_hub
    except ModuleNotFoundError as error:
        if error.name != "huggingface_hub":
            raise
        raise Unreachable(
            f"the Python package huggingface_hub is missing, which downloads need; run: {INSTALL}"
        ) from None
    version = huggingface_hub.__version__
    if int(version.split(".")[0]) < OLDEST:
        raise Unreachable(f"huggingface_hub {version} is too old; run: {INSTALL}")


class Hub:
    """One hub and the token it is asked with.

    `endpoint` None: what HF_ENDPOINT says, else huggingface.co. `token` None: HF_TOKEN, or what `hf auth login`
    stored. Raises Unreachable when huggingface_hub is missing or too old.
    """

    def __init__(self, endpoint: str | None = None, token: str | None = None) -> None:
        check_library()
        from huggingface_hub import HfApi

        self._api = HfApi(endpoint=endpoint.rstrip("/") if endpoint else None, token=token)
        self.endpoint: str = self._api.endpoint
        self._token = token

    def files(self, repo: str) -> dict[str, RemoteFile]:
        """All files of a repository's main branch, by path. Raises DownloadError."""
        with self._plain_words(repo):
            info = self._api.model_info(repo, revision="main", files_metadata=True, timeout=TIMEOUT_S)
        return {
            each.rfilename: RemoteFile(
                repo, info.sha, each.rfilename, each.size, each.lfs and each.lfs.sha256, each.blob_id
            )
            for each in info.siblings or ()
        }

    def check_access(self, file: RemoteFile) -> None:
        """Ask for the head of a file. Raises DownloadError when its bytes would be refused."""
        from huggingface_hub import get_hf_file_metadata

        with self._plain_words(file.repo, file.path):
            get_hf_file_metadata(self._address(file), token=self._token, timeout=TIMEOUT_S)

    @contextlib.contextmanager
    def stream(self, file: RemoteFile, start: int) -> Iterator[tuple[int, Iterator[bytes]]]:
        """The bytes of a file from `start`, as (where they really start, chunks): 0 where the server does not
        resume. Raises Interrupted or DownloadError, also while the chunks are read.
        """
        from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

        # Compressed in transit, a file could be neither resumed nor measured.
        headers = {**build_hf_headers(token=self._token), "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        with (
            self._plain_words(file.repo, file.path),
            get_session().stream("GET", self._address(file), headers=headers, timeout=TIMEOUT_S) as response,
        ):
            hf_raise_for_status(response)
            resumed = response.status_code == 206
            # Chunks as they come: collected into larger ones, the last of them would be lost with the connection.
            yield (start if resumed else 0), response.iter_bytes()

    def _address(self, file: RemoteFile) -> str:
        from huggingface_hub import hf_hub_url

        return hf_hub_url(file.repo, file.path, revision=file.commit, endpoint=self.endpoint)

    @contextlib.contextmanager
    def _plain_words(self, repo: str, path: str | None = None) -> Iterator[None]:
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

        # The HTTP library's base error, whichever library this version of huggingface_hub is built on.
        transport = HfHubHTTPError.__bases__[0]
        try:
            yield
        except OfflineModeIsEnabled:
            raise Unreachable(
                "downloads are switched off: HF_HUB_OFFLINE is set; unset it and run the command again."
            ) from None
        except HfHubHTTPError as error:
            raise self._refusal(error, repo, path) from error
        except transport as error:
            raise Interrupted(
                f"no connection to {self.endpoint} ({type(error).__name__}: {error}).",
                "Check the network and the proxy, or name a mirror with HF_ENDPOINT or --endpoint; the same command "
                "continues where it stopped.",
            ) from error
        except HFValidationError as error:
            raise DownloadError(f"{repo!r} is no repository name: {error}") from error
        except ValueError as error:
            raise Unreachable(
                f"{self.endpoint} does not answer like a hub ({error}): is it a login page of the network, or a wrong "
                "HF_ENDPOINT or --endpoint?"
            ) from error

    def _refusal(self, error: Exception, repo: str, path: str | None) -> DownloadError:
        from huggingface_hub.errors import GatedRepoError

        status = error.response.status_code
        what = f"{path} of {repo}" if path else repo
        if isinstance(error, GatedRepoError) or status in (401, 403):
            return DownloadError(self._no_access(what, repo, status))
        if status == 404:
            return DownloadError(
                f"{self.endpoint} has no {what} (404): it was moved or renamed. The table of sources is "
                "panodiff_core/engines/dit360/checkpoint/sources.py; for the LoRA, --lora-from OWNER/REPO/FILE names another."
            )
        if status in _RETRYABLE:
            return Interrupted(
                f"{self.endpoint} answers {status} for {what}.", "Wait a little and run it again."
            )
        return DownloadError(f"{self.endpoint} answers {status} for {what}: {str(error).strip()}")

    def _no_access(self, what: str, repo: str, status: int) -> str:
        from huggingface_hub import get_token

        sent = (
            "the token that was sent has no access (a fine-grained token needs the permission for public gated "
            "repositories)"
            if self._token or get_token()
            else "no token was sent"
        )
        return (
            f"{self.endpoint} refuses {what} ({status}): {sent}. Log in at {self.endpoint}/{repo}, accept the "
            "licence on that page, make a read token of the same account, and give it with --token-file FILE, "
            "HF_TOKEN or `hf auth login`. (A repository that does not exist is refused in the same words.)"
        )
