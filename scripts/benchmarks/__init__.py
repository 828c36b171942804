"""The parts of `scripts/bench.py`.

    sampling    what a figure, a contender and a row of the table are; how long to measure
    machine     what this ran on; processor time and memory of a process, from /proc
    work        the functions that are measured: the same for everybody, importable by name
    ours        mrq as a contender, and what the other figures need of it
    pools       in-memory peers: multiprocessing, concurrent.futures, joblib, dask
    queues      peers on the same server: rq, huey, celery, dramatiq (their applications are the *_app modules)

    peers       figures that everybody is measured by, side by side in each round
    chunks      figures of the default settings: cheap items, uneven tasks, vectorised kernels, far workers
    starts      how long it takes until the first result
    crowd       many workers, many terms, many jobs
    faults      how soon work goes on after a death
    floor       what the server itself can do with the same commands

    report      the table and JSON
    picture     the bars

A new figure is a Figure and a function that gives its rows, in a Group that `bench.py` lists.
"""
