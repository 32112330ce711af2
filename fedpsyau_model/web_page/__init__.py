"""Self-contained HTML pages: their frame, their look, and charts as inline SVG.

Server and client fill the same frame, each with a template of its own (`page.render_page`).
"""
