"""A worker whose parsers know poison (``bench.poison``), for ``bench.poisoned_batch``; in all else the product's own."""

from functools import partial

import worker

if __name__ == "__main__":
    worker.SupervisedPreparer = partial(worker.SupervisedPreparer, prepare="bench.poison:prepare")  # type: ignore[misc, assignment]
    worker.main()
