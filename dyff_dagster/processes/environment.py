"""The environment of a child: what it needs to run at all, and nothing that could be a secret."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

HARMLESS_NAMES = frozenset(
    {
        "PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TEMP", "TMP",
        "VIRTUAL_ENV", "CONDA_PREFIX", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH",
        "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR",
        "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_DATASETS_CACHE", "HF_DATASETS_OFFLINE",
        "TRANSFORMERS_CACHE", "TRANSFORMERS_OFFLINE", "TORCH_HOME", "TRITON_CACHE_DIR", "NLTK_DATA",
        "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "OMP_NUM_THREADS", "MKL_NUM_THREADS",
        "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "TOKENIZERS_PARALLELISM",
        "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
    }
)  # fmt: skip
"""Variables passed on by their full name. Proxies are not among them: their URLs often carry a password."""

HARMLESS_PREFIXES = ("LC_", "CUDA_", "NVIDIA_", "NCCL_")
"""Families passed on, except for members whose name says that they are secret (``NVIDIA_API_KEY``)."""

_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL|AUTH", re.IGNORECASE)


def clean_environment(extra: Mapping[str, str] | None = None, keep: Iterable[str] = ()) -> dict[str, str]:
    """An environment for a child, made from an allow-list of this process's variables.

    :param extra: variables to set; they win over everything else.
    :param keep: names of further variables to pass on, where this process has them.
    """
    kept = frozenset(keep)
    environment = {name: value for name, value in os.environ.items() if name in kept or _is_harmless(name)}
    environment.update(extra or {})
    return environment


def _is_harmless(name: str) -> bool:
    if name in HARMLESS_NAMES:
        return True
    return name.startswith(HARMLESS_PREFIXES) and not _SECRET.search(name)
