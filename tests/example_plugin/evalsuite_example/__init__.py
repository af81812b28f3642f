"""A task and a metric, installed as a package of their own."""

from evalsuite import Example, Metric, Splits, Task

WORDS = {"rain": ("wet", "umbrella", "cloud"), "sun": ("dry", "hat", "blue")}


def load(options, cache):
    def documents(split, count):
        for row in range(count):
            label = row % 2
            first, second, third = list(WORDS.values())[label]
            yield Example(f"{split}-{row}", f"{first} {second} day {row % 7} {third}", (label,))

    sizes = {"train": 40, "validation": 20, "test": 20}
    return Splits(tuple(WORDS), **{split: list(documents(split, count)) for split, count in sizes.items()})


def evalsuite_register_tasks():
    return [Task("weather", load, description="rain or sun")]


def evalsuite_register_metrics():
    return [
        Metric("rain_share", lambda gold, predicted, _: float(predicted[:, 0].mean()), description="predicted rain")
    ]
