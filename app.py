"""The dashboard: page configuration, the gate, the list of pages. Run with ``streamlit run app.py``."""

import atexit
import gc

import pandas as pd
import streamlit as st

from pages.components import filters, provenance, session, turns


def navigation():
    """The pages in their sections. An address differs from its file's name, or a cold process would run the bare file."""
    return st.navigation(
        {
            "Watch": [
                st.Page("pages/overview.py", title="Overview", icon=":material/monitor_heart:", default=True),
                st.Page(
                    "pages/burn_rate.py", title="Burn rate", icon=":material/local_fire_department:", url_path="burn"
                ),
                st.Page("pages/coverage.py", title="Coverage", icon=":material/grid_view:", url_path="library"),
                st.Page("pages/surplus.py", title="Surplus", icon=":material/balance:", url_path="pace"),
                st.Page("pages/economics.py", title="Economics", icon=":material/payments:", url_path="margins"),
                st.Page("pages/operations.py", title="Operations", icon=":material/speed:", url_path="health"),
            ],
            "Explore": [
                st.Page("pages/explore.py", title="Explore", icon=":material/explore:", url_path="question"),
            ],
            "Tune": [
                st.Page("pages/tuning.py", title="Tuning", icon=":material/tune:", url_path="controller"),
                st.Page("pages/lab.py", title="Lab", icon=":material/science:", url_path="laboratory"),
                st.Page("pages/releases.py", title="Releases", icon=":material/rocket_launch:", url_path="versions"),
            ],
            "Help": [
                st.Page("pages/users.py", title="Users", icon=":material/person_search:", url_path="people"),
                st.Page("pages/integrity.py", title="Integrity", icon=":material/verified:", url_path="trust"),
            ],
        }
    )


@st.cache_resource(show_spinner=False)
def _frozen() -> None:
    """What is loaded by now stays loaded: the collector need not look at it again (20 sessions at once: 1.5 s → 0.35 s)."""
    gc.collect()
    gc.freeze()
    # As the process ends it must look again: of what nobody freed DuckDB tells, object by object, in the log.
    atexit.register(gc.unfreeze)


if __name__ == "__main__":
    # Names are a few hundred to a frame: as Python's own they cost a tenth less of a rerun than as Arrow's.
    pd.options.mode.string_storage = "python"
    st.set_page_config(page_title="Titrate", page_icon="💧", layout="wide")
    page = navigation()
    session.gate()
    session.open_ledger()
    _frozen()
    with turns.turn():
        with session.held():
            beside = filters.bar()
        provenance.caption(beside)
        page.run()
