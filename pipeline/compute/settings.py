"""The section ``compute`` of params.yaml."""

from typing import Literal

from pydantic import NonNegativeInt, PositiveInt

from pipeline.common.settings import Section


class ComputeSection(Section):
    """Processes, machines and GPUs. No stage depends on them: DVC reruns nothing for a change.

    Attributes:
        engine: where videos are decoded, clips are cut and folders are predicted: ``local``,
            in processes of this machine, or ``ray``, on the machines of a Ray cluster.
        address: of the Ray cluster, as in ``10.0.0.5:6379``. ``""``: a cluster is started on this
            machine for the duration of the command.
        workers: number of decoder processes; 0 for one per core of the machine or cluster.
        train_workers: number of processes that train one model together, on the Ray cluster;
            1 trains in the process of the stage.
        gpus: how many GPUs of a machine a training process uses, ``one`` or ``all``.
    """

    engine: Literal["local", "ray"] = "local"
    address: str = ""
    workers: NonNegativeInt = 0
    train_workers: PositiveInt = 1
    gpus: Literal["one", "all"] = "one"

    @property
    def has_replicas(self) -> bool:
        """Return whether several replicas of a model train together."""
        return self.train_workers > 1 or self.gpus == "all"
