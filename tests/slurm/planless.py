"""An ordinary Hydra program, without a plan."""

import os

import hydra
from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path=None)
def main(config: DictConfig) -> int:
    print("JOB", os.environ.get("SLURM_JOB_ID"), config.number, flush=True)
    return int(config.number)


if __name__ == "__main__":
    main()
