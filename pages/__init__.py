"""The dashboard's pages. Streamlit only: read the filters, ask one service or query, lay out the answer."""
