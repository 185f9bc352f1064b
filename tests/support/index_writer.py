"""A process of its own that writes the same documents as others do: ``python -m tests.support.index_writer``.

Takes one JSON argument with ``uri``, ``storage_options``, ``seed`` and ``rounds``. Each round writes five of
ten documents, with three, four or five chunks under a fingerprint of that name, and sometimes tidies up.
"""

import asyncio
import json
import random
import sys

from ingather.adapters.lancedb_index import LanceDbChunkIndex
from tests.support.index_entries import DIMENSIONS, TENANT, entry

NAMES = [f"shared-{n}.txt" for n in range(10)]


def document(name, chunk_count):
    texts = [f"{name} chunk {n} of {chunk_count}" for n in range(chunk_count)]
    return entry(*texts, name=name, fingerprint=f"f{chunk_count}")


async def write(uri, storage_options, seed, rounds):
    choose = random.Random(seed)
    index = LanceDbChunkIndex(uri, DIMENSIONS, storage_options)
    for _ in range(rounds):
        count = choose.choice([3, 4, 5])
        await index.upsert(TENANT, [document(name, count) for name in choose.sample(NAMES, 5)])
        print("wrote", flush=True)
        if choose.random() < 0.2:
            await index.optimize(TENANT)
    await index.close()


if __name__ == "__main__":
    asyncio.run(write(**json.loads(sys.argv[1])))
