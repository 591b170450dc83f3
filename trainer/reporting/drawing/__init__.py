"""Drawings of runs: a page with Bokeh, a picture with matplotlib."""
