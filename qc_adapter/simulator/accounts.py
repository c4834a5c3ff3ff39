"""Before a sign-in: whether the account may come in, and what its password is still worth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from qc_adapter.simulator.replies import Reply, refused

if TYPE_CHECKING:
    from qc_adapter.simulator.agents import Agent
    from qc_adapter.simulator.roster import Roster
    from qc_adapter.simulator.settings import SimulatorSettings
    from qc_adapter.simulator.sign_in_form import SignInForm

LIMIT_MESSAGE: Final = "The number of login agents has exceeded that permitted for this VDN."


class Accounts:
    """Judges who signs in: password, lock, phone number, the limit of the site."""

    def __init__(self, settings: SimulatorSettings, roster: Roster) -> None:
        self._settings = settings
        self._roster = roster

    def refusal(self, agent: Agent, form: SignInForm) -> Reply | None:
        """Return the refusal of this sign-in, or None when it may go on."""
        if agent.locked:
            return refused("110-016")
        if not agent.exists:
            return refused("100-004")
        if agent.password is not None and form.password != agent.password:
            return refused(self._wrong_password(agent))
        agent.wrong_passwords = 0
        if self._settings.phone_number_required and not form.phone_number:
            return refused("100-001")
        if agent.password_expired:
            return refused("100-020")
        limit = self._settings.sign_in_limit
        if limit is not None and agent.sign_in is None and self._roster.signed_in_count() >= limit:
            return Reply(self._settings.sign_in_limit_code, LIMIT_MESSAGE, result="")
        return None

    def _wrong_password(self, agent: Agent) -> str:
        """Count wrong passwords in a row; the one that fills the measure still gets the usual refusal."""
        agent.wrong_passwords += 1
        limit = self._settings.wrong_passwords_until_lock
        agent.locked = limit is not None and agent.wrong_passwords >= limit
        return "100-004"
