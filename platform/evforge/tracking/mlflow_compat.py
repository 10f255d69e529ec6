"""All uses of undocumented parts of MLflow. A test fails if MLflow changes one of these parts."""

__all__ = ["EXPERIMENTS_PAGE", "PATH_COLUMNS"]

EXPERIMENTS_PAGE = "#/experiments?workflowType=machine_learning"
"""Address of the list of experiments in MLflow's pages. Without the option, they show language models at first."""

PATH_COLUMNS = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("source", "storage_location"),
}
"""Tables and columns of MLflow's database that contain URIs of files."""
