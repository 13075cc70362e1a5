"""With REIDC_REQUIRE_TWIN=1 (CI) comparisons with PyTorch and ONNX runtimes may not be skipped."""
import os
import signal

os.environ["REIDC_TUNE"] = "0"  # the rule: a table of this machine is no part of what is tested

import pytest


def pytest_configure(config):
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as for `make test &`; tests send it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if os.environ.get("REIDC_REQUIRE_TWIN") == "1":
        try:
            import onnx, onnxruntime, openvino, torch  # noqa: E401, F401
        except ImportError as error:
            pytest.exit(f"REIDC_REQUIRE_TWIN is set, but a peer does not import: {error}", 3)


def pytest_runtest_logreport(report):
    if os.environ.get("REIDC_REQUIRE_TWIN") == "1" and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped where it must run: {report.longrepr}"
