# The workflow: one rule a notebook. A rule depends on the hash of the notebook's code cells and on what changes numbers (see
# strokelib/pipeline.py), never on the notebook's file: outputs written back into it rerun nothing. All paths are below runs/.
from strokelib import pipeline

run = pipeline.Run.from_config(config)


rule all:
    default_target: True
    input:
        [run.stamp(name) for name in run.targets],


for step in pipeline.STEPS:

    rule:
        name:
            f"nb_{step.name}"
        input:
            [run.stamp(need) for need in step.needs],
        output:
            run.stamp(step.name),
        params:
            fingerprint=run.fingerprint(step),
            command=run.command(step),
        priority: step.priority
        threads: max(step.cores, step.threads)
        shell:
            "{params.command}"
