"""The roster: which node of the network is which site of the federation.

Sites are known by partition name. A node says its name and a random token of its state folder;
the name then belongs to that token, so a site that restarts under a new node takes its place back
at once, and a second client under the same name is refused while the first is connected. Where
keys are used, the name belongs to the node's key, and no other name is taken from that node.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass, field

from fedpsyau_model.errors import (
    JoinRefusedError,
    NameNotYoursError,
    NameTakenError,
    UnknownPartitionError,
)
from fedpsyau_model.exchange import Dismissal, Hello, Introduction, disagreement
from fedpsyau_model.foreign_text import printable

log = logging.getLogger(__name__)

#: Characters of a refusal; settings that differ can take many.
_LONGEST = 4000


@dataclass(frozen=True)
class Member:
    """A site that takes part: where it is, and what it said of itself."""

    node_id: int
    introduction: Introduction


@dataclass
class Roster:
    """Sites that may take part, and those that do."""

    hello: Hello
    sites: tuple[str, ...]
    keys: bool = False
    """Whether every node has a key that belongs to one name."""
    max_clips: int | None = None
    """Training clips that a site may claim: its weight in others' models follows from them."""
    members: dict[str, Member] = field(default_factory=dict)

    def admit(
        self,
        node_id: int,
        introduction: Introduction,
        connected: Collection[int],
        key_of: str | None = None,
    ) -> Dismissal | None:
        """Take a node in, or say why not.

        node_id: the node that sent `introduction`. connected: nodes that answer at this moment.
        key_of: the site that the node's key belongs to.
        """
        dismissal = (
            self._not_its_name(introduction, key_of)
            or self._unknown(introduction)
            or self._disagreement(introduction)
            or self._too_many_clips(introduction)
            or self._taken(node_id, introduction, connected)
        )
        if dismissal is None:
            self.members[introduction.partition] = Member(node_id, introduction)
            log.info(
                "%s joined with %d training clips", introduction.partition, introduction.train_clips
            )
            return None
        # Some of its words are the client's.
        dismissal = dismissal.model_copy(update={"reason": printable(dismissal.reason, _LONGEST)})
        log.warning("refused a client: %s", dismissal.reason)
        return dismissal

    def present(self, connected: Collection[int]) -> list[str]:
        """Names of members whose node answers, sorted."""
        return sorted(site for site, member in self.members.items() if member.node_id in connected)

    def site_of(self, node_id: int) -> str | None:
        """Name of the member at a node."""
        for site, member in self.members.items():
            if member.node_id == node_id:
                return site
        return None

    def _not_its_name(self, introduction: Introduction, key_of: str | None) -> Dismissal | None:
        if not self.keys or key_of == introduction.partition:
            return None
        return Dismissal(
            reason=f"This client says that it is {introduction.partition!r}, but its key belongs "
            f"to {key_of!r}. Start it with the kit of {introduction.partition!r}; the name comes "
            "from there, so leave --partition out.",
            exit_code=NameNotYoursError.exit_code,
        )

    def _unknown(self, introduction: Introduction) -> Dismissal | None:
        if introduction.partition in self.sites:
            return None
        return Dismissal(
            reason=f"Partition {introduction.partition!r} is not part of this federation. The "
            f"server's sites are {', '.join(self.sites)}; start the client with one of them, or "
            "ask the coordinator to add the name to --sites.",
            exit_code=UnknownPartitionError.exit_code,
        )

    def _disagreement(self, introduction: Introduction) -> Dismissal | None:
        problem = introduction.refusal or disagreement(
            self.hello.model_dump(exclude={"agreement"}),
            introduction.model_dump(),
            "server",
            introduction.partition,
        )
        if not problem:
            return None
        return Dismissal(
            reason=f"Server and {introduction.partition} do not agree on {problem}. Both sides "
            "need the same fedpsyau version and the same settings.",
            exit_code=JoinRefusedError.exit_code,
        )

    def _too_many_clips(self, introduction: Introduction) -> Dismissal | None:
        if self.max_clips is None or introduction.train_clips <= self.max_clips:
            return None
        return Dismissal(
            reason=f"{introduction.partition} claims {introduction.train_clips} training clips, "
            f"and the server takes sites of at most {self.max_clips}. If there are so many, ask "
            "the coordinator to raise [rounds] max-site-clips.",
            exit_code=JoinRefusedError.exit_code,
        )

    def _taken(
        self, node_id: int, introduction: Introduction, connected: Collection[int]
    ) -> Dismissal | None:
        holder = self.members.get(introduction.partition)
        if (
            holder is None
            or holder.node_id == node_id
            or holder.introduction.instance == introduction.instance
            or holder.node_id not in connected
        ):
            return None
        return Dismissal(
            reason=f"The name {introduction.partition} is taken: client "
            f"{holder.introduction.instance[:8]} joined under it and is connected, and this is "
            f"client {introduction.instance[:8]}. Start this client under its own partition name, "
            "or stop the other one first.",
            exit_code=NameTakenError.exit_code,
        )
