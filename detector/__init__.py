"""Events, boxes and the network of EvForge. Runs alone: needs neither Ray nor MLflow. Import its modules by name."""
