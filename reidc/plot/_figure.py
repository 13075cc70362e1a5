"""The figure that `reidc.plot` returns; the only module that imports matplotlib when loaded."""
import io

import matplotlib
from matplotlib.figure import Figure as Base

PRINT = 300  # dots an inch of a saved picture; on the screen it is the figure's own dpi
# Fonts that editors and reviewers accept: TrueType in PDF and PostScript, text as text in SVG.
FILES = {"pdf.fonttype": 42, "ps.fonttype": 42, "svg.fonttype": "none"}


class Figure(Base):
    """A matplotlib Figure that shows itself in a notebook and saves with embedded fonts."""

    def savefig(self, fname, *, dpi=PRINT, **options):
        """As matplotlib's; 300 dots an inch, fonts stay text in PDF, PostScript and SVG."""
        with matplotlib.rc_context(FILES):
            super().savefig(fname, dpi=dpi, **options)

    def _repr_png_(self):
        file = io.BytesIO()
        self.savefig(file, format="png", dpi=self.dpi)
        return file.getvalue()
