"""Events, boxes and the network of EvLab. Runs alone: needs neither Ray nor MLflow. Import its modules by name."""
