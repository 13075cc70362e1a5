"""Figures for a notebook or a paper, one call each; a matplotlib Figure comes back.

    overlay     heat maps over pictures: people in rows, systems or layers in columns
    attention   a network's own attention maps over pictures
    parts       the horizontal parts that a network reads, drawn on the person
    ranking     queries and what was found for them, right and wrong framed
    cmc         CMC curves of one or several evaluations
    training    losses and tests of one or several runs
    sheet       people of a data set

    figure = reidc.plot.cmc({"MBGN": a, "HAMR": b})
    figure.savefig("cmc.pdf")

matplotlib is loaded by the first call and not before (`pip install 'reidc[plot]'`). Figures are
made without pyplot: no window, no backend, nothing to close. A notebook shows one that is the last
line of a cell; `figure.savefig` takes every format of matplotlib's, `figure.axes` are there to
change. Sizes are inches: `width` 3.5 fits a column, 7 a page. Letters are of 7 to 9 points in the
font of matplotlib's rcParams. Colours are those of Okabe and Ito, which colour-blind readers tell
apart; lines, frames and captions differ in shape and marks, too, so that grey prints read as well.
"""
from reidc.plot.curves import cmc, training
from reidc.plot.maps import attention, overlay, parts
from reidc.plot.people import ranking, sheet

__all__ = ["attention", "cmc", "overlay", "parts", "ranking", "sheet", "training"]


def __dir__():
    return sorted(__all__)
