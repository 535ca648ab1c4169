"""Whether a field of a config counts for the identity of a step, noted beside it.

    few_shot: FewShotConfig | None = field(metadata={"identity": IF_SET})

True, as where nothing is noted: it counts. False: it does not, as where something lies. IF_SET is for a setting that
older results lack, so that they keep their identity. neurogen/study/step.py reads it.
"""

IF_SET = "if set"  # it counts where it is not null and not empty
