"""Lab: which law is best? Every strategy on the ledger's own requests, then made-up sessions, targets, and rewards."""

from __future__ import annotations

import streamlit as st

from pages.components import filters, lab_calibrate, lab_laws, lab_rewards, lab_sessions, session
from pages.components.session import guard

guard()

TABS = ("Made-up sessions", "Calibrate", "Rewards")

st.title("Lab", anchor=False)
ledger = session.ledger()
if ledger.as_of is None:
    filters.no_entries()
    st.subheader("Meanwhile, on made-up sessions", anchor=False)
    lab_sessions.show()
    st.stop()
if not filters.only_paced("strategies to compare"):
    st.stop()
chosen = filters.current()
lab_laws.show(chosen)
sessions, targets, rewards = st.tabs(TABS)
with sessions:
    lab_sessions.show()
with targets:
    lab_calibrate.show(chosen)
with rewards:
    lab_rewards.show(chosen)
