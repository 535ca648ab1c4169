"""Instructions (paper 3.3.1 and 3.4.1)."""

import re

GENERIC = "Please help generate parameters of neural networks."


def task_instruction(network: str, dataset: str) -> str:
    """I_s2 for a target and a dataset, both by their titles."""
    return (
        f"Please help generate parameters of the {network} neural network "
        f"to conduct the classification task with the {dataset} data samples."
    )


def mentions(instruction: str, title: str) -> bool:
    """Whether the title stands in it as a word or words of its own."""
    return re.search(rf"(?<!\w){re.escape(title)}(?!\w)", instruction, re.IGNORECASE) is not None
