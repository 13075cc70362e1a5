"""`reidc ablate`: the words around `reidc.ablations.run`."""
import os

from reidc.cli import Stopped, UsageError


def run(arguments):
    """The command; its tables go to stdout, what happens meanwhile to stderr."""
    from reidc import ablations, commands
    from reidc.weights import resolve_pretrained

    system, out = arguments.system.lower(), arguments.out or f"ablate-{arguments.system.lower()}"
    try:  # what was typed wrongly, before the data is opened
        ablations.choose(system, arguments.tables)
        ablations.base_recipe(system, arguments.scale, arguments.recipe, arguments.epochs,
                              arguments.settings)
    except (ValueError, TypeError) as error:
        raise UsageError(f"ablate: {error}") from None
    pretrained = arguments.pretrained and resolve_pretrained(arguments.pretrained)
    data = commands.open_data(commands.data_settings(arguments))
    try:
        found = ablations.run(
            system, data, out, scale=arguments.scale, recipe=arguments.recipe,
            tables=arguments.tables, rows=arguments.rows, seeds=arguments.seeds,
            epochs=arguments.epochs, settings=arguments.settings, pretrained=pretrained,
            threads=arguments.threads)
    except KeyboardInterrupt:
        raise Stopped(f"stopped; the runs are kept in {out}: the same command goes on") from None
    print(found)
    print(f"written: {os.path.join(out, 'ablation.md')}, {os.path.join(out, 'ablation.json')}")
