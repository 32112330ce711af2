"""What a site brings to a federation: its data, its priors and its own state.

All of it is checked here without torch, whose import takes seconds, so that a site whose data is
bad says so at once, and a good one can have its connection made while torch is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fedpsyau_client.local_training.site_state import SiteState
from fedpsyau_client.own_priors.priors_file import PriorsFile, read_priors_file
from fedpsyau_client.settings import ClientSettings
from fedpsyau_client.store.feature_store import FeatureStore, open_feature_store
from fedpsyau_model.devices import require_device

__all__ = ["SiteBelongings", "opened_belongings"]


@dataclass(frozen=True)
class SiteBelongings:
    """A site's settings, its open store, its locked state, and its own priors if it has any."""

    settings: ClientSettings
    store: FeatureStore
    state: SiteState
    priors: PriorsFile | None


@contextmanager
def opened_belongings(settings: ClientSettings) -> Iterator[SiteBelongings]:
    """Open a site's data and state.

    Raises DataNotFoundError, DataDamagedError or SchemaMismatchError for bad data,
    PriorsFileError for a bad file of the site's own priors,
    SettingsError for a device that is not there, NameTakenError if the site runs already.
    """
    require_device(settings.device)
    store = open_feature_store(settings.data / settings.partition)
    with SiteState(settings.state / settings.partition, settings.carried_days) as state:
        priors = read_priors_file(settings.priors) if settings.priors else None
        yield SiteBelongings(settings, store, state, priors)
