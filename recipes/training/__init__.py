"""Training from a recipe.

loop.py               load, step, log, validate, save
recipe.py             the schema of a recipe, its loading, overrides
run.py                a run: everything that changes during training, new or resumed
step.py               one training step
batches.py            the recordings of a run and its batches
tasks.py              the contract of a task: a model with its losses, validation and checkpoint
generator_task.py     the task of a generator
f0_estimator_task.py  the task of an F0 estimator
discriminators.py     the discriminators of a run
optimization.py       optimisers, learning rates, moving average of the weights
distributed.py        ranks, microbatches, random numbers
logger.py             TensorBoard and the progress bar
saver.py, state.py    the files of a run, and the state that it resumes from
"""
