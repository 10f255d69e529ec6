"""All uses of undocumented parts of MLflow. A test fails if MLflow changes one of these parts."""

__all__ = ["EXPERIMENT_TAGS", "PATH_COLUMNS"]

EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""Tags of an experiment for which MLflow's pages show the training of models instead of language models."""

PATH_COLUMNS = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("source", "storage_location"),
}
"""Tables and columns of MLflow's database that contain URIs of files."""
