"""Many captures, each from photos to exports as one job: `neural3d batch`.

book.py: what is to be done and how far it is, DIR/batch.json · needs.py: what a job takes, what a machine has ·
work.py: one job, as commands in processes of their own, wherever it runs · queue.py: who starts when, and what becomes
of failures · local.py, cluster.py: the two places where jobs run, this machine and a Ray cluster.
"""
