"""Settings of a site."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator

from fedpsyau_model.addresses import Address
from fedpsyau_model.devices import DEVICES, is_device
from fedpsyau_model.settings import Settings


class ClientSettings(Settings):
    """What one site needs to take part."""

    partition: str = Field(description="Name of this site in the federation, and of its data.")
    data: Path = Field(Path("data"), description="Folder that holds the partition's folder.")
    state: Path = Field(
        Path("state"), description="Folder for the site's own models, one sub-folder a partition."
    )
    priors: Path | None = Field(
        None, description="This site's own priors file, for federations that let sites use theirs."
    )
    policy: Path | None = Field(
        None, description="What the server may ask this site for; the kit folder's policy.toml."
    )
    superlink: Address = Field("127.0.0.1:9092", description="Address of the server.")
    device: str = Field("cpu", description="Where the network runs: cpu or cuda:N.")
    threads: int = Field(0, ge=0, description="CPU threads of the network; 0 leaves it to torch.")
    connect_seconds: float = Field(
        120,
        gt=0,
        description="How long the client tries to reach a server that it has not met yet; one that "
        "it has met, without end.",
    )
    carried_days: float = Field(
        30,
        gt=0,
        description="Days after which what a run without an end has left in the site's state is "
        "deleted.",
    )

    kit: Path | None = Field(
        None, description="This site's kit, a folder or an archive: TLS on, with this site's key."
    )
    insecure: bool = Field(
        False, description="Allow plaintext beyond this machine: anybody on the way can read it."
    )

    @field_validator("device")
    @classmethod
    def _device(cls, device: str) -> str:
        if not is_device(device):
            raise ValueError(f"allowed are {DEVICES}")
        return device
