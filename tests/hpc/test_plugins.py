"""Without a plan the launchers are ordinary ones: Hydra's own tests of launchers, on submitit's local executor."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hydra import version
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.test_utils.launcher_common_tests import LauncherTestSuite

from hydra_plugins.neurogen_launcher import StudyLocalLauncher


@pytest.fixture(autouse=True)
def as_hydras_tests_expect() -> Iterator[None]:
    """They change into a job's folder, as Hydra 1.1 did; and what they leave in its singletons is taken back."""
    before = Singleton.get_state()
    Plugins.instance().register(StudyLocalLauncher)
    version.setbase("1.1")
    yield
    Singleton.set_state(before)


@pytest.mark.filterwarnings("ignore")  # that 1.1 is old
@pytest.mark.parametrize(("launcher_name", "overrides"), [("study_local", ["hydra.launcher.timeout_min=5"])])
class TestWithoutAPlan(LauncherTestSuite):
    pass
