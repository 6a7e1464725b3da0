"""Training from a recipe.

recipe.py             compose a recipe of a model, its recordings and overrides; schema.py has its keys
loop.py               load, step, log, validate, save
run.py                start a run, new or resumed
batches.py            the recordings of a run and its batches
step.py               one training step
tasks.py              the contract of a task: a model with its losses, validation and checkpoint
generator_task.py     the task of a generator
f0_estimator_task.py  the task of an F0 estimator
discriminators.py     the discriminators of a run
distributed.py        ranks, microbatches, random numbers
history.py, logger.py losses of the last steps; TensorBoard and the progress bar
saver.py, state.py    the files of a run, and the state that it resumes from
reference.py          the page of all keys
"""
