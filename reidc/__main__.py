"""`python -m reidc` and the command `reidc`."""


def main(argv=None):
    """Run the command line; the exit status: 0 done, 1 failed, 2 wrong use, 130 stopped."""
    from reidc.cli import run

    return run(argv)


if __name__ == "__main__":
    raise SystemExit(main())
