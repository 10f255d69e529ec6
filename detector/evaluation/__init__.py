"""What detections are worth: mAP, and by size, speed, event rate and time; calibration, latency, leaks of state."""
