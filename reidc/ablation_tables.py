"""The papers' ablation tables as data: what each row switches and what was printed for it.

A row's `paper` maps a data set to (rank-1, mAP) in per cent, with None for a number that the table
does not have, or to a word where the cell cannot be read ("lost", with what the text says of
it). Readings and counts are those of the systems' pages under `spec/`; parameters are the page's,
at full size with 751 classes, None where it prints none.
"""
from typing import NamedTuple

MARKET, DUKE, CUHK = "Market-1501", "DukeMTMC-reID", "CUHK03 labelled"
CROSS = "Duke→Market", "Market→Duke"  # trained on one, tested on the other


class Row(NamedTuple):
    key: str  # the same for rows that are the same run: switches and training agree
    label: str
    switches: dict  # keywords of the system's class; the others have their defaults
    paper: dict
    parameters: int = None
    # beside the switches. tricks=False: no erasing, no smoothing, the full rate from the start;
    # triplet=False: the identity loss alone
    training: dict = {}


class Table(NamedTuple):
    number: str  # the paper's; two that make one are joined by "/"
    title: str
    rows: tuple
    note: str = ""
    inference: bool = False  # parameters count what inference needs

    @property
    def columns(self):
        """The data sets, in the paper's order."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row.paper))


def _market(rank1, mAP):
    return {MARKET: (rank1, mAP)}


def _both(market, duke):
    return {MARKET: market, DUKE: duke}


# ---- MBGN, Market-1501 and CUHK03 --------------------------------------------------------------

_B = dict(branch_g=False, segmentation="uniform", strategy="F", structure=False, attention=None)
_AABS = {**_B, "segmentation": "aabs"}


def _modules(k, rank1, mAP):
    return Row(f"modules-{k}", f"k = {k}",
               dict(branch_l=False, structure=False, num_attention=k), {CUHK: (rank1, mAP)})


MBGN = (
    Table("2", "Components", (
        Row("baseline", "Baseline (ResNet-50 + PCB)", _B, _market(92.2, 82.0), 27_814_874),
        Row("g", "Baseline + G", {**_B, "branch_g": True}, _market(93.1, 83.3), 28_532_681),
        Row("aabs", "Baseline + AABS", _AABS, _market(93.5, 83.8), 27_814_874),
        Row("gsrpa", "Baseline + GSRPA", {**_B, "attention": "gsrpa"}, _market(95.4, 91.6),
            43_792_998),
        Row("cbam", "Baseline + CBAM-S", {**_B, "attention": "cbam"}, _market(94.8, 85.6),
            27_815_274),
        Row("full", "MBGN", {}, _market(96.5, 92.3), 45_564_979))),
    Table("3", "Fusion strategy", (
        Row("baseline", "PCB", _B, _market(90.4, 74.6), 27_814_874),
        Row("aabs", "AABS + PCB", _AABS, _market(90.8, 76.1), 27_814_874),
        Row("m", "AABS + M", {**_AABS, "strategy": "M"}, _market(90.0, 75.4)),
        Row("m-f", "AABS + M + F", {**_AABS, "strategy": "M+F"}, _market(92.8, 81.0)),
        Row("m-c", "AABS + M + C", {**_AABS, "strategy": "M+C"}, _market(87.2, 69.3)),
        Row("mgn", "MGN", {**_B, "strategy": "MGN"}, _market(91.3, 78.7))),
        note="The paper prints other numbers for the first two rows here than in its table 2, "
             "for what it calls the same networks."),
    Table("4", "Plain ResNet-50 with k GSRPA modules", (
        _modules(1, 76.2, 73.3), _modules(2, 77.1, 74.0), _modules(3, 78.3, 74.2),
        _modules(4, 79.2, 75.4))),
)

# ---- MFA: the tables print rank-1 only; most cells are lost ------------------------------------

_ALONE = dict(local_branches=False, gla=False)


def _rank1(market, duke):
    return _both((market, None), (duke, None))


def _lost(said):
    return _both(f"lost; {said}", f"lost; {said}")


_MFA_BASELINE = Row("baseline", "Baseline", {"cpaa": (), **_ALONE}, _rank1(93.6, 85.1), 23_512_128)
MFA = (
    Table("2", "Position of CPAA", (
        _MFA_BASELINE._replace(label="1 Baseline"),
        Row("cpaa-2", "2 + layer 2", {"cpaa": (2,), **_ALONE}, _lost("above row 1"), 23_611_074),
        Row("cpaa-23", "3 + layers 2, 3", {"cpaa": (2, 3), **_ALONE},
            _lost("gains more than row 2 did"), 24_005_572),
        Row("cpaa", "4 + layers 2, 3, 4", _ALONE, _rank1(95.2, 86.8), 25_580_998)),
        inference=True),
    Table("3", "Modules", (
        _MFA_BASELINE,
        Row("cpaa", "+ CPAA", _ALONE, _rank1(95.2, 86.8), 25_580_998),
        Row("branches", "+ branches", dict(cpaa=(), gla=False),
            _lost('"no significant" change'), 26_229_828),
        Row("cpaa-branches", "+ CPAA + branches", dict(gla=False),
            _lost("near the row + CPAA"), 28_298_698),
        Row("branches-gla", "+ branches + GLA", dict(cpaa=()), _lost("above + branches"),
            26_229_828),
        Row("full", "all (MFA)", {}, _rank1(95.8, 90.1), 28_298_698)), inference=True),
)

# ---- HAMR --------------------------------------------------------------------------------------

_STAGE4 = dict(stages=(4,), order="F")
_IDE = {**_STAGE4, "local": "none", "mpfe": False}
_PLAIN = dict(tricks=False, triplet=False)  # how its baseline trains
_HAMR_BASELINE = Row("baseline", "baseline", _IDE, {}, 24_942_144, _PLAIN)
_HAMR_TRICKS = Row("tricks", "+ bag of tricks", _IDE, {}, 24_942_144, dict(triplet=False))
_BMM = Row("bmm", "BMM", _STAGE4, {}, 56_387_648)
_FULL = Row("full", "S+©+C", {}, {}, 77_498_824)


def _four(market, duke, duke_market, market_duke):
    return {**_both(market, duke), CROSS[0]: duke_market, CROSS[1]: market_duke}


def _duke(rank1, mAP):
    return {DUKE: (rank1, mAP)}


def _stages(stages, market, duke, parameters):
    return Row("stages-" + "".join(map(str, stages)), "stages " + ", ".join(map(str, stages)),
               dict(stages=stages), _both(market, duke), parameters)


HAMR = (
    Table("6/8", "Components, one after another", (
        _HAMR_BASELINE._replace(paper=_four((88.1, 71.1), (79.2, 63.7), (33.43, 12.65),
                                            (19.61, 9.19))),
        _HAMR_TRICKS._replace(paper=_four((92.3, 81.9), (85.1, 69.5), (41.21, 17.13),
                                          (30.48, 15.95))),
        Row("mpfe", "+ MPFE", {**_STAGE4, "local": "none"},
            _four((93.4, 83.4), (86.6, 73.5), (42.31, 18.90), (34.07, 18.22)), 25_073_728),
        _BMM._replace(label='+ MGO ("BMM")', paper=_four((94.7, 86.5), (88.6, 77.9),
                                                         (51.15, 24.68), (39.86, 23.01))),
        Row("sf", "+ SAM", dict(order="SF"), _four((95.3, 87.2), (89.2, 78.1), (51.98, 25.16),
                                                   (40.79, 23.96)), 75_655_624),
        _FULL._replace(label="+ CAM", paper=_four((95.7, 87.7), (90.2, 80.2), (54.33, 26.43),
                                                  (42.52, 25.37))))),
    Table("7", "The baseline and one component", (
        _HAMR_BASELINE._replace(paper=_duke(79.2, 63.7)),
        _HAMR_TRICKS._replace(label="tricks", paper=_duke(85.1, 69.5)),
        Row("one-mgo", "MGO", {**_IDE, "local": "mgo"}, _duke(84.9, 69.5), None, _PLAIN),
        Row("one-mpfe", "MPFE", {**_IDE, "mpfe": True}, _duke(83.6, 71.2), 25_073_728,
            dict(tricks=False)),
        Row("one-sam", "SAM", {**_IDE, "order": "SF"}, _duke(84.3, 72.3), None, _PLAIN),
        Row("one-cam", "CAM", {**_IDE, "order": "CF"}, _duke(85.1, 72.8), None, _PLAIN),
        _FULL._replace(label="all with MGO", paper=_duke(90.2, 80.2)),
        Row("pcb", "all with PCB", dict(local="pcb"), _duke(88.7, 79.5), 40_250_824)),
        note="Which component the third to sixth row have is read from the order of the rows; "
             "the marks are lost."),
    Table("9", "Order of the attention modules", (
        _BMM._replace(paper=_market(94.7, 86.5)),
        Row("bmm-s", "+S", {**_STAGE4, "order": "SF"}, _market(94.9, 86.6), 56_387_746),
        Row("bmm-c", "+C", {**_STAGE4, "order": "CF"}, _market(95.1, 86.9), 56_911_936),
        Row("fcs", "©+C+S", dict(order="FCS"), _market(94.8, 86.7), 77_498_530),
        Row("csf", "C+S+©", dict(order="CSF"), _market(95.3, 86.2), 76_351_944),
        Row("cfs", "C+©+S", dict(order="CFS"), _market(95.3, 87.2), 76_351_650),
        Row("fsc", "©+S+C", dict(order="FSC"), _market(95.0, 86.9), 77_498_530),
        Row("scf", "S+C+©", dict(order="SCF"), _market(95.5, 87.2), 76_351_944),
        _FULL._replace(paper=_market(95.7, 87.7))), note="© is the fusion of the stages."),
    Table("10", "Stages", (
        _stages((1,), (84.80, 63.67), (74.69, 55.67), 13_845_666),
        _stages((2,), (90.62, 76.02), (82.50, 67.56), 17_842_338),
        _stages((3,), (93.89, 83.43), (87.93, 75.36), 30_544_034),
        _stages((4,), (93.72, 86.05), (88.63, 77.47), 56_912_034),
        _stages((1, 2), (90.80, 76.06), (82.23, 68.00), 20_635_908),
        _stages((1, 2, 3), (94.42, 85.85), (88.33, 76.09), 39_072_102),
        _stages((2, 3, 4), (95.24, 86.93), (88.78, 78.01), 74_508_646),
        _FULL._replace(label="all", paper=_both((95.65, 87.67), (90.17, 80.16)))),
        note="Stage 4 alone with attention has 95.1 in the paper's table 9 and 93.7 here."),
)

# ---- MGAF: the page's columns are mAP, rank-1; here rank-1, mAP as everywhere -------------------

_SMALL = dict(medium=False, large=False)
MGAF = (
    Table("1/2", "Branches and attention", (
        Row("baseline", "Baseline", {**_SMALL, "attention": False},
            _both((90.08, 76.37), (83.30, 67.58)), 24_225_839),
        Row("att", "Baseline + L_att", _SMALL, _both((91.12, 78.60), (83.42, 68.70)), 32_618_543),
        Row("medium", "Baseline + L2", dict(large=False, attention=False),
            _both((94.18, 85.60), (83.80, 69.70)), 48_442_364),
        Row("medium-large", "L2 + L3", dict(small=False, attention=False),
            _both((94.27, 86.24), (84.07, 71.09)), 50_595_785),
        Row("branches", "Baseline + L2 + L3", dict(attention=False),
            _both((94.71, 87.28), (88.29, 78.49)), 73_376_696),
        Row("full", "full", {}, _both((95.82, 88.42), (88.83, 78.86)), 98_554_808))),
)

# ---- FSAC: its table 2 is read as Market-1501 throughout, as its text has it --------------------

FSAC = (
    Table("2/1", "Modules", (
        Row("baseline", "Baseline (ResNet50-IBN-a)", dict(mhsa=False, eca=False, fusion=False),
            _both((82.4, 71.7), "none given"), 25_046_831),
        Row("sam", "Baseline + SAM", dict(eca=False, fusion=False),
            _both((89.6, 76.3), "none given"), 18_001_199),
        Row("sam-fusion", "Baseline + SAM + Feature Fusion", dict(eca=False),
            _both((92.7, 81.5), "none given"), 19_154_735),
        Row("full", "Our Method (table 1)", {}, _both((94.8, 82.4), (84.5, 65.9)), 19_154_760))),
)

TABLES = {"mbgn": MBGN, "mfa": MFA, "hamr": HAMR, "mgaf": MGAF, "fsac": FSAC}
