"""Where and by whom a study is trained: settings that change no result, but for the last bits."""

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from dsaccel.config.section import Section
from dsaccel.parts import NamesPart

MAX_THREADS = 1024
MAX_WORKERS = 1024
WHO = (
    *("workers", "devices", "cluster", "scratch", "cluster_insecure"),
    *("tls_ca", "tls_cert", "tls_key", "executor", "executor_options"),
)
"""The settings of `[runtime]` that say who trains."""


class RuntimeConfig(Section):
    device: str = "auto"
    """`auto` (CUDA where present), `cpu`, `cuda` or `cuda:1`."""
    threads: int | None = Field(default=None, ge=1, le=MAX_THREADS)
    """CPU threads; None: one a core. Another count changes results in the last bits."""
    memory_mib: int | None = Field(default=None, ge=1)
    """Memory for training, in MiB, beside the images; None: nine tenths of what the device has
    free. A cohort that needs more is trained in parts, which changes no result but takes longer; a
    network that needs more alone is refused. Workers of one machine's CPU share it."""
    keep: int = Field(default=1, ge=0)
    """Of how many of the best networks weights are kept, in `weights/` beside the study, the
    winner's also as `best.safetensors`, the baseline's as `baseline.safetensors`; 0: of none."""
    all_heads: bool = False
    """Keep all heads with these weights, not those alone that the network's exit reads. `dsaccel
    train` writes all in any case."""
    curves: bool = False
    """Record after each epoch, of each unit, accuracy and loss on validation images and on as many
    training images: for `dsaccel curves`. Of references and global baselines they are recorded in
    any case. Changes no result."""
    workers: int | None = Field(default=None, ge=1, le=MAX_WORKERS)
    """Train in so many processes on the CPU. Changes no result, and no number of threads."""
    devices: str | None = None
    """Train on several GPUs, a process each: `cuda:0,cuda:1`, or `all`. Changes no result."""
    cluster: str | None = None
    """Train on the workers of a Dask cluster: the address of its scheduler, or its scheduler file.
    Changes no result."""
    scratch: str | None = None
    """With a cluster: a folder that all its machines share, for networks between two stops."""
    cluster_insecure: bool = False
    """Use a scheduler on the network that has no TLS: whoever reaches it can run any code there."""
    tls_ca: str | None = None
    """With a cluster: the file of the authority that has signed the certificates."""
    tls_cert: str | None = None
    """With a cluster: the file of our certificate."""
    tls_key: str | None = None
    """With a cluster: the file of its key."""
    executor: Annotated[str | None, NamesPart("executor")] = None
    """Who trains: `in-process`, `local` or `cluster`, or an import path. None: `cluster` or `local`
    where that, workers or devices are given, else `in-process`."""
    executor_options: dict[str, Any] = Field(default_factory=dict)
    """Options of the executor that are no settings of `[runtime]`."""

    @property
    def chosen_executor(self) -> str:
        """Who trains."""
        several = "local" if self.workers or self.devices else "in-process"
        return self.executor or ("cluster" if self.cluster else several)

    @property
    def recorded(self) -> "RuntimeConfig":
        """Without who trains, which each run says anew."""
        fields = type(self).model_fields
        return self.model_copy(
            update={name: fields[name].get_default(call_default_factory=True) for name in WHO}
        )

    @model_validator(mode="after")
    def _workers_of_one_kind(self) -> Self:
        kinds = {name: getattr(self, name) for name in ("workers", "devices", "cluster")}
        given = {name: value for name, value in kinds.items() if value is not None}
        if len(given) > 1:
            got = " and ".join(f"{name} = {value}" for name, value in given.items())
            raise ValueError(
                "must have workers (on a CPU), devices (GPUs) or a cluster, but got " + got
            )
        return self
