"""Tests marked cuda_host compile the kernels when they are collected: a minute or two that a run
which leaves them out shall not take."""


def pytest_ignore_collect(collection_path, config):
    if "not cuda_host" in config.option.markexpr and collection_path.suffix == ".py":
        with open(collection_path, encoding="utf-8") as file:
            if "pytest.mark.cuda_host" in file.read():
                return True
    return None
