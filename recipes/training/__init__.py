"""Training from a recipe.

loop.py               load, step, log, validate, save
recipe.py             the schema of a recipe, its loading, overrides
run.py                a run: all that changes while training, new or resumed
step.py               one training step
batches.py            the recordings of a run and its batches
tasks.py              the contract of what is trained; generator_task.py and f0_estimator_task.py
discriminators.py     the discriminators of a run
optimization.py       optimisers, learning rates, moving average of the weights
distributed.py        ranks, microbatches, random numbers
logger.py             TensorBoard and the progress bar
saver.py, state.py    the files of a run, and the state that it resumes from
"""
