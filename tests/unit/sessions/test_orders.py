"""Orders are kept sealed: they come back whole, for their inspector only, and show nothing."""

from __future__ import annotations

import pytest

from qc_adapter.gateway.requests import SignInForm, SkillReset
from qc_adapter.model.session import Secret
from qc_adapter.sessions.orders import Orders, close, unseal
from qc_adapter.store.seal import Seal, Unsealable, new_key, parse_keys

FORM = SignInForm(
    Secret("pw-canary"), phone_number="40101", auto_answer=False, agent_type=11, status=3, listen_status=True
)  # fmt: skip


@pytest.mark.parametrize("skills", [None, SkillReset(False, (1, 2), True)])
def test_orders_come_back_whole(skills):
    """Every field of the sign-in is there again, and neither the seal nor its text shows the password."""
    orders, seal = Orders(FORM, force=True, skills=skills), Seal.of_this_process()
    sealed = close(seal, "north/101", orders)
    assert unseal(seal, "north/101", sealed) == orders
    assert "canary" not in sealed + repr(orders)


def test_where_events_are_pushed_to_is_not_kept():
    """The settings say it anew, and a token that was changed there is the one that counts."""
    seal = Seal.of_this_process()
    form = SignInForm(Secret("pw"), callback_uri="https://here/events", service_token=Secret("token"))
    assert unseal(seal, "101", close(seal, "101", Orders(form))).form == SignInForm(Secret("pw"))


def test_nobody_else_opens_them():
    """Another inspector, another key and a changed text are all refused; a ring of keys opens what each has sealed."""
    old, new = new_key(), new_key()
    sealed = close(Seal([old]), "101", Orders(FORM))
    assert unseal(Seal([new, old]), "101", sealed).form == FORM
    assert sealed.startswith(f"{Seal([old]).names[0]}:")
    assert unseal(Seal([old]), "101", sealed.partition(":")[2]).form == FORM  # sealed before keys had names
    for seal, agent_id, text in (
        (Seal([old]), "102", sealed),
        (Seal([new]), "101", sealed),
        (Seal([old]), "101", sealed[:-4] + "AAAA"),
        (Seal([old]), "101", "no token"),
    ):
        with pytest.raises(Unsealable):
            unseal(seal, agent_id, text)


def test_bad_keys_are_named_without_being_shown():
    """The complaint says what a key looks like."""
    with pytest.raises(ValueError, match="seal-key") as refused:
        parse_keys(f"{new_key().reveal()},s3cret")
    assert "s3cret" not in str(refused.value)
